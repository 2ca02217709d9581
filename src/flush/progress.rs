//! How far log and flush have come: for `/health`, for log lines, and for requests that wait for their events to be
//! flushed.
//!
//! No decision that keeps events safe depends on this.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lag::{Behind, Looks};
use crate::event::Timestamp;
use crate::support::sync::watch;
use crate::wal::id::{CheckpointRow, EventOutcomes, Sequence};
use crate::wal::log::DurableMark;

/// Watermarks and the state of the flush. One for the process.
#[derive(Debug)]
pub struct Progress {
    /// What the log thread publishes after each sync.
    durable: watch::Receiver<DurableMark>,
    /// Published by the flush thread after each confirmed commit.
    flushed_through: watch::Sender<Sequence>,
    /// The last confirmed checkpoint, with its counts; written by the flush thread.
    checkpoint: Mutex<Option<CheckpointRow>>,
    /// Written by the flush thread.
    flush: Mutex<FlushState>,
    /// Written by the flush thread, and by callers of [`Progress::behind`].
    looks: Mutex<Looks>,
}

/// How the flush is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlushState {
    /// The database has not answered yet.
    Starting,
    /// The last flush went well, or there was nothing to flush.
    Running,
    /// The database is unavailable; the flush tries again.
    Retrying {
        /// Error of the last attempt.
        reason: String,
        /// When the first of these attempts failed.
        since: Instant,
    },
    /// Log and database do not fit together as they are, and a person must say how to go on.
    Asking {
        /// What was found and what can be done; contains no secrets.
        reason: String,
    },
    /// A person must act: the schema is not ours, or quarantine itself fails.
    Stopped {
        /// What to fix.
        reason: String,
    },
}

/// What became of the events of this server's log, over all its starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Events that are or were on disk: the log's last sequence.
    pub accepted: u64,
    /// What the database has counted: applied, duplicates, quarantined, skipped.
    pub counts: EventOutcomes,
    /// Events that are not in the database yet.
    pub pending: u64,
}

impl Balance {
    /// Events whose fate is unknown: accepted - (applied + duplicates + quarantined + skipped + pending). Anything but
    /// 0 is a defect: below 0 something was stored twice, above it something was lost.
    pub fn unaccounted(&self) -> i64 {
        let known = i128::from(self.counts.sum()) + i128::from(self.pending);
        let unknown = i128::from(self.accepted) - known;
        i64::try_from(unknown).unwrap_or(if unknown < 0 { i64::MIN } else { i64::MAX })
    }
}

impl Progress {
    /// Progress of a log that publishes its `durable` mark. Its checkpoint is not known yet, but everything up to
    /// `flushed_through` was retired, so it is certainly flushed.
    pub fn new(durable: watch::Receiver<DurableMark>, flushed_through: Sequence) -> Arc<Self> {
        let progress = Arc::new(Self {
            durable,
            flushed_through: watch::channel(flushed_through).0,
            checkpoint: Mutex::new(None),
            flush: Mutex::new(FlushState::Starting),
            looks: Mutex::default(),
        });
        progress.look();
        progress
    }

    /// Everything up to this sequence is on disk.
    pub fn durable_through(&self) -> Sequence {
        self.durable.borrow().through
    }

    /// Everything up to this sequence is in the database, as far as is known: exact once the checkpoint was read.
    pub fn flushed_through(&self) -> Sequence {
        *self.flushed_through.borrow()
    }

    /// Returns once everything up to `sequence` is in the database: a query made afterwards sees those events.
    pub async fn flushed(&self, sequence: Sequence) {
        let mut flushed_through = self.flushed_through.subscribe();
        // `self` holds the sender, so waiting cannot fail.
        drop(flushed_through.wait_for(|through| *through >= sequence).await);
    }

    /// Events that are on disk and not yet in the database.
    pub fn flush_lag(&self) -> u64 {
        // Read the flushed mark first: the durable one can only have grown in between.
        let flushed = self.flushed_through();
        self.durable_through().saturating_sub(flushed)
    }

    /// Remembers how far the log is now, and the time.
    pub fn look(&self) {
        // The time first: events that come in between were accepted after it.
        let (clock, at) = (Timestamp::now(), Instant::now());
        let durable_through = self.durable_through();
        self.lock_looks().add(clock, at, durable_through);
    }

    /// How far the flush is behind; `None` if everything that is on disk is in the database.
    pub fn behind(&self) -> Option<Behind> {
        let flushed = self.flushed_through();
        let events = self.durable_through().saturating_sub(flushed);
        if events == 0 {
            return None;
        }
        self.look();
        let look = self.lock_looks().flushed(flushed);
        Some(Behind {
            events,
            since: look.map(|look| (look.clock, look.at.elapsed())),
        })
    }

    /// How the flush is doing.
    pub fn flush_state(&self) -> FlushState {
        self.lock_flush().clone()
    }

    /// What became of every event that was accepted; `None` until the database has answered.
    pub fn balance(&self) -> Option<Balance> {
        let checkpoint = *self.lock_checkpoint();
        let CheckpointRow {
            flushed_through,
            counts,
            ..
        } = checkpoint?;
        // The checkpoint was read first: the durable mark can only have grown in between.
        let accepted = self.durable_through().max(flushed_through);
        Some(Balance {
            accepted,
            counts,
            pending: accepted - flushed_through,
        })
    }

    /// Whether the flush waits for a person's decision.
    pub fn is_asking(&self) -> bool {
        matches!(*self.lock_flush(), FlushState::Asking { .. })
    }

    /// Whether the flush ever skipped events without storing them, on a person's decision.
    pub fn has_skipped(&self) -> bool {
        self.lock_checkpoint().is_some_and(|row| row.counts.skipped > 0)
    }

    /// Sets the checkpoint, after it was read or moved by a confirmed commit.
    pub fn set_checkpoint(&self, row: CheckpointRow) {
        *self.lock_checkpoint() = Some(row);
    }

    fn lock_checkpoint(&self) -> std::sync::MutexGuard<'_, Option<CheckpointRow>> {
        // The row is replaced whole, so a panic elsewhere cannot have left it half written.
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes that the database has everything up to `sequence`. Called by the flush thread alone.
    pub fn set_flushed_through(&self, sequence: Sequence) {
        // Wakes the waiting requests once a flush, however many events it had.
        self.flushed_through.send_replace(sequence);
    }

    /// The last flush went well, or there was nothing to flush.
    pub fn set_running(&self) {
        *self.lock_flush() = FlushState::Running;
    }

    /// An attempt failed and will be repeated. Returns for how long the flush has been failing.
    pub fn set_retrying(&self, reason: &str) -> Duration {
        let mut state = self.lock_flush();
        let since = match &*state {
            FlushState::Retrying { since, .. } => *since,
            _ => Instant::now(),
        };
        *state = FlushState::Retrying {
            reason: reason.to_owned(),
            since,
        };
        since.elapsed()
    }

    /// The flush cannot go on until a person acts. Returns whether that is new.
    pub fn set_stopped(&self, reason: &str) -> bool {
        self.set_news(FlushState::Stopped {
            reason: reason.to_owned(),
        })
    }

    /// The flush cannot go on until a person decides how. Returns whether that is new.
    pub fn set_asking(&self, reason: &str) -> bool {
        self.set_news(FlushState::Asking {
            reason: reason.to_owned(),
        })
    }

    fn set_news(&self, state: FlushState) -> bool {
        let mut current = self.lock_flush();
        let is_news = *current != state;
        *current = state;
        is_news
    }

    fn lock_looks(&self) -> std::sync::MutexGuard<'_, Looks> {
        // Each look is whole, and a missing one does no harm.
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_flush(&self) -> std::sync::MutexGuard<'_, FlushState> {
        // The state is replaced whole, so a panic elsewhere cannot have left it half written.
        self.flush.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_wakes_up_at_the_flush_that_covers_it() {
        let nothing = DurableMark {
            through: 0,
            active_first: 1,
            active_end: 0,
        };
        let durable = watch::channel(nothing).0;
        let progress = Progress::new(durable.subscribe(), 3);
        progress.flushed(3).await;
        let waiting = tokio::spawn({
            let progress = Arc::clone(&progress);
            async move { progress.flushed(10).await }
        });
        tokio::task::yield_now().await;
        progress.set_flushed_through(9);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "one event is missing");
        progress.set_flushed_through(20);
        waiting.await.unwrap();
        assert_eq!(progress.flushed_through(), 20);
    }
}
