//! Where the checkpoint may stand when it is read, and what it means when it stands elsewhere.
//!
//! A number alone cannot tell a log from its copy: both give out the same sequences. So the checkpoint's row says which
//! life of the log wrote the event at its place, and carries the token of the commit that put it there. The row
//! *matches* a log that can say that its event at that place was written by that life, and that remembers the commit,
//! if it remembers any so far back. Anything else means that the log was copied or restored and the other one has gone
//! on: going on here would skip events that nobody stored.
//!
//! A database that is merely behind is no mismatch: the log goes on from where it stands. Where that cannot be done
//! without skipping or repeating a sequence, a person is asked.

use std::fmt;

use crate::store::Flushed;
use crate::wal::batch::BatchView;
use crate::wal::flushed::{Commit, Commits};
use crate::wal::id::{CheckpointRow, DatabaseId, EventOutcomes, LifeId, Mark, Sequence, WalId};

/// What a log knows of itself, to hold a checkpoint against.
pub struct Lineage<'a> {
    /// Its identity.
    pub wal_id: WalId,
    /// The oldest sequence that it holds, or will hold next.
    pub oldest: Sequence,
    /// The last sequence that it has given out.
    pub end: Sequence,
    /// Who wrote a sequence, as far as it can tell.
    pub life_of: &'a (dyn Fn(Sequence) -> Option<LifeId> + Sync),
    /// What it remembers of its flush.
    pub commits: &'a Commits,
}

/// What a checkpoint says about a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is this log's: the flush goes on from there.
    Matches,
    /// There is none, nor was there ever one: the log is new.
    New,
    /// The flush can only go on over something that a person has to know.
    Asks(Question),
    /// It is not this log's, in words.
    Mismatch(String),
}

/// What a person is asked before the flush goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The database has gone back, and events behind its checkpoint are in neither.
    Gap {
        /// The first of them.
        first: Sequence,
        /// The last of them.
        last: Sequence,
    },
    /// The database has no checkpoint of this log, or not any more.
    NoCheckpoint {
        /// Everything up to here was stored once.
        stored_through: Sequence,
        /// Everything up to here may have been.
        tried_through: Sequence,
    },
    /// It is another database than the one that has this log's events.
    OtherDatabase {
        /// The one that has them.
        home: DatabaseId,
        /// This one.
        found: DatabaseId,
        /// Everything up to here is in the one that has them.
        stored_through: Sequence,
        /// Everything up to here may be.
        tried_through: Sequence,
    },
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { first, last } => write!(
                f,
                "the database has gone back, as after a failover or a restore: the events from sequence {first} to {last} are neither \
                 in it nor in the log any more"
            ),
            Self::NoCheckpoint {
                stored_through,
                tried_through,
            } => write!(
                f,
                "the database has no checkpoint of this log, whose events through sequence {stored_through} were stored before{}",
                Perhaps(*stored_through, *tried_through)
            ),
            Self::OtherDatabase {
                home,
                found,
                stored_through,
                tried_through,
            } => write!(
                f,
                "this is database {found}, but the events of this log through sequence {stored_through}{} are in database {home}",
                Perhaps(*stored_through, *tried_through)
            ),
        }
    }
}

/// The events of a commit of which nobody knows whether it took place.
struct Perhaps(Sequence, Sequence);

impl fmt::Display for Perhaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(stored_through, tried_through) = self;
        if tried_through > stored_through {
            write!(f, " (perhaps through {tried_through})")
        } else {
            Ok(())
        }
    }
}

/// What a person can do about a mismatch.
pub const WHAT_TO_DO: &str = "Nothing was changed. Stop whichever server uses the other copy; then restore the newer log directory, or \
                              move this one away to begin a new log, or let its events be stored as those of a log of their own: see \
                              `fast-ingest wal adopt`. The file MISMATCH in the log's directory keeps this refusal over restarts; where the right \
                              log and database are together again, `fast-ingest wal adopt --yes` lifts it";

/// What a person can do about a question.
pub const HOW_TO_ANSWER: &str = "Nothing was changed, and ingestion goes on. Bring the right database back, or let the flush go on here: \
                                 `fast-ingest wal adopt`, with this server's own settings, shows what that would skip, and does it with --yes";

/// What this flush knows of the checkpoint.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    /// Where it certainly stands or stood, and in which database; `None` before the first look.
    confirmed: Option<(DatabaseId, CheckpointRow)>,
}

impl Lineage<'_> {
    /// Holds the checkpoint that a database has of the log, if it has one, against the log.
    pub fn judge(&self, database: DatabaseId, row: Option<&CheckpointRow>) -> Standing {
        let home = self.commits.home();
        if let Some(home) = home.filter(|home| home.database != database) {
            return Standing::Asks(Question::OtherDatabase {
                home: home.database,
                found: database,
                stored_through: home.confirmed_through,
                tried_through: home.through.max(home.confirmed_through),
            });
        }
        let Some(row) = row else {
            let retired = (self.oldest - 1, self.oldest - 1);
            let known = home.map(|home| (home.confirmed_through, home.through));
            let (stored_through, tried_through) = known.unwrap_or(retired);
            return match (home, stored_through) {
                (None, 0) => Standing::New,
                _ => Standing::Asks(Question::NoCheckpoint {
                    stored_through,
                    tried_through: tried_through.max(stored_through),
                }),
            };
        };
        self.judge_row(database, row)
    }

    /// The same for a row of a database that the log belongs to, or may.
    pub fn judge_row(&self, database: DatabaseId, row: &CheckpointRow) -> Standing {
        let is_within = row.flushed_through + 1 >= self.oldest;
        let found = if is_within { self.foreign_life(row) } else { None };
        if let Some(found) = found {
            let (wal_id, through, life) = (self.wal_id, row.flushed_through, row.mark.life);
            return Standing::Mismatch(format!(
                "database {database} has stored log {wal_id} through sequence {through}, written by its life {life}, but {found}: the log \
                 directory is an old copy, or a copy of it is in use elsewhere"
            ));
        }
        if !self.commits.may_have_made(self.wal_id, database, row) {
            let (wal_id, through) = (self.wal_id, row.flushed_through);
            return Standing::Mismatch(format!(
                "database {database} has stored log {wal_id} through sequence {through} by a commit that this copy of the log never tried: \
                 another copy of it, as of the machine while it ran, is in use elsewhere"
            ));
        }
        if is_within {
            Standing::Matches
        } else {
            Standing::Asks(Question::Gap {
                first: row.flushed_through + 1,
                last: self.oldest - 1,
            })
        }
    }

    /// What contradicts the life that a checkpoint names.
    fn foreign_life(&self, row: &CheckpointRow) -> Option<String> {
        if row.flushed_through > self.end {
            return Some(format!("this copy of the log ends at {}", self.end));
        }
        match (self.life_of)(row.flushed_through) {
            Some(ours) if ours == row.mark.life => None,
            Some(ours) => Some(format!("here life {ours} wrote that one")),
            None => Some("this copy of the log cannot say who wrote that one".to_owned()),
        }
    }
}

impl Checkpoint {
    /// The mark that it has if nothing happened behind our back.
    ///
    /// # Panics
    ///
    /// Before the first look.
    pub(super) fn mark(&self) -> Mark {
        self.known().1.mark
    }

    /// The commit of a transaction that moves it to `through` and marks it.
    pub(super) fn commit(&self, wal_id: WalId, through: Sequence, mark: Mark) -> Commit {
        let (database, confirmed) = self.known();
        Commit {
            database,
            wal_id,
            is_known: true,
            confirmed_through: confirmed.flushed_through,
            through,
            mark,
        }
    }

    /// It stands here in this database: read, and found to match.
    pub(super) fn confirm(&mut self, database: DatabaseId, row: CheckpointRow) {
        self.confirmed = Some((database, row));
    }

    /// The transaction that stored a batch is confirmed.
    pub(super) fn confirm_applied(&mut self, batch: BatchView<'_>, flushed: Flushed) {
        self.confirm_moved(batch, |counts| {
            counts.applied += flushed.stored;
            counts.duplicates += flushed.duplicates;
        });
    }

    /// The transaction that put an event into quarantine is confirmed.
    pub(super) fn confirm_quarantined(&mut self, event: BatchView<'_>) {
        self.confirm_moved(event, |counts| counts.quarantined += 1);
    }

    fn confirm_moved(&mut self, batch: BatchView<'_>, count: impl FnOnce(&mut EventOutcomes)) {
        let (database, before) = self.known();
        let mut row = CheckpointRow {
            flushed_through: batch.through(),
            mark: batch.to(),
            counts: before.counts,
        };
        count(&mut row.counts);
        self.confirm(database, row);
    }

    /// Where it certainly stands or stood, in which database, with all that is counted there; `None` before the first
    /// look.
    pub(super) fn confirmed(&self) -> Option<(DatabaseId, CheckpointRow)> {
        self.confirmed
    }

    fn known(&self) -> (DatabaseId, CheckpointRow) {
        self.confirmed.expect("looked at before a flush")
    }
}

#[cfg(test)]
mod tests;
