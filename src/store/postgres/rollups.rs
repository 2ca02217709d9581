//! Keeping the rollups on PostgreSQL: bulk statements over arrays, in transactions under a lock.
//!
//! ```text
//! session   transactions, the lock, the vacuum
//! rows      columns ↔ deltas, parts, days
//! span      which days have anything
//! ```
//!
//! Rows go in by `INSERT … SELECT FROM unnest(…)`, in order of their key, which is the order of the index that takes
//! them.

mod rows;
mod series;
mod session;
mod span;

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use self::rows::{PartColumns, as_bigint, series_number};
use self::session::Transactions;
use super::connect::Session;
use super::error::{StatementError, bounded};
use super::instant::Instant;
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::users::NewKey;
use crate::rollup::{Delta, Part, SeriesId, SeriesKey, Tally, UserKey, UserSet};
use crate::store::{RollupStore, StoreError};

/// Most rows with users that one statement takes: 5 MB at their largest.
const ROWS_MAX: usize = 1_000;

/// A day with rollups and without events.
const DAY_WITHOUT_EVENTS: &str = "SELECT FROM (SELECT DISTINCT day FROM rollup_days) AS d
    WHERE NOT EXISTS (SELECT FROM events WHERE ts >= d.day AND ts < d.day + interval '24 hours') LIMIT 1";

/// Pairs of a range, most events first; ties in the order of bytes, whatever the database's collation is.
const PAIRS: &str = "SELECT event_name, channel FROM events WHERE ts >= $1 AND ts < $2 GROUP BY event_name, channel
                     ORDER BY count(*) DESC, event_name COLLATE \"C\", channel COLLATE \"C\" LIMIT $3";

/// A session that keeps the rollups.
pub(super) struct PostgresRollups {
    transactions: Transactions,
}

impl PostgresRollups {
    /// Works on a new session; a statement may take `timeout`.
    pub(super) fn new(session: Session, timeout: Duration) -> Self {
        Self {
            transactions: Transactions::new(session, timeout),
        }
    }

    /// The rows of a query, each read by `read`.
    async fn read<T>(
        &mut self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> Result<T, StatementError>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.transactions.query(sql, values).await?;
        let rows: Result<Vec<T>, StatementError> = rows.iter().map(read).collect();
        Ok(rows?)
    }

    async fn stream(
        &mut self,
        range: Range<Timestamp>,
        each: &mut (dyn for<'e> FnMut(&'e str, &'e str, &'e str, Timestamp) + Send),
    ) -> Result<(), StatementError> {
        let sql = "SELECT event_name, channel, user_id, ts FROM events WHERE ts >= $1 AND ts < $2";
        let limit = self.transactions.allow_long().await?;
        let values = [Instant(range.start), Instant(range.end)];
        let rows = self.transactions.client().query_raw(sql, &values);
        let mut rows = pin!(bounded(limit, rows).await?);
        while let Some(row) = bounded(limit, rows.try_next()).await? {
            let Instant(timestamp) = row.try_get(3)?;
            each(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, timestamp);
        }
        Ok(())
    }
}

#[async_trait]
impl RollupStore for PostgresRollups {
    fn is_closed(&self) -> bool {
        self.transactions.client().is_closed()
    }

    async fn begin(&mut self, wait: bool) -> Result<bool, StoreError> {
        Ok(self.transactions.begin(wait).await?)
    }

    async fn begin_reading(&mut self) -> Result<(), StoreError> {
        Ok(self.transactions.begin_reading().await?)
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        Ok(self.transactions.commit().await?)
    }

    async fn take_deltas(&mut self, rows_max: usize) -> Result<Vec<Delta>, StoreError> {
        // No other process deletes while we hold the lock, so the rows are still where the inner query saw them.
        let sql = "DELETE FROM rollup_deltas WHERE ctid = ANY (ARRAY(SELECT ctid FROM rollup_deltas LIMIT $1))
                   RETURNING event_name, channel, bucket, minutes, events, users";
        let deltas = self.read(sql, &[&limit(rows_max)], rows::delta).await?;
        self.transactions.deleted_deltas(deltas.len() as u64);
        Ok(deltas)
    }

    async fn take_minutes(&mut self, before: Timestamp, rows_max: usize) -> Result<Vec<Part>, StoreError> {
        let sql = "DELETE FROM rollups WHERE ctid = ANY (ARRAY(
                       SELECT ctid FROM rollups WHERE minutes = 1 AND bucket < $1 ORDER BY bucket LIMIT $2))
                   RETURNING series_id, bucket, minutes, events, users";
        let read = |row: &Row| rows::part(row, 0);
        let mut parts = self.read(sql, &[&Instant(before), &limit(rows_max)], read).await?;
        parts.sort_unstable_by_key(|part| (part.bucket, part.series));
        Ok(parts)
    }

    async fn series_ids(&mut self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError> {
        Ok(series::ids(&mut self.transactions, keys).await?)
    }

    async fn parts_at(&mut self, keys: &[(SeriesId, Bucket)]) -> Result<Vec<Part>, StoreError> {
        let sql = "SELECT series_id, bucket, minutes, events, users
                   FROM unnest($1::integer[], $2::timestamptz[], $3::smallint[]) AS k (series_id, bucket, minutes)
                   JOIN rollups USING (series_id, bucket, minutes)";
        let PartColumns {
            series,
            buckets,
            minutes,
        } = PartColumns::of(keys.iter().copied());
        let read = |row: &Row| rows::part(row, 0);
        self.read(sql, &[&series, &buckets, &minutes], read).await
    }

    async fn put_parts(&mut self, parts: &[Part]) -> Result<(), StoreError> {
        let sql = "INSERT INTO rollups (series_id, bucket, minutes, events, users)
                   SELECT * FROM unnest($1::integer[], $2::timestamptz[], $3::smallint[], $4::bigint[], $5::bytea[])
                   ON CONFLICT (series_id, bucket, minutes) DO UPDATE SET events = excluded.events, users = excluded.users";
        let mut parts: Vec<&Part> = parts.iter().collect();
        parts.sort_unstable_by_key(|part| (part.series, part.bucket));
        for parts in parts.chunks(ROWS_MAX) {
            let PartColumns {
                series,
                buckets,
                minutes,
            } = PartColumns::of(parts.iter().map(|part| (part.series, part.bucket)));
            let (events, users) = tallies(parts.iter().map(|part| &part.tally));
            self.transactions
                .execute(sql, &[&series, &buckets, &minutes, &events, &users])
                .await?;
        }
        Ok(())
    }

    async fn mark_stale(&mut self, days: &[(SeriesId, Day)]) -> Result<(), StoreError> {
        // Rows that are stale already are left out first: a conflict would lock them, which writes to them.
        let sql = "INSERT INTO rollup_days (series_id, day, stale, events, users)
                   SELECT series_id, day, true, 0, $3 FROM unnest($1::integer[], $2::timestamptz[]) AS k (series_id, day)
                   WHERE NOT EXISTS (SELECT FROM rollup_days AS d WHERE d.series_id = k.series_id AND d.day = k.day AND d.stale)
                   ON CONFLICT (series_id, day) DO UPDATE SET stale = true";
        let mut days = days.to_vec();
        days.sort_unstable();
        days.dedup();
        let (series, starts) = day_columns(days.into_iter());
        let nobody = UserSet::empty().encode();
        self.transactions.execute(sql, &[&series, &starts, &nobody]).await?;
        Ok(())
    }

    async fn stale_days(&mut self, before: Day, rows_max: usize) -> Result<Vec<(SeriesId, Day)>, StoreError> {
        let sql = "SELECT series_id, day FROM rollup_days WHERE stale AND day < $1 ORDER BY day LIMIT $2";
        let read = |row: &Row| Ok((rows::series(row, 0)?, rows::day(row, 1)?));
        self.read(sql, &[&Instant(before.start()), &limit(rows_max)], read)
            .await
    }

    async fn parts_of_day(&mut self, series: SeriesId, day: Day) -> Result<Vec<Part>, StoreError> {
        let sql = "SELECT series_id, bucket, minutes, events, users FROM rollups
                   WHERE series_id = $1 AND bucket >= $2 AND bucket < $3";
        let [start, end] = ends(day);
        let read = |row: &Row| rows::part(row, 0);
        self.read(sql, &[&series_number(series), &start, &end], read).await
    }

    async fn put_days(&mut self, days: &[(SeriesId, Day, Tally)]) -> Result<(), StoreError> {
        let sql = "INSERT INTO rollup_days (series_id, day, stale, events, users)
                   SELECT series_id, day, false, events, users
                   FROM unnest($1::integer[], $2::timestamptz[], $3::bigint[], $4::bytea[]) AS k (series_id, day, events, users)
                   ON CONFLICT (series_id, day) DO UPDATE SET stale = false, events = excluded.events, users = excluded.users";
        let mut days: Vec<_> = days.iter().collect();
        days.sort_unstable_by_key(|(series, day, _)| (*series, *day));
        for days in days.chunks(ROWS_MAX) {
            let (series, starts) = day_columns(days.iter().map(|(series, day, _)| (*series, *day)));
            let (events, users) = tallies(days.iter().map(|(_, _, tally)| tally));
            self.transactions
                .execute(sql, &[&series, &starts, &events, &users])
                .await?;
        }
        Ok(())
    }

    async fn series_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError> {
        let sql = "SELECT event_name, channel FROM rollup_days JOIN rollup_series ON id = series_id
                   WHERE day = $1 AND event_name IS NOT NULL";
        self.read(sql, &[&Instant(day.start())], rows::key).await
    }

    async fn overflow_on(&mut self, day: Day) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT events FROM rollup_overflow WHERE day = $1";
        let read = |row: &Row| rows::count(row, 0);
        let counts = self.read(sql, &[&Instant(day.start())], read).await?;
        Ok(counts.first().copied())
    }

    async fn add_overflow(&mut self, day: Day, events: u64) -> Result<(), StoreError> {
        let sql = "INSERT INTO rollup_overflow AS o (day, events) VALUES ($1, $2)
                   ON CONFLICT (day) DO UPDATE SET events = o.events + excluded.events";
        self.transactions
            .execute(sql, &[&Instant(day.start()), &as_bigint(events)])
            .await?;
        Ok(())
    }

    async fn unsettled_day(&mut self, before: Day) -> Result<Option<Day>, StoreError> {
        let sql = "SELECT day FROM rollup_overflow WHERE day < $1
                   AND (settled_events IS NULL OR events > 2 * settled_events) ORDER BY day LIMIT 1";
        let read = |row: &Row| rows::day(row, 0);
        let days = self.read(sql, &[&Instant(before.start())], read).await?;
        Ok(days.first().copied())
    }

    async fn settle(&mut self, day: Day) -> Result<(), StoreError> {
        let sql = "UPDATE rollup_overflow SET settled_events = events WHERE day = $1";
        self.transactions.execute(sql, &[&Instant(day.start())]).await?;
        Ok(())
    }

    async fn days_stored(&mut self) -> Result<Option<(Day, Day)>, StoreError> {
        Ok(span::read(&mut self.transactions).await?)
    }

    async fn days_kept(&mut self) -> Result<Vec<Day>, StoreError> {
        Ok(span::days_kept(&mut self.transactions).await?)
    }

    async fn has_events(&mut self, range: Range<Timestamp>) -> Result<bool, StoreError> {
        Ok(span::has_events(&mut self.transactions, range).await?)
    }

    async fn read_events(
        &mut self,
        range: Range<Timestamp>,
        each: &mut (dyn for<'e> FnMut(&'e str, &'e str, &'e str, Timestamp) + Send),
    ) -> Result<(), StoreError> {
        Ok(self.stream(range, each).await?)
    }

    async fn pairs_on(&mut self, day: Day, pairs_max: usize) -> Result<Vec<SeriesKey>, StoreError> {
        let [start, end] = ends(day);
        let values: [&(dyn ToSql + Sync); 3] = [&start, &end, &limit(pairs_max)];
        let rows = self.transactions.query_long(PAIRS, &values).await?;
        let keys: Result<Vec<_>, StatementError> = rows.iter().map(rows::key).collect();
        Ok(keys?)
    }

    async fn parts_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, Part)>, StoreError> {
        // Joined from the series: the key of `rollups` begins with the series' number, and the index by bucket has only
        // minutes.
        let sql = "SELECT event_name, channel, series_id, bucket, minutes, events, users
                   FROM rollup_series JOIN rollups ON series_id = id AND bucket >= $1 AND bucket < $2";
        let [start, end] = ends(day);
        let read = |row: &Row| Ok((rows::key(row)?, rows::part(row, 2)?));
        self.read(sql, &[&start, &end], read).await
    }

    async fn sums_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, SeriesId, Tally)>, StoreError> {
        let sql = "SELECT event_name, channel, series_id, events, users
                   FROM rollup_days JOIN rollup_series ON id = series_id WHERE day = $1 AND NOT stale";
        let read = |row: &Row| Ok((rows::key(row)?, rows::series(row, 2)?, rows::tally(row, 3)?));
        self.read(sql, &[&Instant(day.start())], read).await
    }

    async fn stale_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError> {
        let sql =
            "SELECT event_name, channel FROM rollup_days JOIN rollup_series ON id = series_id WHERE day = $1 AND stale";
        self.read(sql, &[&Instant(day.start())], rows::key).await
    }

    async fn deltas_on(&mut self, day: Day) -> Result<Vec<Delta>, StoreError> {
        let sql = "SELECT event_name, channel, bucket, minutes, events, users FROM rollup_deltas
                   WHERE bucket >= $1 AND bucket < $2";
        let [start, end] = ends(day);
        self.read(sql, &[&start, &end], rows::delta).await
    }

    async fn clear_day(&mut self, day: Day) -> Result<(), StoreError> {
        let parts = "DELETE FROM rollups USING rollup_series WHERE series_id = id AND bucket >= $1 AND bucket < $2";
        let deltas = "DELETE FROM rollup_deltas WHERE bucket >= $1 AND bucket < $2";
        let days = "DELETE FROM rollup_days WHERE day = $1";
        let overflow = "DELETE FROM rollup_overflow WHERE day = $1";
        let [start, end] = ends(day);
        self.transactions.execute(parts, &[&start, &end]).await?;
        let deleted = self.transactions.execute(deltas, &[&start, &end]).await?;
        self.transactions.deleted_deltas(deleted);
        self.transactions.execute(days, &[&start]).await?;
        self.transactions.execute(overflow, &[&start]).await?;
        Ok(())
    }

    async fn user_key(&mut self) -> Result<UserKey, StoreError> {
        let sql = "SELECT coalesce(user_key::text, '') FROM rollup_state";
        let read = |row: &Row| Ok(UserKey::parse(row.try_get(0)?));
        let keys = self.read(sql, &[], read).await?;
        keys.first().copied().flatten().ok_or_else(no_state)
    }

    async fn make_user_key(&mut self) -> Result<NewKey, StoreError> {
        let state = "SELECT user_key IS NOT NULL FROM rollup_state";
        let has_key = self.read(state, &[], |row| Ok(row.try_get(0)?)).await?;
        if *has_key.first().ok_or_else(no_state)? {
            return Ok(NewKey::NotNeeded);
        }
        if !self.transactions.query_long(DAY_WITHOUT_EVENTS, &[]).await?.is_empty() {
            return Ok(NewKey::KeptForOldDays);
        }
        // Each flush first moves a checkpoint, and reads the key in that statement.
        let lock = "LOCK TABLE wal_checkpoints IN EXCLUSIVE MODE";
        self.transactions.execute(lock, &[]).await?;
        let make = "UPDATE rollup_state SET user_key = gen_random_uuid(), rebuild_needed = true, build_from = NULL";
        self.transactions.execute(make, &[]).await?;
        Ok(NewKey::Made)
    }

    async fn rebuild_needed(&mut self) -> Result<bool, StoreError> {
        let sql = "SELECT rebuild_needed FROM rollup_state";
        let read = |row: &Row| Ok(row.try_get(0)?);
        let needed = self.read(sql, &[], read).await?;
        needed.first().copied().ok_or_else(no_state)
    }

    async fn build_from(&mut self) -> Result<Option<Day>, StoreError> {
        let sql = "SELECT build_from FROM rollup_state WHERE build_from IS NOT NULL";
        let days = self.read(sql, &[], |row| rows::day(row, 0)).await?;
        Ok(days.first().copied())
    }

    async fn set_build_from(&mut self, day: Day) -> Result<(), StoreError> {
        // Another run may have finished everything already.
        let sql = "UPDATE rollup_state SET build_from = $1 WHERE rebuild_needed";
        self.transactions.execute(sql, &[&Instant(day.start())]).await?;
        Ok(())
    }

    async fn set_rebuilt(&mut self) -> Result<(), StoreError> {
        let sql = "UPDATE rollup_state SET rebuild_needed = false, build_from = NULL";
        match self.transactions.execute(sql, &[]).await? {
            1 => Ok(()),
            _ => Err(no_state()),
        }
    }
}

/// The error for a `rollup_state` that has lost its only row.
pub(super) fn no_state() -> StoreError {
    StoreError::Schema(
        "the table rollup_state has lost its row: insert one, with rebuild_needed = true, and run `fast-ingest migrate up`".to_owned(),
    )
}

fn limit(rows_max: usize) -> i64 {
    i64::try_from(rows_max).unwrap_or(i64::MAX)
}

fn ends(day: Day) -> [Instant; 2] {
    [Instant(day.start()), Instant(day.end())]
}

fn day_columns(days: impl Iterator<Item = (SeriesId, Day)>) -> (Vec<i32>, Vec<Instant>) {
    days.map(|(series, day)| (series_number(series), Instant(day.start())))
        .unzip()
}

fn tallies<'a>(tallies: impl Iterator<Item = &'a Tally>) -> (Vec<i64>, Vec<Vec<u8>>) {
    tallies
        .map(|tally| (as_bigint(tally.events), tally.users.encode()))
        .unzip()
}
