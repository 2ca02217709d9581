//! Where the checkpoint may stand when it is read, and what it means when it stands elsewhere.
//!
//! Only this flush moves the checkpoint of its log, so between two looks it can only be where the last confirmed commit left it, or
//! where the one commit in doubt put it. Anything else means that log or database was copied, restored or lost, and going on would
//! skip or lose events.

use super::FlushError;
use crate::batch::{Sequence, WalId};
use crate::store::{EventSink, StoreError};

/// What this flush knows of the checkpoint.
#[derive(Debug)]
pub(super) struct Checkpoint {
    wal_id: WalId,
    /// What the log held when it was opened: the bound of the first look.
    recovered_through: Sequence,
    /// Where it certainly stands or stood; `None` before the first look.
    confirmed: Option<Sequence>,
    /// Where it stands if the commit in doubt happened.
    attempted: Option<Sequence>,
}

impl Checkpoint {
    /// Nothing known yet.
    pub(super) fn new(wal_id: WalId, recovered_through: Sequence) -> Self {
        Self {
            wal_id,
            recovered_through,
            confirmed: None,
            attempted: None,
        }
    }

    /// A transaction that moves it to `through` is about to be tried.
    pub(super) fn attempt(&mut self, through: Sequence) {
        self.attempted = Some(through);
    }

    /// The transaction that moved it to `through` is confirmed.
    pub(super) fn confirm(&mut self, through: Sequence) {
        self.confirmed = Some(through);
        self.attempted = None;
    }

    /// Holds a checkpoint just read against what is known, and against the oldest event that the log still has.
    ///
    /// # Errors
    ///
    /// [`FlushError::Mismatch`] when log and database do not belong together.
    pub(super) fn judge(
        &self,
        flushed_through: Sequence,
        oldest: Sequence,
    ) -> Result<(), FlushError> {
        let wal_id = self.wal_id;
        let is_ours = match self.confirmed {
            None => flushed_through <= self.recovered_through,
            // Below the confirmed mark: the database failed over to a replica that lacks the last commits. The log has them.
            Some(confirmed) => {
                flushed_through <= confirmed || Some(flushed_through) == self.attempted
            }
        };
        if !is_ours {
            let ours = match self.confirmed {
                None => format!("the log ends at {}", self.recovered_through),
                Some(confirmed) => format!("this server has only brought it to {confirmed}"),
            };
            return Err(FlushError::Mismatch(format!(
                "the database has stored log {wal_id} through sequence {flushed_through}, but {ours}: the log directory is an old \
                 copy, is also used by another server, or has lost data. Nothing was changed. Stop the other server, restore the \
                 newer log directory, or move this one away to begin a new log"
            )));
        }
        if flushed_through + 1 < oldest {
            return Err(FlushError::Mismatch(format!(
                "the database has stored log {wal_id} through sequence {flushed_through}, but the log begins at {oldest}: events \
                 in between are missing, as after restoring an older database backup. Nothing was changed. Restore the newer \
                 database, or move the log directory away to begin a new log once its events are no longer wanted"
            )));
        }
        Ok(())
    }
}

/// Reads the checkpoint, or makes it for a log that the database has never heard of.
pub(super) async fn read_or_create(
    sink: &mut dyn EventSink,
    wal_id: WalId,
    oldest: Sequence,
) -> Result<Sequence, StoreError> {
    if let Some(flushed_through) = sink.checkpoint(wal_id).await? {
        return Ok(flushed_through);
    }
    if oldest > 1 {
        tracing::warn!(
            %wal_id,
            oldest,
            "the database does not know this log, whose older events went elsewhere: storing what it still holds, from \
             sequence {oldest} on"
        );
    }
    sink.create_checkpoint(wal_id, oldest - 1).await?;
    Ok(oldest - 1)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at_start() -> Checkpoint {
        Checkpoint::new(WalId(Uuid::nil()), 100)
    }

    #[test]
    fn the_first_look_may_find_anything_that_the_log_holds() {
        assert!(at_start().judge(0, 1).is_ok());
        assert!(at_start().judge(100, 1).is_ok());
        assert!(
            at_start().judge(101, 1).is_err(),
            "the log lost what was flushed"
        );
        assert!(at_start().judge(40, 41).is_ok());
        assert!(at_start().judge(39, 41).is_err(), "event 40 is in neither");
    }

    #[test]
    fn after_doubt_it_stands_before_or_behind_the_one_commit_in_doubt() {
        let mut checkpoint = at_start();
        checkpoint.confirm(60);
        checkpoint.attempt(90);
        assert!(checkpoint.judge(60, 1).is_ok());
        assert!(checkpoint.judge(90, 1).is_ok());
        for elsewhere in [61, 89, 91, 100] {
            let error = checkpoint.judge(elsewhere, 1).unwrap_err().to_string();
            assert!(
                error.contains("also used by another server"),
                "{elsewhere}: {error}"
            );
        }
        assert!(
            checkpoint.judge(30, 1).is_ok(),
            "a replica took over that lacks the last commits"
        );
        checkpoint.confirm(90);
        assert!(checkpoint.judge(90, 1).is_ok());
        assert!(checkpoint.judge(120, 1).is_err());
    }
}
