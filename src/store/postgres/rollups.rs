//! Keeping the rollups in PostgreSQL: a session of its own, and an advisory lock that one process holds at a time.
//!
//! The lock is the session's, not the transaction's, because under REPEATABLE READ the first statement fixes what the transaction sees:
//! were that the statement that waits for the lock, the transaction would not see what the holder before it committed. A session that
//! is dropped frees its lock and undoes its transaction.

mod days;
mod parts;

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::connect::Session;
use super::error::{Failure, bounded};
use super::instant::Instant;
use crate::event::Timestamp;
use crate::rollup::{Bucket, Day, Delta, Part, SeriesId, SeriesKey, Tally, UserSet, Width};
use crate::store::{RollupStore, StoreError};

/// Key of the advisory lock: "fast-ing" in ASCII, plus two.
const ROLLUP_LOCK: i64 = 0x6661_7374_2d69_6e69;
/// Time for one statement. Long, because `verify` and `rollup rebuild` read the events of whole days; the rest takes milliseconds.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);
/// Settings of the session. A process that stops between two statements must not keep the lock for long.
const SETTINGS: &str = "SET statement_timeout = '300s'; SET lock_timeout = '30s'; SET jit = off; \
                        SET idle_in_transaction_session_timeout = '60s'; SET synchronous_commit = on";
/// Deltas taken since the last VACUUM beyond which there is another one: queries read the table's pages, dead rows and all.
const DEAD_ROWS_MAX: usize = 5_000;

/// The session that keeps the rollups.
pub(super) struct PostgresRollups {
    session: Session,
    holds_lock: bool,
    dead_rows: usize,
}

impl PostgresRollups {
    /// Prepares a fresh session.
    pub(super) async fn new(session: Session) -> Result<Self, StoreError> {
        bounded(STATEMENT_TIMEOUT, session.client.batch_execute(SETTINGS)).await?;
        Ok(Self {
            session,
            holds_lock: false,
            dead_rows: 0,
        })
    }

    fn client(&self) -> &Client {
        &self.session.client
    }

    async fn run(&self, statements: &str) -> Result<(), StoreError> {
        Ok(bounded(STATEMENT_TIMEOUT, self.client().batch_execute(statements)).await?)
    }

    async fn query(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        Ok(bounded(STATEMENT_TIMEOUT, self.client().query(sql, values)).await?)
    }

    async fn execute(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, StoreError> {
        Ok(bounded(STATEMENT_TIMEOUT, self.client().execute(sql, values)).await?)
    }

    /// Gives the space of deltas that were taken back to new ones. Autovacuum would come once a minute, too rarely for a busy table.
    async fn vacuum(&mut self) {
        if self.dead_rows < DEAD_ROWS_MAX {
            return;
        }
        self.dead_rows = 0;
        if let Err(error) = self.run("VACUUM rollup_deltas").await {
            tracing::debug!("cannot vacuum rollup_deltas: {error}");
        }
    }
}

#[async_trait]
impl RollupStore for PostgresRollups {
    async fn begin(&mut self, wait: bool) -> Result<bool, StoreError> {
        if wait {
            self.query("SELECT pg_advisory_lock($1)", &[&ROLLUP_LOCK])
                .await?;
        } else {
            let rows = self
                .query("SELECT pg_try_advisory_lock($1)", &[&ROLLUP_LOCK])
                .await?;
            if !rows.first().is_some_and(|row| row.get(0)) {
                return Ok(false);
            }
        }
        self.holds_lock = true;
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        Ok(true)
    }

    async fn begin_reading(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        self.run("COMMIT").await?;
        if self.holds_lock {
            self.holds_lock = false;
            self.query("SELECT pg_advisory_unlock($1)", &[&ROLLUP_LOCK])
                .await?;
        }
        self.vacuum().await;
        Ok(())
    }

    async fn take_deltas(&mut self, rows_max: usize) -> Result<Vec<Delta>, StoreError> {
        let rows = self
            .query(
                "DELETE FROM rollup_deltas WHERE ctid = ANY (ARRAY(SELECT ctid FROM rollup_deltas LIMIT $1))
                 RETURNING event_name, channel, bucket, minutes, events, users",
                &[&as_bigint(rows_max as u64)],
            )
            .await?;
        self.dead_rows += rows.len();
        rows.iter().map(delta).collect()
    }

    async fn take_minutes(
        &mut self,
        before: Timestamp,
        rows_max: usize,
    ) -> Result<Vec<Part>, StoreError> {
        parts::take_minutes(self, before, rows_max).await
    }

    async fn series_ids(&mut self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError> {
        parts::series_ids(self, keys).await
    }

    async fn parts_at(&mut self, keys: &[(SeriesId, Bucket)]) -> Result<Vec<Part>, StoreError> {
        parts::at(self, keys).await
    }

    async fn put_parts(&mut self, parts: &[Part]) -> Result<(), StoreError> {
        parts::put(self, parts).await
    }

    async fn mark_stale(&mut self, days: &[(SeriesId, Day)]) -> Result<(), StoreError> {
        days::mark_stale(self, days).await
    }

    async fn stale_days(
        &mut self,
        before: Day,
        rows_max: usize,
    ) -> Result<Vec<(SeriesId, Day)>, StoreError> {
        days::stale(self, before, rows_max).await
    }

    async fn parts_of_day(&mut self, series: SeriesId, day: Day) -> Result<Vec<Part>, StoreError> {
        parts::of_day(self, series, day).await
    }

    async fn put_days(&mut self, days: &[(SeriesId, Day, Tally)]) -> Result<(), StoreError> {
        days::put(self, days).await
    }

    async fn series_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError> {
        days::series_on(self, day).await
    }

    async fn overflow_on(&mut self, day: Day) -> Result<Option<u64>, StoreError> {
        days::overflow_on(self, day).await
    }

    async fn add_overflow(&mut self, day: Day, events: u64) -> Result<(), StoreError> {
        days::add_overflow(self, day, events).await
    }

    async fn days_stored(&mut self) -> Result<Option<(Day, Day)>, StoreError> {
        days::stored(self).await
    }

    async fn read_events(
        &mut self,
        range: Range<Timestamp>,
        each: &mut (dyn for<'e> FnMut(&'e str, &'e str, &'e str, Timestamp) + Send),
    ) -> Result<(), StoreError> {
        let (from, to) = (Instant(range.start), Instant(range.end));
        let reading = async {
            let values: [&(dyn ToSql + Sync); 2] = [&from, &to];
            let rows = self
                .client()
                .query_raw(
                    "SELECT event_name, channel, user_id, ts FROM events WHERE ts >= $1 AND ts < $2",
                    values,
                )
                .await?;
            let mut rows = std::pin::pin!(rows);
            while let Some(row) = rows.try_next().await? {
                let Instant(ts) = row.try_get(3)?;
                each(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, ts);
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        Ok(bounded(STATEMENT_TIMEOUT, reading).await?)
    }

    async fn parts_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, Part)>, StoreError> {
        parts::on(self, day).await
    }

    async fn sums_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, SeriesId, Tally)>, StoreError> {
        days::sums_on(self, day).await
    }

    async fn deltas_on(&mut self, day: Day) -> Result<Vec<Delta>, StoreError> {
        let rows = self
            .query(
                "SELECT event_name, channel, bucket, minutes, events, users FROM rollup_deltas WHERE bucket >= $1 AND bucket < $2",
                &[&Instant(day.start()), &Instant(day.end())],
            )
            .await?;
        rows.iter().map(delta).collect()
    }

    async fn clear_day(&mut self, day: Day) -> Result<(), StoreError> {
        parts::clear(self, day).await?;
        days::clear(self, day).await?;
        self.execute(
            "DELETE FROM rollup_deltas WHERE bucket >= $1 AND bucket < $2",
            &[&Instant(day.start()), &Instant(day.end())],
        )
        .await?;
        Ok(())
    }

    async fn rebuild_needed(&mut self) -> Result<bool, StoreError> {
        let rows = self
            .query("SELECT rebuild_needed FROM rollup_state", &[])
            .await?;
        let row = rows
            .first()
            .ok_or_else(|| damaged(&"rollup_state has no row"))?;
        value(row, 0)
    }

    async fn set_rebuilt(&mut self) -> Result<(), StoreError> {
        self.execute("UPDATE rollup_state SET rebuild_needed = false", &[])
            .await?;
        Ok(())
    }
}

/// A delta from its six columns.
fn delta(row: &Row) -> Result<Delta, StoreError> {
    Ok(Delta {
        event_name: value(row, 0)?,
        channel: value(row, 1)?,
        bucket: bucket(row, 2)?,
        tally: tally(row, 4)?,
    })
}

/// The column `bucket`, with `minutes` behind it.
fn bucket(row: &Row, column: usize) -> Result<Bucket, StoreError> {
    let Instant(start) = value(row, column)?;
    let minutes: i16 = value(row, column + 1)?;
    let width = Width::from_minutes(minutes.into());
    let width = width.ok_or_else(|| damaged(&format!("a rollup of {minutes} minutes")))?;
    Ok(Bucket { start, width })
}

/// The column `events`, with `users` behind it.
fn tally(row: &Row, column: usize) -> Result<Tally, StoreError> {
    Ok(Tally {
        events: count(row, column)?,
        users: UserSet::decode(value(row, column + 1)?).map_err(|error| damaged(&error))?,
    })
}

fn count(row: &Row, column: usize) -> Result<u64, StoreError> {
    let count: i64 = value(row, column)?;
    u64::try_from(count).map_err(|_| damaged(&"a negative number of events"))
}

fn value<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    column: usize,
) -> Result<T, StoreError> {
    row.try_get(column)
        .map_err(|error| Failure::from(error).into())
}

/// What no code of ours wrote. Retrying cannot help.
fn damaged(what: &dyn std::fmt::Display) -> StoreError {
    StoreError::Schema(format!(
        "{what}; `fast-ingest rollup rebuild` makes the rollups afresh"
    ))
}

fn as_bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
