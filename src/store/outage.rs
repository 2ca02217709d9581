//! How a task rides out a database's failures: what the flush and the keeper of the rollups have in common.
//!
//! Each has its own loop over connections, because the flush drains at a stop and asks a person; how long both wait, how
//! often they say so, how much they try next and how old a session may get is decided here.

use std::time::Duration;

use crate::support::backoff::{Backoff, Reminder};

/// Age at which a session is given up for a fresh one. A temporary table of an older one would hold back PostgreSQL's
/// transaction-id horizon, because autovacuum cannot freeze it.
pub(crate) const SESSION_AGE_MAX: Duration = Duration::from_secs(3600);

/// The state of one task towards its database: well, or failing since some time.
#[derive(Debug)]
pub(crate) struct Outage {
    backoff: Backoff,
    reminder: Reminder,
    /// Wait between looks at a schema that is not ours: a person has to act first.
    schema_recheck: Duration,
    /// Rows of the next transaction, halved when one fails: a database that is too slow for its timeout gets
    /// transactions that it can finish.
    rows: usize,
    rows_min: usize,
    rows_max: usize,
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    /// Time until the next attempt.
    pub(crate) wait: Duration,
    /// Whether the log should have a line about it.
    pub(crate) is_due: bool,
}

impl Outage {
    /// All is well. Transactions have `rows_max` rows, and never fewer than `rows_min` after failures.
    pub(crate) fn new(rows_min: usize, rows_max: usize, schema_recheck: Duration) -> Self {
        Self {
            backoff: Backoff::default(),
            reminder: Reminder::default(),
            schema_recheck,
            rows: rows_max,
            rows_min: rows_min.min(rows_max),
            rows_max,
        }
    }

    /// Rows of the next transaction.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// A transaction failed.
    pub(crate) fn halve(&mut self) {
        self.rows = (self.rows / 2).max(self.rows_min);
    }

    /// A transaction took place. Rows come back slowly, or a database that is too slow for full transactions would fail
    /// every other one.
    pub(crate) fn grow(&mut self) {
        self.rows = (self.rows + self.rows / 8 + 1).min(self.rows_max);
    }

    /// The database failed; `schema` is what a person has to change, if that is why.
    pub(crate) fn note_failure(&mut self, schema: Option<&str>) -> Failed {
        let wait = match schema {
            Some(_) => self.schema_recheck,
            None => self.backoff.next_wait(),
        };
        Failed {
            wait,
            is_due: self.is_due(),
        }
    }

    /// Whether the log should have a line about what keeps the task from its work, which is then taken for written.
    pub(crate) fn is_due(&mut self) -> bool {
        self.reminder.is_due()
    }

    /// The work goes on. A mere connection is no proof: the disk behind it may be full. Returns whether the log was
    /// told of a failure before.
    pub(crate) fn end(&mut self) -> bool {
        self.backoff.reset();
        self.reminder.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA_RECHECK: Duration = Duration::from_secs(7);

    #[test]
    fn transactions_are_halved_down_to_the_least_and_grow_up_to_the_most() {
        let mut outage = Outage::new(100, 1_000, SCHEMA_RECHECK);
        let halved: Vec<_> = std::iter::repeat_with(|| {
            outage.halve();
            outage.rows()
        })
        .take(5)
        .collect();
        assert_eq!(halved, [500, 250, 125, 100, 100]);
        outage.grow();
        assert_eq!(outage.rows(), 113);
        (0..100).for_each(|_| outage.grow());
        assert_eq!(outage.rows(), 1_000);
    }

    #[test]
    fn fewer_rows_than_the_least_are_never_made_more() {
        let mut outage = Outage::new(500, 20, SCHEMA_RECHECK);
        outage.halve();
        assert_eq!(outage.rows(), 20);
    }

    #[test]
    fn a_schema_that_a_person_must_change_is_looked_at_without_backoff() {
        let mut outage = Outage::new(1, 1, SCHEMA_RECHECK);
        let waits = [(); 8].map(|()| outage.note_failure(Some("no table")).wait);
        assert_eq!(waits, [SCHEMA_RECHECK; 8]);
        assert!(outage.note_failure(None).wait < Duration::from_millis(200));
        assert!(outage.end());
        assert!(!outage.end());
    }

    #[test]
    fn an_outage_that_ended_leaves_no_backoff_behind() {
        let mut outage = Outage::new(1, 1, SCHEMA_RECHECK);
        let longest = (0..10).map(|_| outage.note_failure(None).wait).max();
        assert!(longest > Some(Duration::from_secs(1)), "{longest:?}");
        outage.end();
        assert!(outage.note_failure(None).wait <= Duration::from_millis(100));
    }
}
