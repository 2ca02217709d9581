//! Keeping the rollups: a loop that compacts what the flushes leave, and sums up days when there is time.
//!
//! It has a thread of its own and is no part of the flush, because the flush is what empties the log: it must not wait
//! for rows that are only read back to be written elsewhere, nor for another process's rollup lock. In PostgreSQL the
//! two never wait for each other; in SQLite, which has one writer, the flush waits for one transaction, and the pauses
//! between them let it in.
//!
//! Nothing is lost when it fails or stops anywhere, since each step is one transaction of [`compact`](super::compact):
//! queries read deltas as well as parts, they only read more rows. So a database that is away is ridden out, and a stop
//! cuts it short.

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

/// Longest pause between two transactions when there is more to do. SQLite's waiting flush looks again after 100 ms at
/// the most.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Shortest time from when all days were summed up to the next look. Late events may trickle in for as long as they
/// like, and an import may fill a day bit by bit; each time the whole day is read.
const SUMS_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Summing up pauses for this many times what it took, so that an import into many days does not keep a core busy with
/// their sums.
const SUMS_PAUSE_FACTOR: u32 = 10;
/// Compactions that fail are made smaller, down to this many rows.
const ROWS_MIN: usize = 100;

/// The keeper of one store's rollups. Several processes may have one each: the store's lock lets one at a time do the
/// work.
pub struct Keeper {
    store: Arc<dyn EventStore>,
    interval: Duration,
    limits: Limits,
    stop: StopToken,
    /// Its rows are the deltas of the next compaction.
    outage: Outage,
    /// Whether the last compaction left some.
    left_some: bool,
    sums: Sums,
}

/// When the next step is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There is more to do.
    AtOnce,
    /// There is more to do, and somebody else holds the lock. In SQLite that is mostly the flush, in the gaps of which
    /// nothing would ever be compacted if each of them cost an interval.
    Soon,
    /// There is nothing to do just now.
    AfterInterval,
}

/// When days are summed up.
struct Sums {
    /// Not before this.
    due_at: Instant,
    /// Spent since then.
    spent: Duration,
}

impl Keeper {
    /// A keeper that has not begun.
    pub fn new(store: Arc<dyn EventStore>, settings: RollupSettings, stop: StopToken) -> Self {
        let limits = Limits::new(settings.cap.pairs_per_day_max);
        Self {
            store,
            interval: settings.interval,
            outage: Outage::new(ROWS_MIN, limits.deltas_max),
            left_some: false,
            limits,
            stop,
            sums: Sums {
                due_at: Instant::now(),
                spent: Duration::ZERO,
            },
        }
    }

    /// Keeps the rollups until told to stop, and then drops whatever is under way. Rides through every failure of the
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

    /// Step after step, until the connection is old.
    async fn keep_on_one_connection(&mut self) -> Result<(), StoreError> {
        let mut store = self.store.open_rollups().await?;
        let opened_at = Instant::now();
        while opened_at.elapsed() < SESSION_AGE_MAX {
            let began_at = Instant::now();
            let next = self.step(store.as_mut()).await?;
            self.note_well();
            sleep(match next {
                // As long as it took: whoever waits for SQLite's writer looks again within that time, so it cannot be
                // starved.
                Next::AtOnce => began_at.elapsed().min(PAUSE_MAX),
                Next::Soon => PAUSE_MAX.min(self.interval),
                Next::AfterInterval => self.interval,
            })
            .await;
            // Servers, poolers and firewalls close what idles. That is no failure of anything.
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
        // Noted before: what fails here is not tried again at once.
        if !summed_up.has_more && !summed_up.is_locked_elsewhere {
            self.settle_one_day(store).await?;
        }
        Ok(if summed_up.has_more {
            Next::AtOnce
        } else {
            Next::AfterInterval
        })
    }

    /// One at a time, as it reads all of a day's events.
    async fn settle_one_day(&self, store: &mut dyn RollupStore) -> Result<(), StoreError> {
        let pairs_max = self.limits.pairs_per_day_max;
        match settle_one_day(store, pairs_max, Timestamp::now()).await? {
            None => {}
            Some(Settled::Rebuilt(day)) => tracing::info!(
                "{day}, which had more than {pairs_max} pairs of event name and channel, is over: rebuilt its rollups for those with \
                 most events"
            ),
            Some(Settled::LeftAlone(day)) => tracing::warn!(
                "{day}, which had more than {pairs_max} pairs of event name and channel, is over: `fast-ingest rollup rebuild --from \
                 {day} --to {day}` makes its rollups for those with most events"
            ),
        }
        Ok(())
    }

    /// A step went well.
    fn note_well(&mut self) {
        if self.outage.end() {
            tracing::info!("the database is back, rollups are kept again");
        }
    }

    /// Says what went wrong, once and then now and again, and how long to wait.
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
                "cannot keep the rollups, trying again; until then a query that the database answers reads more rows, and none is wrong: {error}"
            );
        }
        wait
    }
}

impl Sums {
    /// One transaction of summing up; `has_more` of them are to follow at once.
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
