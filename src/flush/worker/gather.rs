//! Waiting for the events of the next batch.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{FlushError, Flusher};
use crate::flush::settings::FlushSettings;
use crate::flush::stop::{FlushStop, MINUTE};
use crate::wal::batch::Batch;
use crate::wal::disk::Disk;
use crate::wal::reader::LogReader;

/// Wait between checks of a batch that waits to fill: it may be full long before the flush interval ends. Short
/// compared with storing a full batch, and long enough to cost nothing.
const LINGER_RECHECK: Duration = Duration::from_millis(10);

/// How waiting for events ended.
pub(super) enum Gathered {
    /// There is something to flush.
    Batch,
    /// Nothing came for a while.
    Idle,
    /// Told to stop, or drained.
    Stopped,
}

impl<D: Disk> Flusher<D> {
    /// Waits for events and fills the batch, which is empty.
    ///
    /// Under load the batch fills while the previous one is being stored, so batches grow by themselves. When traffic
    /// is light, the first event waits for more, but no longer than the flush interval.
    pub(super) async fn gather(
        &mut self,
        reader: &mut LogReader<D>,
        batch: &mut Batch,
    ) -> Result<Gathered, FlushError> {
        let rows_max = self.outage.rows();
        let FlushSettings {
            bytes_max, interval, ..
        } = self.settings;
        let mut durable = self.log.subscribe();
        let mut linger_until = None;
        loop {
            drop(durable.borrow_and_update());
            self.progress.look();
            let is_full = reader.fill(batch, rows_max, bytes_max)?;
            let stop = *self.stop.borrow_and_update();
            match stop {
                FlushStop::Now => return Ok(Gathered::Stopped),
                FlushStop::Drain(until) if batch.is_empty() || Instant::now() >= until => {
                    return Ok(Gathered::Stopped);
                }
                FlushStop::Drain(_) => return Ok(Gathered::Batch),
                FlushStop::Running if is_full => return Ok(Gathered::Batch),
                FlushStop::Running => {}
            }
            if !batch.is_empty() && linger_until.is_none() {
                linger_until = Some(Instant::now() + interval);
            }
            let now = Instant::now();
            let deadline = linger_until.unwrap_or(now + MINUTE);
            tokio::select! {
                // While a batch waits to fill, new events do not wake the flush: a check now and then takes them all.
                grown = durable.changed(), if batch.is_empty() => if grown.is_err() { self.wait_for_stop().await },
                _ = self.stop.changed() => {}
                () = sleep_until(deadline.min(now + LINGER_RECHECK)), if !batch.is_empty() => {
                    if Instant::now() >= deadline {
                        reader.fill(batch, rows_max, bytes_max)?;
                        return Ok(Gathered::Batch);
                    }
                }
                () = sleep_until(deadline), if batch.is_empty() => return Ok(Gathered::Idle),
            }
        }
    }

    /// Waits for the order to stop: the log thread is gone, so no event will come, and the composition root is about to
    /// say how to stop.
    async fn wait_for_stop(&mut self) {
        while *self.stop.borrow_and_update() == FlushStop::Running {
            if self.stop.changed().await.is_err() {
                return;
            }
        }
    }
}
