//! `make mutants`: plants one bug after the other in the server and the log, and runs the check that must notice it.
//! Ends with `N of N caught`; status 1 when a bug goes unnoticed, or when a check fails without any bug. `make mutants
//! BUG=Gap` plants only the bugs whose names contain this word.
//!
//! Bugs are patches in `src/tests/mutants/`. All of them are applied to one copy of the tree, each guarded by a switch,
//! so that one build has every bug and each process at most one of them: the one that `PLANTED_BUG` names. The sources
//! themselves contain none of this, and the build of the copy shares its dependencies with the others.
//!
//! To add a bug:
//!
//! 1. Take out a mechanism, wherever it is, if `crate::mutants::is_planted("NameOfTheBug")`. That function comes with
//!    `00-switch.patch`, which has to be applied for the sources to build meanwhile.
//! 2. Put the change (`git diff -U2 -- src/wal`) into `src/tests/mutants/`, under a name that says what it is about,
//!    after these lines:
//!
//!    ```text
//!    Bug: NameOfTheBug
//!    Caught by: unit wal::tests::swarm
//!    What the bug is, and which mechanism it takes out, in one sentence.
//!    ```
//!
//!    What catches it is `unit` or `integration` with words from the path of tests, or `plan` with a plan of
//!    `make torture` and its cycles. The quicker the better. A check that does not end within a minute has not noticed
//!    the bug: a test must not wait for ever for what the bug prevents.
//! 3. Undo the change in the sources, and run `make mutants BUG=NameOfTheBug`.
//!
//! Patches are applied in the order of their names, each to the result of the ones before it. Two patches may change
//! one file, but not the lines around each other's changes. If a patch no longer applies, this program and the tests
//! name it and say what to do, and nothing is planted.

#![allow(clippy::print_stdout, reason = "what it finds out goes there")]

mod mutants;
mod nested_cargo;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use mutants::{Check, Mutant};
use nested_cargo::forget_package;

/// A check that takes longer has not noticed the bug.
const CHECK_TIME_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The parts of the tree that the build and the checks need.
const NEEDED: [&str; 9] = [
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "Makefile",
    "README.md",
    "benches",
    "build.rs",
    "migrations",
    "src",
];

fn main() -> ExitCode {
    let wanted = env::args().nth(1).unwrap_or_default();
    let (mut mutants, copy) = match prepare() {
        Ok(prepared) => prepared,
        Err(reason) => {
            println!("mutants: {reason}");
            return ExitCode::FAILURE;
        }
    };
    mutants.retain(|mutant| mutant.bug.contains(&wanted));
    let mut built = copy.cargo(&["--no-run", "--lib", "--test", "integration", "--test", "torture"]);
    if !built.status().expect("cargo starts").success() {
        return ExitCode::FAILURE;
    }
    // A check that fails without a bug proves nothing about bugs.
    let mut is_sound = BTreeMap::new();
    for Mutant { check, .. } in &mutants {
        is_sound.entry(check).or_insert_with(|| {
            let outcome = copy.run(check, None);
            let passed = outcome.status == Some(true);
            println!("without a bug: {check} {}", outcome.words());
            if !passed {
                println!("{}", outcome.output);
            }
            passed
        });
    }
    let mut missed = Vec::new();
    for Mutant { bug, check } in &mutants {
        let outcome = copy.run(check, Some(bug));
        let is_caught = is_sound[check] && outcome.status == Some(false);
        let verdict = if is_caught { "caught by" } else { "MISSED by" };
        println!("{bug}: {verdict} {check}, {}", outcome.words());
        if !is_caught {
            println!("{}", outcome.output);
            missed.push(format!("{bug} by {check}"));
        }
    }
    // Repeated at the end: a log of a run may keep only the last lines.
    for missed in &missed {
        println!("missed: {missed}");
    }
    println!("{} of {} caught", mutants.len() - missed.len(), mutants.len());
    if missed.is_empty() && !mutants.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Makes the copy with all bugs, and the list of them.
fn prepare() -> Result<(Vec<Mutant>, Copy), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patches = mutants::read(root)?;
    let patched = mutants::apply(root, &patches)?;
    let bugs = patches.into_iter().filter_map(|patch| patch.mutant);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let target = target.expect("a directory of the target directory");
    let copy = Copy {
        tree: target.join("mutants/tree"),
        target: target.to_owned(),
    };
    match copy.bring_up_to_date(root, &patched) {
        Ok(()) => Ok((bugs.collect(), copy)),
        Err(error) => Err(format!("{}: {error}", copy.tree.display())),
    }
}

/// A copy of the tree.
struct Copy {
    tree: PathBuf,
    /// Build directory of the original tree: its builds of dependencies serve the copy too.
    target: PathBuf,
}

impl Copy {
    /// Makes the copy equal to the original, except for these files. Files that are already equal stay untouched, so
    /// that they are not built again.
    fn bring_up_to_date(&self, root: &Path, patched: &BTreeMap<PathBuf, String>) -> io::Result<()> {
        let wanted = files_of(root)?;
        if self.tree.exists() && !files_of(&self.tree)?.is_subset(&wanted) {
            fs::remove_dir_all(&self.tree)?;
        }
        for path in wanted {
            let bytes = match patched.get(&path) {
                Some(text) => text.clone().into_bytes(),
                None => fs::read(root.join(&path))?,
            };
            let copied = self.tree.join(path);
            if fs::read(&copied).is_ok_and(|there| there == bytes) {
                continue;
            }
            fs::create_dir_all(copied.parent().expect("a file in the tree"))?;
            fs::write(copied, bytes)?;
        }
        Ok(())
    }

    /// A command of cargo on the copy.
    ///
    /// The feature, which only the copy has, keeps its builds apart from those of the original: cargo treats two
    /// packages that share a target directory and differ only in their place as one.
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["test", "--quiet", "--locked", "--features", "mutants"]);
        command.args(arguments).env_remove("PLANTED_BUG");
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        forget_package(&mut command);
        command
    }

    /// Runs a check with a bug, or without any.
    fn run(&self, check: &Check, bug: Option<&str>) -> Outcome {
        let mut command = match check {
            Check::Unit(filter) => self.cargo(&["--lib", "--", filter]),
            Check::Integration(filter) => self.cargo(&["--test", "integration", "--", filter]),
            Check::Plan(plan, cycles) => {
                let mut command = self.cargo(&["--test", "torture", "--"]);
                let cycles = cycles.to_string();
                command.args(["--plan", plan, "--cycles", &cycles, "--seed", "1"]);
                command
            }
        };
        command.envs(bug.map(|bug| ("PLANTED_BUG", bug)));
        watch(&mut command)
    }
}

/// The needed files of a tree, by their paths from its root.
fn files_of(root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut left: Vec<PathBuf> = NEEDED.iter().map(PathBuf::from).collect();
    while let Some(path) = left.pop() {
        let full = root.join(&path);
        if !full.is_dir() {
            files.insert(path);
            continue;
        }
        for entry in fs::read_dir(full)? {
            left.push(path.join(entry?.file_name()));
        }
    }
    Ok(files)
}

struct Outcome {
    /// Whether the check passed; `None` when it did not end in time.
    status: Option<bool>,
    took: Duration,
    output: String,
}

impl Outcome {
    fn words(&self) -> String {
        let status = match self.status {
            Some(true) => "passed",
            Some(false) => "failed",
            None => "did not end",
        };
        format!("{status} after {:.1} s", self.took.as_secs_f64())
    }
}

/// Waits for a command, up to a limit.
fn watch(command: &mut Command) -> Outcome {
    let mut output = tempfile::tempfile().expect("a temporary file");
    let duplicate = || Stdio::from(output.try_clone().expect("a file descriptor"));
    // A process group of its own, so that a check that does not end is killed with all its children.
    command.stdout(duplicate()).stderr(duplicate());
    let mut child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("cargo starts");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break Some(status.success());
        }
        if begun.elapsed() > CHECK_TIME_MAX {
            let group = Pid::from_child(&child);
            kill_process_group(group, Signal::KILL).expect("it is our group");
            child.wait().expect("it is our child");
            break None;
        }
        thread::sleep(LOOK_AGAIN);
    };
    let mut bytes = Vec::new();
    output.rewind().expect("a file");
    output.read_to_end(&mut bytes).expect("a file");
    Outcome {
        status,
        took: begun.elapsed(),
        // A killed check's output may end inside a character.
        output: String::from_utf8_lossy(&bytes).into_owned(),
    }
}
