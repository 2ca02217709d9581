//! What a command prints, and how it ends when it fails: with one line that says what to do, and an exit status from
//! `sysexits.h`.

use std::fmt;
use std::io::{self, Write as _};

use anyhow::Context as _;

/// Exit statuses beside 0 (success). Numbers from BSD's `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// The command line is wrong; the status that clap uses.
    Usage = 2,
    /// `EX_DATAERR`: acknowledged data is damaged, or input was refused.
    Data = 65,
    /// `EX_UNAVAILABLE`: a server or database did not answer.
    Unavailable = 69,
    /// `EX_SOFTWARE`: a defect of ours.
    Software = 70,
    /// `EX_IOERR`: a file could not be read or written.
    Io = 74,
    /// `EX_TEMPFAIL`: another process holds the lock or the port, or the address is not there yet.
    Locked = 75,
    /// `EX_CONFIG`: settings contradict each other or their surroundings.
    Config = 78,
    /// Ended by Ctrl-C, as shells count it (128 + SIGINT).
    Interrupted = 130,
}

impl ExitStatus {
    /// Whether each further try fails the same way until somebody changes settings, schema or data.
    pub fn needs_a_person(self) -> bool {
        matches!(self, Self::Usage | Self::Data | Self::Config)
    }
}

/// A failed command: what the user reads and the status the shell sees.
#[derive(Debug)]
pub struct Failure {
    /// Exit status of the process.
    pub status: ExitStatus,
    /// What happened, and what to do about it.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure with its explanation.
    pub fn new(status: ExitStatus, error: impl Into<anyhow::Error>) -> Self {
        Self {
            status,
            error: error.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// Gives an error its exit status on the way up.
pub trait OrExit<T> {
    /// Turns the error into a [`Failure`] with `status`.
    fn or_exit(self, status: ExitStatus) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, status: ExitStatus) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(status, error))
    }
}

/// Prints one line of a command's answer.
///
/// A reader that closes the pipe early, as in `| head -1`, is not a failure: what the command did counts, and its other
/// lines are dropped.
///
/// # Errors
///
/// When the line cannot be written for another reason (74).
pub fn say(line: impl fmt::Display) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => said.context("cannot write to standard output").or_exit(ExitStatus::Io),
    }
}

/// Prints one line beside a command's answer, on standard error. Ignores a failed write, where `eprintln!` would panic.
pub fn say_aside(line: impl fmt::Display) {
    // There is nowhere to report the failure.
    writeln!(io::stderr(), "{line}").ok();
}
