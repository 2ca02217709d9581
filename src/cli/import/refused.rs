//! Refused lines: the reasons, and the file in which `--skip-invalid` collects them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};

use crate::cli::text::printable;
use crate::support::exit::{ExitStatus, Failure};

/// One reason why a line was refused, by the server or before it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reason {
    /// The field; empty if the reason concerns the line as a whole.
    #[serde(default)]
    pub(super) field: String,
    /// Stable code, for programs.
    #[serde(default)]
    pub(super) code: String,
    /// What is wrong, in words.
    #[serde(default)]
    pub(super) message: String,
}

impl Reason {
    /// A reason that concerns the line as a whole.
    pub(super) fn of_line(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: String::new(),
            code: code.into(),
            message: message.into(),
        }
    }

    /// `field: message`, or the message alone. Control characters are escaped, because the name of a field is input.
    pub(super) fn text(&self) -> String {
        let field = printable(&self.field);
        let message = printable(&self.message);
        if field.is_empty() {
            message
        } else {
            format!("{field}: {message}")
        }
    }
}

/// A refused line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusedLine {
    /// Number of the line in its file, from 1.
    pub(super) line: u64,
    /// At least one reason.
    pub(super) reasons: Vec<Reason>,
    /// Text of the line; `None` if it was too long to be kept.
    pub(super) event: Option<String>,
}

/// A refused line as it is written to the file, as one JSON object.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    file: String,
    line: u64,
    errors: std::borrow::Cow<'a, [Reason]>,
    event: Option<std::borrow::Cow<'a, str>>,
}

/// The file of `--skip-invalid`.
#[derive(Debug)]
pub(super) struct RefusedLog {
    path: PathBuf,
    file: BufWriter<File>,
}

impl RefusedLog {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or holds anything but refused lines of an earlier run. In
    /// `--skip-invalid *.ndjson`, the shell passes the first file of events as this one, which must not be overwritten.
    pub(super) fn create(path: &Path, inputs: &[PathBuf]) -> Result<Self, Failure> {
        let shown = path.display();
        let is_input = |input: &PathBuf| input.canonicalize().ok() == path.canonicalize().ok();
        if path.exists() && inputs.iter().any(is_input) {
            let error = anyhow!("--skip-invalid {shown}: is one of the files to import; name another one");
            return Err(Failure::new(ExitStatus::Io, error));
        }
        let create = || {
            if path.is_file() && !may_be_replaced(path)? {
                return Err(io::Error::other(
                    "has other content than refused lines of an earlier run; name another file",
                ));
            }
            File::create(path)
        };
        let file =
            create().map_err(|error| Failure::new(ExitStatus::Io, anyhow!("--skip-invalid {shown}: {error}")))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
        })
    }

    /// The path of the file, as given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes refused lines of one input file, through to the operating system.
    pub(super) fn write(&mut self, file: &str, lines: &[RefusedLine]) -> io::Result<()> {
        for line in lines {
            let entry = Entry {
                file: file.to_owned(),
                line: line.line,
                errors: line.reasons.as_slice().into(),
                event: line.event.as_deref().map(Into::into),
            };
            serde_json::to_writer(&mut self.file, &entry)?;
            self.file.write_all(b"\n")?;
        }
        self.file.flush()
    }
}

/// Whether a file is empty or begins with a refused line.
fn may_be_replaced(path: &Path) -> io::Result<bool> {
    let mut first = Vec::new();
    BufReader::new(File::open(path)?).read_until(b'\n', &mut first)?;
    Ok(first.is_empty() || serde_json::from_slice::<Entry<'_>>(&first).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: u64) -> RefusedLine {
        let reason = Reason {
            field: "user_id".into(),
            code: "required".into(),
            message: "is missing".into(),
        };
        RefusedLine {
            line,
            reasons: vec![reason],
            event: Some("{\"a\":1}".into()),
        }
    }

    #[test]
    fn a_second_run_replaces_what_the_first_one_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.ndjson");
        for number in [4, 5] {
            let mut log = RefusedLog::create(&path, &[]).unwrap();
            log.write("a.ndjson", &[line(number)]).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"file\":\"a.ndjson\",\"line\":5,\"errors\":[{\"field\":\"user_id\",\"code\":\"required\",\
             \"message\":\"is missing\"}],\"event\":\"{\\\"a\\\":1}\"}\n"
        );
    }

    #[test]
    fn a_file_of_events_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.ndjson");
        std::fs::write(&path, "{\"event_name\":\"page_view\"}\n").unwrap();
        for inputs in [vec![], vec![path.clone()]] {
            let failure = RefusedLog::create(&path, &inputs).unwrap_err();
            assert_eq!(failure.status, ExitStatus::Io);
            assert_eq!(
                std::fs::read_to_string(&path).unwrap(),
                "{\"event_name\":\"page_view\"}\n"
            );
        }
    }

    #[test]
    fn a_reason_cannot_drive_a_terminal() {
        let reason = Reason {
            field: "a\u{1b}[2J".into(),
            code: String::new(),
            message: "is unknown".into(),
        };
        assert_eq!(reason.text(), "a\\u{1b}[2J: is unknown");
    }
}
