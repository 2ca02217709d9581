//! Where the checkpoint may stand when it is read, and what it means when it stands elsewhere.
//!
//! A number alone cannot tell a log from its copy: both give out the same sequences. So the checkpoint's row says which life of the log
//! wrote the event at its place, and carries the token of the commit that put it there. The row *matches* a log that can say that its
//! event at that place was written by that life. Anything else means that the log was copied or restored and the other one has gone
//! on: going on here would skip events that nobody stored.

use super::FlushError;
use crate::batch::{BatchView, CheckpointRow, Counts, LifeId, Mark, Sequence, WalId};
use crate::store::{EventSink, Flushed, StoreError};

/// What a log knows of itself, to hold a checkpoint against.
pub struct Lineage<'a> {
    /// Its identity.
    pub wal_id: WalId,
    /// The life of this process; `None` for a look from outside.
    pub life: Option<LifeId>,
    /// The oldest sequence that it holds, or will hold next.
    pub oldest: Sequence,
    /// The last sequence that it has given out.
    pub end: Sequence,
    /// Who wrote a sequence, as far as it can tell.
    pub life_of: &'a (dyn Fn(Sequence) -> Option<LifeId> + Sync),
}

/// What a checkpoint says about a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is this log's: the flush goes on from there.
    Matches,
    /// The database has gone back, and events behind its checkpoint are in neither: from the first of these to the last.
    Gap(Sequence, Sequence),
    /// It is not this log's, in words.
    Mismatch(String),
}

/// What this flush knows of the checkpoint.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// Where it certainly stands or stood; `None` before the first look.
    confirmed: Option<CheckpointRow>,
    /// Where it stands if the commit in doubt happened, and its mark then.
    attempted: Option<(Sequence, Mark)>,
}

impl Lineage<'_> {
    /// Holds a checkpoint against the log.
    pub fn judge(&self, row: &CheckpointRow) -> Standing {
        let (wal_id, through, life) = (self.wal_id, row.flushed_through, row.mark.life);
        if through + 1 < self.oldest {
            return Standing::Gap(through + 1, self.oldest - 1);
        }
        let found = if through > self.end {
            format!("this copy of the log ends at {}", self.end)
        } else {
            match (self.life_of)(through) {
                Some(ours) if ours == life => return Standing::Matches,
                Some(ours) => format!("here life {ours} wrote that one"),
                None => "this copy of the log cannot say who wrote that one".to_owned(),
            }
        };
        Standing::Mismatch(format!(
            "the database has stored log {wal_id} through sequence {through}, written by its life {life}, but {found}: the log \
             directory is an old copy, or a copy of it is in use elsewhere"
        ))
    }
}

impl Checkpoint {
    /// Nothing known yet.
    pub(super) fn new() -> Self {
        Self {
            confirmed: None,
            attempted: None,
        }
    }

    /// The mark that it has if nothing happened behind our back.
    ///
    /// # Panics
    ///
    /// Before the first look.
    pub(super) fn mark(&self) -> Mark {
        self.confirmed.expect("looked at before a flush").mark
    }

    /// A transaction that moves it to `through` and marks it is about to be tried.
    pub(super) fn attempt(&mut self, through: Sequence, mark: Mark) {
        self.attempted = Some((through, mark));
    }

    /// It stands here: read, or moved by a transaction that is confirmed.
    pub(super) fn confirm(&mut self, row: CheckpointRow) {
        self.confirmed = Some(row);
        self.attempted = None;
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

    fn confirm_moved(&mut self, batch: BatchView<'_>, count: impl FnOnce(&mut Counts)) {
        let before = self.confirmed.expect("looked at before a flush");
        let mut row = CheckpointRow {
            flushed_through: batch.through(),
            mark: batch.to(),
            counts: before.counts,
        };
        count(&mut row.counts);
        self.confirm(row);
    }

    /// Where it certainly stands or stood, with all that is counted there.
    pub(super) fn confirmed(&self) -> Option<&CheckpointRow> {
        self.confirmed.as_ref()
    }

    /// Holds a checkpoint just read against the log and against what this flush did.
    ///
    /// # Errors
    ///
    /// [`FlushError::Mismatch`] when log and database do not belong together.
    pub(super) fn judge(
        &self,
        row: &CheckpointRow,
        lineage: &Lineage<'_>,
    ) -> Result<Standing, FlushError> {
        match lineage.judge(row) {
            Standing::Mismatch(text) => Err(FlushError::Mismatch(text)),
            Standing::Matches if !self.is_by_us(row, lineage) => {
                let (wal_id, through) = (lineage.wal_id, row.flushed_through);
                Err(FlushError::Mismatch(format!(
                    "the database has stored log {wal_id} through sequence {through} by a commit of this very process that it never \
                     made: the machine was copied while it ran, and its copy is in use elsewhere"
                )))
            }
            standing => Ok(standing),
        }
    }

    /// Whether this process may have put the checkpoint there, if its life says so. What lies before the last confirmed place was once
    /// confirmed too: the database failed over to a replica that lacks the last commits.
    fn is_by_us(&self, row: &CheckpointRow, lineage: &Lineage<'_>) -> bool {
        let is_of_this_process = lineage.life == Some(row.mark.life);
        let Some(confirmed) = self.confirmed.filter(|_| is_of_this_process) else {
            return true;
        };
        row.flushed_through < confirmed.flushed_through
            || row.mark == confirmed.mark
            || self.attempted == Some((row.flushed_through, row.mark))
    }
}

/// Reads the checkpoint, or makes it for a log that the database has never heard of.
pub(super) async fn read_or_create(
    sink: &mut dyn EventSink,
    lineage: &Lineage<'_>,
) -> Result<CheckpointRow, StoreError> {
    let (wal_id, oldest) = (lineage.wal_id, lineage.oldest);
    if let Some(row) = sink.checkpoint(wal_id).await? {
        return Ok(row);
    }
    if oldest > 1 {
        tracing::warn!(
            %wal_id,
            oldest,
            "the database does not know this log, whose older events went elsewhere: storing what it still holds, from \
             sequence {oldest} on"
        );
    }
    let life = (lineage.life_of)(oldest - 1).unwrap_or_default();
    let mark = Mark::of_new_commit(life);
    sink.create_checkpoint(wal_id, oldest - 1, mark).await?;
    // Read once more, so that what goes on from here is what the database holds.
    let row = sink.checkpoint(wal_id).await?;
    row.ok_or_else(|| StoreError::Unavailable(format!("the checkpoint of log {wal_id} vanished")))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::batch::Counts;

    const FIRST: LifeId = LifeId(Uuid::from_u128(1));
    const SECOND: LifeId = LifeId(Uuid::from_u128(2));
    const ELSEWHERE: LifeId = LifeId(Uuid::from_u128(3));

    /// A log that holds 41 to 100: the first life wrote up to 60, the second, which runs, the rest.
    fn lineage() -> Lineage<'static> {
        Lineage {
            wal_id: WalId(Uuid::nil()),
            life: Some(SECOND),
            oldest: 41,
            end: 100,
            life_of: &|sequence| match sequence {
                40..=60 => Some(FIRST),
                61..=100 => Some(SECOND),
                _ => None,
            },
        }
    }

    fn row(flushed_through: Sequence, life: LifeId, token: u128) -> CheckpointRow {
        CheckpointRow {
            flushed_through,
            mark: Mark {
                life,
                token: Uuid::from_u128(token),
            },
            counts: Counts::default(),
        }
    }

    #[test]
    fn the_first_look_goes_on_from_any_place_that_the_log_knows_by_its_life() {
        let judge = |through, life| lineage().judge(&row(through, life, 7));
        assert_eq!(judge(40, FIRST), Standing::Matches, "just retired");
        assert_eq!(judge(60, FIRST), Standing::Matches);
        assert_eq!(judge(61, SECOND), Standing::Matches);
        assert_eq!(judge(100, SECOND), Standing::Matches);
        for (through, life) in [(60, SECOND), (61, FIRST), (80, ELSEWHERE), (101, SECOND)] {
            let standing = judge(through, life);
            assert!(
                matches!(&standing, Standing::Mismatch(text) if text.contains(&through.to_string())),
                "{through}: {standing:?}"
            );
        }
        assert_eq!(judge(38, FIRST), Standing::Gap(39, 40), "in neither");
    }

    #[test]
    fn only_this_process_commits_for_its_life() {
        let mut checkpoint = Checkpoint::new();
        checkpoint.confirm(row(70, SECOND, 1));
        checkpoint.attempt(90, row(90, SECOND, 2).mark);
        let judge =
            |checkpoint: &Checkpoint, row: CheckpointRow| checkpoint.judge(&row, &lineage());
        assert!(judge(&checkpoint, row(70, SECOND, 1)).is_ok());
        assert!(judge(&checkpoint, row(90, SECOND, 2)).is_ok());
        assert!(
            judge(&checkpoint, row(65, SECOND, 8)).is_ok(),
            "a replica took over that lacks the last commits"
        );
        for forked in [row(90, SECOND, 3), row(70, SECOND, 3), row(80, SECOND, 2)] {
            let error = judge(&checkpoint, forked).unwrap_err().to_string();
            assert!(error.contains("copied while it ran"), "{error}");
        }
        assert!(
            judge(&checkpoint, row(90, ELSEWHERE, 2)).is_err(),
            "a copy has stored as many events as were attempted here"
        );
    }
}
