//! The result of comparing a database with a ledger, counted by kind of violation.

use super::{Entry, Outcome};

/// The result of a comparison. All counts but `acknowledged` and `unknown_stored` must be 0.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Events whose client got a 202.
    pub(crate) acknowledged: u64,
    /// Acknowledged events that are not in the database.
    pub(crate) lost: u64,
    /// Surplus copies of events that are there more than once.
    pub(crate) doubled: u64,
    /// Events that are there although nobody sent them, or although they were refused or withheld.
    pub(crate) phantom: u64,
    /// Rows that differ from what was sent.
    pub(crate) altered: u64,
    /// Requests that are there in part only.
    pub(crate) halved: u64,
    /// Requests without a known outcome that are there.
    pub(crate) unknown_stored: u64,
    /// The first few violations in words.
    pub(crate) examples: Vec<String>,
}

impl Audit {
    /// Whether no promise is broken.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations() == 0
    }

    /// Counts one request, given how many copies of each of its events are there.
    pub(super) fn weigh(&mut self, entry: &Entry, found: &[u32]) {
        let there = found.iter().filter(|&&copies| copies > 0).count() as u64;
        let events = found.len() as u64;
        let copies: u64 = found.iter().map(|&copies| u64::from(copies)).sum();
        let before = self.violations();
        self.doubled += copies - there;
        match entry.outcome {
            Outcome::Ack => {
                self.acknowledged += events;
                self.lost += events - there;
            }
            Outcome::Refused(_) | Outcome::Withheld => self.phantom += there,
            Outcome::Unknown if there == events => self.unknown_stored += 1,
            Outcome::Unknown => self.halved += u64::from(there > 0),
        }
        if self.violations() > before {
            self.note(|| format!("copies in the database {found:?} of {entry:?}"));
        }
    }

    fn violations(&self) -> u64 {
        self.lost + self.doubled + self.phantom + self.altered + self.halved
    }

    pub(super) fn note(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < 5 {
            self.examples.push(example());
        }
    }
}
