//! Whether a checkpoint that was read belongs to this log, and what it means if it does not.
//!
//! A number alone cannot tell a log from its copy: both give out the same sequences. So the checkpoint's row says which
//! life of the log wrote the event at that sequence, and carries the token of the commit that moved it there. The row
//! *matches* a log whose event at that sequence was written by that life, and that remembers the commit, if it
//! remembers any so far back. Anything else means that the log was copied or restored and the other copy has gone on:
//! going on here would skip events that nobody stored.
//!
//! A database that is merely behind is no mismatch: the flush goes on from the database's checkpoint. If it cannot do
//! so without skipping or repeating a sequence, a person is asked.

use std::fmt;

use crate::store::Flushed;
use crate::wal::batch::BatchView;
use crate::wal::flushed::{Commit, Commits};
use crate::wal::id::{CheckpointRow, DatabaseId, EventOutcomes, LifeId, Mark, Sequence, WalId};

/// What a log knows about itself, for comparison with a checkpoint.
pub struct Lineage<'a> {
    /// The log's identity.
    pub wal_id: WalId,
    /// The oldest sequence that the log holds, or will hold next.
    pub oldest: Sequence,
    /// The last sequence that the log has given out.
    pub end: Sequence,
    /// Which life wrote a sequence; `None` where the log cannot tell.
    pub life_of: &'a (dyn Fn(Sequence) -> Option<LifeId> + Sync),
    /// The commits of its flush that the log remembers.
    pub commits: &'a Commits,
}

/// How a checkpoint and a log fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The checkpoint is this log's: the flush goes on from there.
    Matches,
    /// There is no checkpoint and never was one: the log is new.
    New,
    /// The flush can go on only after a person has decided this question.
    Asks(Question),
    /// The checkpoint is not this log's; the text says why.
    Mismatch(String),
}

/// What a person must decide before the flush goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The database has gone back, and events after its checkpoint are in neither database nor log.
    Gap {
        /// The first missing event.
        first: Sequence,
        /// The last missing event.
        last: Sequence,
    },
    /// The database has no checkpoint of this log, or not any more.
    NoCheckpoint {
        /// Everything up to here was stored once.
        stored_through: Sequence,
        /// Everything up to here may have been stored.
        tried_through: Sequence,
    },
    /// This is not the database that has this log's events.
    OtherDatabase {
        /// The database that has the events.
        home: DatabaseId,
        /// The database that was found.
        found: DatabaseId,
        /// Everything up to here is in `home`.
        stored_through: Sequence,
        /// Everything up to here may be in `home`.
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

/// Adds to a message the last event of a commit whose outcome is unknown, if there is such a commit.
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
                              move this one away to begin a new log, or let its events be stored under a new log identity: see \
                              `fast-ingest wal adopt`. The file MISMATCH in the log's directory keeps this refusal over restarts; once the right \
                              log and database are together again, `fast-ingest wal adopt --yes` lifts it";

/// What a person can do about a question.
pub const HOW_TO_ANSWER: &str = "Nothing was changed, and ingestion goes on. Bring the right database back, or let the flush go on here: \
                                 `fast-ingest wal adopt`, with this server's own settings, shows what that would skip, and does it with --yes";

/// What this flush knows about the checkpoint.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    /// The last confirmed checkpoint, and its database; `None` before the checkpoint is first read.
    confirmed: Option<(DatabaseId, CheckpointRow)>,
}

impl Lineage<'_> {
    /// Compares the log with the checkpoint that a database has of it, if any.
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

    /// Compares the log with a row of a database that is, or may be, the one that has its events.
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
                 another copy of the log, perhaps taken while the machine ran, is in use elsewhere"
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

    /// What contradicts the life that a checkpoint names; `None` if nothing does.
    fn foreign_life(&self, row: &CheckpointRow) -> Option<String> {
        if row.flushed_through > self.end {
            return Some(format!("this copy of the log ends at {}", self.end));
        }
        match (self.life_of)(row.flushed_through) {
            Some(ours) if ours == row.mark.life => None,
            Some(ours) => Some(format!("here life {ours} wrote that sequence")),
            None => Some("this copy of the log cannot say which life wrote that sequence".to_owned()),
        }
    }
}

impl Checkpoint {
    /// The mark that the checkpoint has, unless someone else has moved it.
    ///
    /// # Panics
    ///
    /// If the checkpoint has not been read yet.
    pub(super) fn mark(&self) -> Mark {
        self.known().1.mark
    }

    /// The note of a transaction that moves the checkpoint to `through` and marks it.
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

    /// Remembers where the checkpoint stands: read and found to match, or moved by a confirmed commit.
    pub(super) fn confirm(&mut self, database: DatabaseId, row: CheckpointRow) {
        self.confirmed = Some((database, row));
    }

    /// Remembers that the transaction that stored a batch is confirmed.
    pub(super) fn confirm_applied(&mut self, batch: BatchView<'_>, flushed: Flushed) {
        self.confirm_moved(batch, |counts| {
            counts.applied += flushed.stored;
            counts.duplicates += flushed.duplicates;
        });
    }

    /// Remembers that the transaction that put an event into quarantine is confirmed.
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

    /// The last confirmed checkpoint with its counts, and its database; `None` before the checkpoint is first read.
    pub(super) fn confirmed(&self) -> Option<(DatabaseId, CheckpointRow)> {
        self.confirmed
    }

    fn known(&self) -> (DatabaseId, CheckpointRow) {
        self.confirmed.expect("the checkpoint is read before a flush")
    }
}

#[cfg(test)]
mod tests;
