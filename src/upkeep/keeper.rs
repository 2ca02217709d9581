//! Keeping the rollups: a loop that compacts the deltas of the flush, and sums up days when no deltas are left.
//!
//! The keeper has a thread of its own, apart from the flush: the flush empties the log, so it must wait neither for
//! rows that are only merged into other rows, nor for another process's rollup lock. In PostgreSQL the two never wait
//! for each other. SQLite has one writer: there the flush waits for one transaction of the keeper, and gets its turn in
//! the pauses between them.
//!
//! Nothing is lost when the keeper fails or stops anywhere, since each step is one transaction of
//! [`compact`](super::compact): queries read deltas as well as parts, and only read more rows. So the keeper retries
//! for as long as a database is unavailable, and a stop may interrupt it at any point.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::compact::{Limits, compact, sum_up_days};
use super::rebuild::{Settled, settle_one_day};
use crate::event::Timestamp;
use crate::store::outage::{Failed, Outage, SESSION_AGE_MAX};
use crate::store::{EventStore, RollupStore, StoreError};
use crate::support::shutdown::StopToken;
use crate::support::words::plural;
use crate::upkeep::settings::RollupSettings;

/// Longest pause between two transactions when there is more to do. A flush that waits for SQLite's writer retries
/// after 100 ms at the most.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Shortest time between summing up all days and looking for stale ones again. Late events may keep coming in, and an
/// import may fill a day bit by bit; each sum reads the whole day.
const SUMS_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Summing up pauses for this many times its own duration, so that an import into many days does not keep a core busy
/// with their sums.
const SUMS_PAUSE_FACTOR: u32 = 10;
/// Each failure halves the size of the next compaction, down to this many deltas.
const ROWS_MIN: usize = 100;
/// Wait between checks of a schema that this release cannot use: a person has to act first. Longer than the flush's,
/// because damaged rollups count as such too, and each attempt takes the lock for writing.
const SCHEMA_RECHECK: Duration = Duration::from_secs(30);

/// The keeper of one store's rollups. Several processes may have one each: the store's lock lets one of them work at a
/// time.
pub struct Keeper {
    store: Arc<dyn EventStore>,
    interval: Duration,
    limits: Limits,
    stop: StopToken,
    /// Its rows are the deltas of the next compaction. Halved when one fails, because they may have been too many for
    /// the database's timeouts.
    outage: Outage,
    /// Whether the last compaction left deltas or minutes.
    left_some: bool,
    sums: Sums,
}

/// When the next step is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There is more to do.
    AtOnce,
    /// There is more to do, but the lock is taken. In SQLite it is mostly the flush that holds it; if each failed attempt cost an
    /// interval, a busy flush would leave no chance to compact.
    Soon,
    /// There is nothing to do now.
    AfterInterval,
}

/// When days are summed up.
struct Sums {
    /// Earliest time of the next sums.
    due_at: Instant,
    /// Time spent on the sums that are under way.
    spent: Duration,
}

impl Keeper {
    /// A keeper that does nothing before [`Keeper::run`].
    pub fn new(store: Arc<dyn EventStore>, settings: RollupSettings, stop: StopToken) -> Self {
        let limits = Limits::new(settings.cap.pairs_per_day_max);
        Self {
            store,
            interval: settings.interval,
            outage: Outage::new(ROWS_MIN, limits.deltas_max, SCHEMA_RECHECK),
            left_some: false,
            limits,
            stop,
            sums: Sums {
                due_at: Instant::now(),
                spent: Duration::ZERO,
            },
        }
    }

    /// Keeps the rollups until the stop, and then drops the step under way. Retries after every failure of the
    /// database.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.stopped() => {}
            never = self.keep() => match never {}
        }
    }

    async fn keep(&mut self) -> Infallible {
        loop {
            if let Err(error) = self.keep_on_one_connection().await {
                self.outage.halve();
                let wait = self.report(&error);
                sleep(wait).await;
            }
        }
    }

    /// Runs step after step, until the connection is old or closed.
    async fn keep_on_one_connection(&mut self) -> Result<(), StoreError> {
        let mut store = self.store.open_rollups().await?;
        let opened_at = Instant::now();
        while opened_at.elapsed() < SESSION_AGE_MAX {
            let began_at = Instant::now();
            let next = self.step(store.as_mut()).await?;
            self.note_well();
            sleep(match next {
                // As long as the step took: a flush that waits for SQLite's writer retries within that time, so it is
                // not starved.
                Next::AtOnce => began_at.elapsed().min(PAUSE_MAX),
                Next::Soon => PAUSE_MAX.min(self.interval),
                Next::AfterInterval => self.interval,
            })
            .await;
            // Servers, poolers and firewalls close idle connections, which is not a failure.
            if store.is_closed() {
                break;
            }
        }
        Ok(())
    }

    /// Compacts, or sums up days when nothing is left to compact. Returns when to go on.
    async fn step(&mut self, store: &mut dyn RollupStore) -> Result<Next, StoreError> {
        let limits = Limits {
            deltas_max: self.outage.rows(),
            ..self.limits
        };
        let compacted = compact(store, Timestamp::now(), &limits).await?;
        self.outage.grow();
        if compacted.is_locked_elsewhere {
            return Ok(if self.left_some {
                Next::Soon
            } else {
                Next::AfterInterval
            });
        }
        self.left_some = compacted.has_more;
        if compacted.deltas > 0 || compacted.minutes > 0 {
            let (deltas, minutes) = (compacted.deltas, compacted.minutes);
            tracing::debug!(
                deltas,
                minutes,
                "compacted {} and {}",
                plural(deltas, "delta"),
                plural(minutes, "minute")
            );
        }
        if compacted.has_more {
            return Ok(Next::AtOnce);
        }
        let began_at = Instant::now();
        if began_at < self.sums.due_at {
            return Ok(Next::AfterInterval);
        }
        let summed_up = sum_up_days(store, Timestamp::now(), &self.limits).await?;
        self.sums.note(began_at.elapsed(), summed_up.has_more);
        // After `note`, so that a failure here is not retried at once.
        if !summed_up.has_more && !summed_up.is_locked_elsewhere {
            self.settle_one_day(store).await?;
        }
        Ok(if summed_up.has_more {
            Next::AtOnce
        } else {
            Next::AfterInterval
        })
    }

    /// Rebuilds at most one day a call, because that reads all events of the day.
    async fn settle_one_day(&self, store: &mut dyn RollupStore) -> Result<(), StoreError> {
        let pairs_max = self.limits.pairs_per_day_max;
        match settle_one_day(store, pairs_max, Timestamp::now()).await? {
            None => {}
            Some(Settled::Rebuilt(day)) => tracing::info!(
                "{day} had more than {pairs_max} pairs of event name and channel and has ended: rebuilt its rollups for those with \
                 most events"
            ),
            Some(Settled::LeftAlone(day)) => tracing::warn!(
                "{day} had more than {pairs_max} pairs of event name and channel and has too many events to rebuild beside the server's \
                 work: `fast-ingest rollup rebuild --from {day} --to {day}` gives the pairs with most events rollups"
            ),
        }
        Ok(())
    }

    /// Notes a step that succeeded. A mere connection would prove nothing: the database's disk may be full.
    fn note_well(&mut self) {
        if self.outage.end() {
            tracing::info!("the database works again, rollups are kept again");
        }
    }

    /// Logs what went wrong, as often as the reminder allows, and returns how long to wait.
    fn report(&mut self, error: &StoreError) -> Duration {
        let Failed { wait, is_due } = self.outage.note_failure(error.schema());
        if let Some(reason) = error.schema() {
            if is_due {
                tracing::error!("rollups are not kept, queries read more and more rows: {reason}");
            }
            return wait;
        }
        if is_due {
            tracing::warn!(
                "cannot keep the rollups, trying again; until then queries that the database answers read more rows, and none is wrong: {error}"
            );
        }
        wait
    }
}

impl Sums {
    /// Notes one transaction of summing up. With `has_more` the next follows at once, otherwise the pause begins.
    fn note(&mut self, took: Duration, has_more: bool) {
        self.spent += took;
        if has_more {
            return;
        }
        let pause = (self.spent * SUMS_PAUSE_FACTOR).max(SUMS_INTERVAL_MIN);
        self.due_at = Instant::now() + pause;
        self.spent = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests;
