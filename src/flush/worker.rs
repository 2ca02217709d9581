//! The flush loop: connect, read the checkpoint, then batch after batch until something is in doubt; then from the start.
//!
//! Going on always begins with the checkpoint that the database holds. There is no other memory of what was flushed, so a lost
//! connection, an unknown commit and a restart of the server are the same case.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::Backoff;
use crate::batch::{Batch, BatchView, Sequence, WalId};
use crate::config::FlushSettings;
use crate::store::{EventSink, EventStore, StoreError};
use crate::telemetry::Progress;
use crate::wal::disk::{Disk, RealDisk};
use crate::wal::reader::LogReader;
use crate::wal::{Log, WalError};

/// Wait between looks at a schema that is not ours: a person has to act first.
const SCHEMA_RECHECK: Duration = Duration::from_secs(5);
/// An idle wait's length, where only an event or a stop matters.
const MINUTE: Duration = Duration::from_secs(60);

/// What the flush is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushStop {
    /// Go on.
    Running,
    /// The log will not grow any more: flush what it holds, but end at this instant.
    Drain(Instant),
    /// End before the next batch.
    Now,
}

/// Why the flush ended for good. Nothing acknowledged is lost by it; the process must end and a person look.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The log cannot be read back.
    #[error(transparent)]
    Log(#[from] WalError),
    /// Checkpoint and log do not belong together: going on would skip or lose events.
    #[error("{0}")]
    Mismatch(String),
}

/// The flush of one log into one store.
pub struct Flusher<D: Disk = RealDisk> {
    log: Arc<Log<D>>,
    store: Arc<dyn EventStore>,
    settings: FlushSettings,
    progress: Arc<Progress>,
    stop: watch::Receiver<FlushStop>,
    /// Set once the checkpoint was held against the log.
    checkpoint_judged: bool,
}

/// How one stay on a connection ended.
enum Ended {
    /// Told to stop, or drained.
    Stopped,
    /// Try again on a new connection.
    Doubt(StoreError),
}

impl<D: Disk> Flusher<D> {
    /// A flush that has not begun.
    pub fn new(
        log: Arc<Log<D>>,
        store: Arc<dyn EventStore>,
        settings: FlushSettings,
        progress: Arc<Progress>,
        stop: watch::Receiver<FlushStop>,
    ) -> Self {
        Self {
            log,
            store,
            settings,
            progress,
            stop,
            checkpoint_judged: false,
        }
    }

    /// Flushes until told to stop. Rides through every failure of the database.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when log and database contradict each other, or the log is damaged.
    pub async fn run(mut self) -> Result<(), FlushError> {
        let mut backoff = Backoff::default();
        loop {
            let flushed_before = self.progress.flushed_through();
            let error = match self.flush_on_one_connection().await? {
                Ended::Stopped => return Ok(()),
                Ended::Doubt(error) => error,
            };
            if self.progress.flushed_through() > flushed_before {
                backoff.reset();
            }
            let wait = self.report(&error, &mut backoff);
            if !self.pause(wait).await {
                return Ok(());
            }
        }
    }

    async fn flush_on_one_connection(&mut self) -> Result<Ended, FlushError> {
        let store = Arc::clone(&self.store);
        let (wal_id, oldest) = (self.log.wal_id(), self.log.directory().oldest_sequence());
        let connect = async {
            let mut sink = store.open_sink().await?;
            let flushed_through = settle_checkpoint(sink.as_mut(), wal_id, oldest).await?;
            Ok((sink, flushed_through))
        };
        let (mut sink, flushed_through) = match self.unless_stopped(connect).await {
            None => return Ok(Ended::Stopped),
            Some(Err(error)) => return Ok(Ended::Doubt(error)),
            Some(Ok(connected)) => connected,
        };
        self.judge_checkpoint(flushed_through, oldest)?;
        self.confirm(flushed_through)?;
        let mut reader = LogReader::new(Arc::clone(&self.log), flushed_through);
        let mut batch = Batch::new(self.log.wal_id(), flushed_through);
        loop {
            if !self.gather(&mut reader, &mut batch).await? {
                return Ok(Ended::Stopped);
            }
            let Some(flushed) = self
                .unless_stopped(flush_or_bisect(sink.as_mut(), batch.view()))
                .await
            else {
                return Ok(Ended::Stopped);
            };
            if let Err(error) = flushed {
                return Ok(Ended::Doubt(error));
            }
            self.confirm(batch.view().through())?;
        }
    }

    /// A checkpoint outside of what the log holds means that one of the two was restored, lost or copied.
    fn judge_checkpoint(
        &mut self,
        flushed_through: Sequence,
        oldest: Sequence,
    ) -> Result<(), FlushError> {
        let wal_id = self.log.wal_id();
        // Only the first look may be compared with what recovery found: from then on this flush moves the checkpoint itself.
        let newest = if self.checkpoint_judged {
            self.log.durable().through
        } else {
            self.log.recovered_through()
        };
        if flushed_through > newest {
            return Err(FlushError::Mismatch(format!(
                "the database has stored log {wal_id} through sequence {flushed_through}, but the log ends at {newest}: the log \
                 directory is an old copy or has lost data. Nothing was changed. Restore the newer log directory, or move this \
                 one away to begin a new log"
            )));
        }
        if flushed_through + 1 < oldest {
            return Err(FlushError::Mismatch(format!(
                "the database has stored log {wal_id} through sequence {flushed_through}, but the log begins at {oldest}: events \
                 in between are missing, as after restoring an older database backup. Nothing was changed. Restore the newer \
                 database, or move the log directory away to begin a new log once its events are no longer wanted"
            )));
        }
        self.checkpoint_judged = true;
        Ok(())
    }

    /// Records a confirmed commit and retires the segments that it makes superfluous.
    fn confirm(&self, flushed_through: Sequence) -> Result<(), FlushError> {
        self.progress.set_flushed_through(flushed_through);
        self.progress.set_running();
        self.log.retire_through(flushed_through)?;
        Ok(())
    }

    /// Waits for events and fills the batch; `false` when there is nothing left to do.
    ///
    /// Under load the batch fills while the previous one is being stored, so batches grow by themselves. When traffic is light,
    /// the first event waits for company, but no longer than the flush interval.
    async fn gather(
        &mut self,
        reader: &mut LogReader<D>,
        batch: &mut Batch,
    ) -> Result<bool, FlushError> {
        let FlushSettings {
            rows_max,
            bytes_max,
            interval,
        } = self.settings;
        let mut durable = self.log.subscribe();
        batch.reset(self.progress.flushed_through());
        let mut linger_until = None;
        loop {
            durable.mark_unchanged();
            reader.fill(batch, rows_max, bytes_max)?;
            let is_full =
                batch.len() >= rows_max || batch.bytes_len() >= bytes_max || reader.backlog() > 0;
            let stop = *self.stop.borrow_and_update();
            match stop {
                FlushStop::Now => return Ok(false),
                FlushStop::Drain(until) if batch.is_empty() || Instant::now() >= until => {
                    return Ok(false);
                }
                FlushStop::Drain(_) => return Ok(true),
                FlushStop::Running if is_full => return Ok(true),
                FlushStop::Running => {}
            }
            if !batch.is_empty() && linger_until.is_none() {
                linger_until = Some(Instant::now() + interval);
            }
            let deadline = linger_until.unwrap_or_else(|| Instant::now() + MINUTE);
            tokio::select! {
                // While a batch lingers, more events alone are no reason to look: one look at the deadline takes them all.
                grown = durable.changed(), if batch.is_empty() => if grown.is_err() { self.wait_for_stop().await },
                _ = self.stop.changed() => {}
                () = tokio::time::sleep_until(deadline) => {
                    if linger_until.is_some() {
                        reader.fill(batch, rows_max, bytes_max)?;
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// The log thread is gone, so nothing will grow: the composition root is about to say how to stop.
    async fn wait_for_stop(&mut self) {
        while *self.stop.borrow_and_update() == FlushStop::Running {
            if self.stop.changed().await.is_err() {
                return;
            }
        }
    }

    /// Runs `work`, unless the flush is told to end first: then `None`, and the outcome of the work is unknown.
    async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            let stop = *self.stop.borrow_and_update();
            let deadline = match stop {
                FlushStop::Now => return None,
                FlushStop::Drain(until) => until,
                FlushStop::Running => Instant::now() + MINUTE,
            };
            tokio::select! {
                done = timeout_at(deadline, &mut work) => match (done, stop) {
                    (Ok(done), _) => return Some(done),
                    (Err(_), FlushStop::Running) => {}
                    (Err(_), _) => return None,
                },
                changed = self.stop.changed() => if changed.is_err() { return None },
            }
        }
    }

    /// Waits before the next attempt; `false` when told to end.
    async fn pause(&mut self, wait: Duration) -> bool {
        self.unless_stopped(sleep(wait)).await.is_some()
    }

    /// Says what went wrong, once, and how long to wait.
    fn report(&self, error: &StoreError, backoff: &mut Backoff) -> Duration {
        let backlog = self.progress.flush_lag();
        if let StoreError::Schema(reason) = error {
            if self.progress.set_stopped(reason) {
                tracing::error!(backlog, "flushing stopped, ingestion goes on: {reason}");
            }
            return SCHEMA_RECHECK;
        }
        let wait = backoff.next_wait();
        let since = self.progress.set_retrying(&error.to_string());
        tracing::warn!(
            backlog,
            failing_for_s = since.as_secs(),
            retry_in_ms = wait.as_millis() as u64,
            "cannot flush, ingestion goes on: {error}"
        );
        wait
    }
}

/// Reads the checkpoint, or makes it for a log that the database has never heard of.
async fn settle_checkpoint(
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

/// Flushes a batch; when the database refuses the data, halves it until the one bad event is found, and quarantines that.
///
/// Each part moves the checkpoint in its own transaction, so a crash in the middle goes on from there.
async fn flush_or_bisect(sink: &mut dyn EventSink, batch: BatchView<'_>) -> Result<(), StoreError> {
    // Parts still to do, the next one last: the checkpoint must move through them in order.
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        match sink.flush(part).await {
            Ok(_) => {}
            Err(StoreError::Data { code, message }) if part.len() == 1 => {
                tracing::error!(
                    sequence = part.through(),
                    code,
                    "event quarantined, the database refuses it: {message}"
                );
                sink.quarantine(part, &code, &message).await?;
            }
            Err(StoreError::Data { .. }) => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.push(right);
                parts.push(left);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
