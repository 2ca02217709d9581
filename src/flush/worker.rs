//! The flush loop: connect, read the checkpoint, then batch after batch until something is in doubt; then again from
//! the start.
//!
//! The flush always goes on from the checkpoint that the database holds. There is no other memory of what was flushed,
//! so a lost connection, an unknown commit and a restart of the server are the same case.

mod gather;
mod report;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::gather::Gathered;
use super::bisect;
use super::checkpoint::{Checkpoint, HOW_TO_ANSWER, Question, WHAT_TO_DO};
use super::look::{self, Looked, Trouble, look};
use super::stop::{FlushStop, unless_stopped};
use crate::flush::progress::Progress;
use crate::flush::settings::FlushSettings;
use crate::store::outage::{Outage, SESSION_AGE_MAX};
use crate::store::{EventSink, EventStore, SinkError, StoreError};
use crate::wal::batch::Batch;
use crate::wal::disk::{Disk, RealDisk};
use crate::wal::id::{CheckpointRow, Sequence};
use crate::wal::reader::LogReader;
use crate::wal::{Log, WalError};

/// Wait between looks at a schema that is not ours: a person has to act first.
const SCHEMA_RECHECK: Duration = Duration::from_secs(5);
/// Wait between looks for a person's answer. Short, because the person may be waiting for the flush to go on.
const ANSWER_RECHECK: Duration = Duration::from_secs(2);
/// A session that was used more recently is not checked for being closed: if sessions end as soon as they begin, the
/// flush must run into its backoff.
const IDLE_MIN: Duration = Duration::from_millis(50);
/// Failures never make a batch smaller than this: in smaller batches a row costs several times as much.
const ROWS_MIN: usize = 500;

/// Why the flush ended for good. No acknowledged event is lost; the process must end, and a person must find out why.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The log cannot be read back.
    #[error(transparent)]
    Log(#[from] WalError),
}

/// The flush of one log into one store.
pub struct Flusher<D: Disk = RealDisk> {
    log: Arc<Log<D>>,
    store: Arc<dyn EventStore>,
    settings: FlushSettings,
    progress: Arc<Progress>,
    stop: watch::Receiver<FlushStop>,
    checkpoint: Checkpoint,
    /// Its rows are those of the next batch, beyond which no record is added.
    outage: Outage,
}

/// A connection, and the checkpoint that was found there.
type Connected = (Box<dyn EventSink>, CheckpointRow);

/// Why the flush leaves a connection.
enum Ended {
    /// Told to stop, or drained.
    Stopped,
    /// Go on with a new connection.
    Aged,
    /// Try again on a new connection.
    Doubt(SinkError),
    /// A person has to decide something first.
    Asks(Question),
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
            checkpoint: Checkpoint::default(),
            outage: Outage::new(ROWS_MIN, settings.rows_max, SCHEMA_RECHECK),
            log,
            store,
            settings,
            progress,
            stop,
        }
    }

    /// Flushes until told to stop. Outlasts every failure of the database.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when the log cannot be read, or its notes cannot be written.
    pub async fn run(mut self) -> Result<(), FlushError> {
        let outcome = self.flush_until_stopped().await;
        if outcome.is_ok() {
            // So that the next start knows what is flushed without asking the database.
            look::catch_up(&self.log, &self.checkpoint)?;
        }
        outcome
    }

    async fn flush_until_stopped(&mut self) -> Result<(), FlushError> {
        loop {
            let ended = match self.log.mismatch() {
                Some(text) => self.wait_for_an_answer(&text).await?,
                None => self.flush_on_one_connection().await?,
            };
            let error = match ended {
                Ended::Stopped => return Ok(()),
                Ended::Aged => continue,
                Ended::Asks(question) => {
                    self.report_question(question);
                    if self.pause(ANSWER_RECHECK).await {
                        return Ok(());
                    }
                    continue;
                }
                Ended::Doubt(error) => error,
            };
            let wait = self.report(&error);
            if unless_stopped(&mut self.stop, &self.progress, sleep(wait))
                .await
                .is_none()
            {
                return Ok(());
            }
        }
    }

    /// Reads the checkpoint once before the start, so that a server accepts no event if log and database do not match.
    /// A database that does not answer does not prevent the start.
    ///
    /// # Errors
    ///
    /// [`FlushError::Log`] when the log cannot be read, or the mismatch cannot be written down.
    pub async fn look_first(&mut self) -> Result<(), FlushError> {
        let looked = look::look_before_start(self.store.as_ref(), &self.log, &mut self.checkpoint);
        match looked.await {
            Ok(()) => {
                if let Some((_, row)) = self.checkpoint.confirmed() {
                    self.progress.set_flushed_through(row.flushed_through);
                }
                Ok(())
            }
            Err(Trouble::Sink(error)) => {
                tracing::debug!("cannot read the checkpoint before the start: {error}");
                Ok(())
            }
            Err(Trouble::Log(error)) => Err(error.into()),
            Err(Trouble::Mismatch(text)) => Ok(self.log.set_mismatch(&text)?),
        }
    }

    /// Log and database do not belong together: nothing is flushed or accepted until a person has decided. The process
    /// keeps running, so that it can report what is wrong and notice the decision.
    async fn wait_for_an_answer(&mut self, text: &str) -> Result<Ended, FlushError> {
        self.progress.set_asking(text);
        tracing::error!(
            wal_id = %self.log.wal_id(),
            "log and database do not belong together, so no event is accepted or flushed: {text}. {WHAT_TO_DO}"
        );
        while !self.pause(ANSWER_RECHECK).await {
            if self.log.adopted().is_none() {
                continue;
            }
            let (store, log, checkpoint) = (&self.store, &self.log, &mut self.checkpoint);
            let taking_up = async {
                let mut sink = store.open_sink().await?;
                look::take_up_answer(sink.as_mut(), log, checkpoint).await
            };
            match unless_stopped(&mut self.stop, &self.progress, taking_up).await {
                None => return Ok(Ended::Stopped),
                Some(Ok(true)) => return Ok(Ended::Aged),
                Some(Ok(false) | Err(Trouble::Mismatch(_))) => {}
                Some(Err(Trouble::Sink(error))) => {
                    tracing::debug!("cannot look for an answer: {error}");
                }
                Some(Err(Trouble::Log(error))) => return Err(error.into()),
            }
        }
        Ok(Ended::Stopped)
    }

    /// Waits for `time`, or until told to stop: then returns `true`.
    async fn pause(&mut self, time: Duration) -> bool {
        let is_stopped = |stop: &FlushStop| *stop != FlushStop::Running;
        tokio::select! {
            // Stops also when the sender is gone: nobody could tell it to stop any more.
            _ = self.stop.wait_for(is_stopped) => true,
            () = sleep(time) => false,
        }
    }

    /// Opens a connection and reads where the flush goes on from; or says why it cannot go on there.
    async fn connect(&mut self) -> Result<Result<Connected, Ended>, FlushError> {
        let (store, log) = (Arc::clone(&self.store), Arc::clone(&self.log));
        let checkpoint = &mut self.checkpoint;
        let connect = async {
            let mut sink = store.open_sink().await?;
            let looked = look(sink.as_mut(), &log, checkpoint).await?;
            Ok((sink, looked))
        };
        let ended = match unless_stopped(&mut self.stop, &self.progress, connect).await {
            None => Ended::Stopped,
            Some(Ok((sink, Looked::Matches(row)))) => return Ok(Ok((sink, row))),
            Some(Ok((_, Looked::Asks(question)))) => Ended::Asks(question),
            Some(Ok((_, Looked::TakenUp))) => Ended::Aged,
            Some(Err(trouble)) => self.end_of(trouble)?,
        };
        Ok(Err(ended))
    }

    async fn flush_on_one_connection(&mut self) -> Result<Ended, FlushError> {
        let (mut sink, row) = match self.connect().await? {
            Ok(connected) => connected,
            Err(ended) => return Ok(ended),
        };
        let mut flushed_through = row.flushed_through;
        self.note_flushed(flushed_through)?;
        if flushed_through >= self.log.durable().through {
            // There is no batch to test the database with, so its answer must be enough.
            self.note_well();
        }
        let opened_at = Instant::now();
        let mut used_at = opened_at;
        let mut reader = LogReader::new(Arc::clone(&self.log), flushed_through);
        let mut batch = Batch::new(self.log.wal_id(), flushed_through);
        loop {
            if opened_at.elapsed() >= SESSION_AGE_MAX {
                return Ok(Ended::Aged);
            }
            batch.reset(flushed_through);
            match self.gather(&mut reader, &mut batch).await? {
                Gathered::Batch => {}
                Gathered::Idle => {
                    look::catch_up(&self.log, &self.checkpoint)?;
                    continue;
                }
                Gathered::Stopped => return Ok(Ended::Stopped),
            }
            // Servers, poolers and firewalls close idle sessions. That is not a failure.
            if used_at.elapsed() >= IDLE_MIN && sink.is_closed() {
                let row;
                (sink, row) = match self.connect().await? {
                    Ok(connected) => connected,
                    Err(ended) => return Ok(ended),
                };
                if row.flushed_through != flushed_through {
                    return Ok(Ended::Aged);
                }
            }
            let flushing = bisect::flush(sink.as_mut(), batch.view(), &mut self.checkpoint, &self.log);
            let Some(flushed) = unless_stopped(&mut self.stop, &self.progress, flushing).await else {
                return Ok(Ended::Stopped);
            };
            if let Err(trouble) = flushed {
                self.outage.halve();
                return self.end_of(trouble);
            }
            self.outage.grow();
            flushed_through = batch.view().through();
            used_at = Instant::now();
            self.note_flushed(flushed_through)?;
            self.note_well();
        }
    }

    /// Why the flush leaves its connection after such trouble.
    fn end_of(&self, trouble: Trouble) -> Result<Ended, FlushError> {
        match trouble {
            Trouble::Log(error) => Err(error.into()),
            Trouble::Sink(error) => {
                if matches!(
                    error,
                    SinkError::CheckpointMoved | SinkError::Store(StoreError::Schema(_))
                ) {
                    // The database answered with a definite no, so the commit that was noted is not in doubt.
                    look::note_confirmed(&self.log, &self.checkpoint)?;
                }
                Ok(Ended::Doubt(error))
            }
            // The next turn of the loop finds the mismatch and waits.
            Trouble::Mismatch(text) => {
                self.log.set_mismatch(&text)?;
                Ok(Ended::Aged)
            }
        }
    }

    /// The database has everything up to here: publishes that, and retires the segments that are no longer needed.
    fn note_flushed(&self, flushed_through: Sequence) -> Result<(), FlushError> {
        if let Some((_, row)) = self.checkpoint.confirmed() {
            self.progress.set_checkpoint(row);
        }
        self.progress.set_flushed_through(flushed_through);
        self.log.retire_through(flushed_through)?;
        Ok(())
    }

    /// A flush went well, or there was nothing to flush. A mere connection is no proof: the database's disk may be
    /// full.
    fn note_well(&mut self) {
        self.progress.set_running();
        if self.outage.end() {
            tracing::info!(backlog = self.progress.flush_lag(), "flushing goes on");
        }
    }
}
