//! Counts of accepted and refused events, and for each file the line up to which every line is done.

use std::collections::BTreeMap;

use crate::cli::text::{counted, grouped};

/// The counts of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Events that the server has acknowledged.
    pub(super) accepted: u64,
    /// Lines that were refused and skipped.
    pub(super) refused: u64,
    files: Vec<FileLedger>,
}

#[derive(Debug)]
struct FileLedger {
    name: String,
    /// Every line up to this one is accepted or skipped.
    done_through: u64,
    /// Later runs of lines that are done while a line before them is not: last line by first line.
    done_beyond: BTreeMap<u64, u64>,
    /// Number of lines, once the file is read.
    lines: Option<u64>,
}

impl Ledger {
    /// Counts of zero for these files.
    pub(super) fn new(names: impl Iterator<Item = String>) -> Self {
        let file = |name| FileLedger {
            name,
            done_through: 0,
            done_beyond: BTreeMap::new(),
            lines: None,
        };
        Self {
            accepted: 0,
            refused: 0,
            files: names.map(file).collect(),
        }
    }

    /// Notes that lines `first..=last` of a file are accepted or skipped.
    ///
    /// # Panics
    ///
    /// If a line is entered twice: batches never overlap.
    pub(super) fn lines_done(&mut self, file: usize, first: u64, last: u64) {
        let file = &mut self.files[file];
        assert!(first > file.done_through, "line {first} is done twice");
        file.done_beyond.insert(first, last);
        while let Some(last) = file.done_beyond.remove(&(file.done_through + 1)) {
            file.done_through = last;
        }
    }

    /// Notes the number of lines of a file.
    pub(super) fn file_read(&mut self, file: usize, lines: u64) {
        self.files[file].lines = Some(lines);
    }

    /// Whether every line of every file is done.
    pub(super) fn is_complete(&self) -> bool {
        self.files.iter().all(FileLedger::is_complete)
    }

    /// The file's name in messages.
    pub(super) fn name(&self, file: usize) -> &str {
        &self.files[file].name
    }

    /// How many files there are.
    pub(super) fn file_count(&self) -> usize {
        self.files.len()
    }

    /// How far the run has come, as a text for the user.
    pub(super) fn how_far(&self) -> String {
        let are = if self.refused == 0 {
            "accepted"
        } else {
            "accepted or written to the --skip-invalid file"
        };
        let complete = self.files.iter().filter(|file| file.is_complete()).count();
        let mut parts = Vec::new();
        if complete > 0 {
            let files = if complete == 1 { "file is" } else { "files are" };
            parts.push(format!("{complete} {files} complete"));
        }
        if let Some(file) = self.files.iter().find(|file| !file.is_complete()) {
            let (name, through) = (&file.name, grouped(file.done_through));
            parts.push(match file.done_through {
                0 => format!("{name}: no line is known to be accepted"),
                _ => format!("{name}: all lines up to line {through} are {are}"),
            });
        }
        let accepted = counted(self.accepted, "event");
        format!("{} ({accepted} accepted in all)", parts.join("; "))
    }
}

impl FileLedger {
    fn is_complete(&self) -> bool {
        self.lines == Some(self.done_through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(names: &[&str]) -> Ledger {
        Ledger::new(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn the_watermark_waits_for_the_slowest_batch() {
        let mut ledger = ledger(&["a"]);
        ledger.lines_done(0, 11, 20);
        ledger.lines_done(0, 31, 40);
        assert_eq!(ledger.files[0].done_through, 0);
        ledger.lines_done(0, 1, 10);
        assert_eq!(ledger.files[0].done_through, 20);
        ledger.lines_done(0, 21, 30);
        assert_eq!(ledger.files[0].done_through, 40);
        assert!(ledger.files[0].done_beyond.is_empty());
        assert!(!ledger.is_complete(), "the end is not known yet");
        ledger.file_read(0, 40);
        assert!(ledger.is_complete());
    }

    #[test]
    fn files_are_told_apart() {
        let mut ledger = ledger(&["a", "b", "c"]);
        ledger.file_read(0, 2);
        ledger.lines_done(0, 1, 2);
        assert!(
            ledger
                .how_far()
                .starts_with("1 file is complete; b: no line is known to be accepted")
        );
        ledger.lines_done(1, 1, 12_345);
        ledger.accepted = 12_347;
        assert_eq!(
            ledger.how_far(),
            "1 file is complete; b: all lines up to line 12,345 are accepted (12,347 events accepted in all)"
        );
        ledger.refused = 1;
        assert!(
            ledger
                .how_far()
                .contains("accepted or written to the --skip-invalid file")
        );
    }

    #[test]
    fn an_empty_file_is_complete_once_it_is_read() {
        let mut ledger = ledger(&["a"]);
        assert!(!ledger.is_complete());
        ledger.file_read(0, 0);
        assert!(ledger.is_complete());
    }

    #[test]
    #[should_panic(expected = "done twice")]
    fn a_line_cannot_be_done_twice() {
        let mut ledger = ledger(&["a"]);
        ledger.lines_done(0, 1, 10);
        ledger.lines_done(0, 5, 12);
    }
}
