//! Commands of the binary that run to their end.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use super::{LOOK_AGAIN, PATIENCE};

/// How a process ended, and its output.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit status; panics for a process that was killed.
    pub(crate) fn code(&self) -> i32 {
        let code = self.status.code();
        code.unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Asserts the exit status and that stderr names all of `words`.
    #[track_caller]
    pub(crate) fn assert_refusal(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code(), code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:?}");
        }
    }
}

/// Runs a command of the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    let mut command = binary();
    command.args(arguments);
    run_to_end(&mut command)
}

/// Runs a command of the binary with these environment variables.
pub(crate) fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = binary();
    command.args(arguments).envs(variables.iter().copied());
    run_to_end(&mut command)
}

/// Runs a command whose answer goes to `stdout`; returns its exit status and its stderr.
pub(crate) fn run_into(arguments: &[&str], stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = binary();
    command.args(arguments).stdout(stdout);
    let output = command.stderr(Stdio::piped()).output().expect("the binary starts");
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stderr)
}

/// Runs a command with this stderr; returns its exit status, `None` when a signal ended it, and its answer.
pub(crate) fn run_with_stderr(arguments: &[&str], stderr: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = binary();
    let output = command.args(arguments).stderr(stderr).output();
    let output = output.expect("the binary starts");
    let stdout = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), stdout)
}

/// The binary, without the variables of this process that it would read.
pub(super) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fast-ingest"));
    for (name, _) in std::env::vars_os() {
        let is_setting = name.to_string_lossy().starts_with("FAST_INGEST_");
        if is_setting || ["PORT", "DATABASE_URL", "PGPASSWORD"].contains(&&*name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs any command to its end.
pub(crate) fn run_to_end(command: &mut Command) -> Ended {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the binary starts");
    let stdout = read_aside(child.stdout.take().unwrap());
    let stderr = read_aside(child.stderr.take().unwrap());
    let status = wait_or_kill(&mut child);
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let status = status.unwrap_or_else(|| panic!("{command:?} does not end: {stdout}{stderr}"));
    Ended { status, stdout, stderr }
}

fn read_aside(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}

/// Waits for a child to end; kills one that does not, and returns `None`.
pub(super) fn wait_or_kill(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(LOOK_AGAIN);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}
