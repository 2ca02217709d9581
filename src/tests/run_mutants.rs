//! `make mutants`: plants one bug after the other in the server and the log, and runs the check that must notice it. Ends with
//! `12 of 12 caught`; status 1 when one goes unnoticed, or when a check fails without any bug.

use std::collections::BTreeMap;
use std::env;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// A check that takes longer has not noticed the bug.
const CHECK_TIME_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What must notice a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    /// Tests of the library whose path has these words.
    Unit(&'static str),
    /// Tests of the integration binary.
    Integration(&'static str),
    /// A plan of `make torture` with so many cycles.
    Plan(&'static str, u32),
}

/// Names as in src/mutants.rs.
const MUTANTS: [(&str, Check); 12] = [
    ("AckBeforeSync", Check::Unit("wal::tests::swarm")),
    ("RetrySync", Check::Unit("wal::tests::swarm")),
    ("NoDirectorySync", Check::Unit("wal::tests::swarm")),
    ("AppendBehindTornTail", Check::Unit("wal::tests::swarm")),
    ("SkipDamage", Check::Unit("wal::tests::bit_flips")),
    ("TrustLength", Check::Unit("wal::tests::swarm")),
    ("RetireBeforeCommit", Check::Plan("kill", 10)),
    ("NoCompareAndSet", Check::Plan("twins", 4)),
    ("CompareAndSetOfAnyLog", Check::Plan("two-logs", 6)),
    ("QuarantineOnDiskFull", Check::Plan("database", 9)),
    (
        "NoByteBudget",
        Check::Integration("hostile_flood::large_bodies"),
    ),
    ("StoreAgainAfterDoubt", Check::Plan("network", 4)),
];

fn main() -> ExitCode {
    let built = cargo(&[
        "--no-run",
        "--lib",
        "--test",
        "integration",
        "--test",
        "torture",
    ])
    .status();
    if !built.expect("cargo starts").success() {
        return ExitCode::FAILURE;
    }
    // Whatever fails without a bug proves nothing about the bugs.
    let mut is_sound = BTreeMap::new();
    for (_, check) in MUTANTS {
        is_sound.entry(check).or_insert_with(|| {
            let outcome = run(check, None);
            println!("without a bug: {check:?} {}", outcome.words());
            outcome.status == Some(true)
        });
    }
    let mut caught = 0;
    for (bug, check) in MUTANTS {
        let outcome = run(check, Some(bug));
        let is_caught = is_sound[&check] && outcome.status == Some(false);
        caught += usize::from(is_caught);
        let verdict = if is_caught { "caught by" } else { "MISSED by" };
        println!("{bug}: {verdict} {check:?}, {}", outcome.words());
        if !is_caught {
            println!("{}", outcome.output);
        }
    }
    println!("{caught} of {} caught", MUTANTS.len());
    if caught == MUTANTS.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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

/// A command of cargo on a build that can have bugs.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--quiet", "--locked", "--features", "mutants"]);
    command.args(arguments).env_remove("PLANTED_BUG");
    command
}

/// Runs a check with a bug, or without any.
fn run(check: Check, bug: Option<&str>) -> Outcome {
    let mut command = match check {
        Check::Unit(filter) => cargo(&["--lib", "--", filter]),
        Check::Integration(filter) => cargo(&["--test", "integration", "--", filter]),
        Check::Plan(plan, cycles) => {
            let mut command = cargo(&["--test", "torture", "--"]);
            let cycles = cycles.to_string();
            command.args(["--plan", plan, "--cycles", &cycles, "--seed", "1"]);
            command
        }
    };
    command.envs(bug.map(|bug| ("PLANTED_BUG", bug)));
    watch(&mut command)
}

/// Waits for a command, but not for ever.
fn watch(command: &mut Command) -> Outcome {
    let mut output = tempfile::tempfile().expect("a temporary file");
    let mut duplicate = || Stdio::from(output.try_clone().expect("a file descriptor"));
    // A group of its own, so that what does not end goes with all that it started.
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
        // What a killed check printed last may be cut inside a character.
        output: String::from_utf8_lossy(&bytes).into_owned(),
    }
}
