//! One consistent view of the database for a metrics query: a read transaction on a reading connection.
//!
//! Its methods never wait, so their futures are ready when they are first polled. The filters of a question decide the
//! text of a statement, so there are few texts; values are always parameters.

mod count;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rusqlite::{Connection, Row, ToSql, params};

use super::error::interrupted;
use super::limit::Limit;
use super::rows;
use crate::event::Timestamp;
use crate::event::bucket::DAY_MICROS;
use crate::query::memory::Holding;
use crate::query::snapshot::{
    Allowance, DayRow, EachUser, EventFilter, Names, QueryTooLarge, ROWS_MAX, RollupRow, RollupState, SeriesFilter,
    Snapshot,
};

/// A snapshot. It borrows the connection alone rather than as a `rusqlite::Transaction`, which cannot move between
/// threads.
pub(super) struct SqliteSnapshot<'c> {
    connection: &'c mut Connection,
    allowance: Allowance,
    limit: Option<Limit>,
}

impl SqliteSnapshot<'_> {
    /// Runs `work` in a snapshot, and ends the snapshot whatever the result is.
    pub(super) fn with<T, E: From<rusqlite::Error>>(
        connection: &mut Connection,
        memory: Holding,
        work: impl FnOnce(&mut SqliteSnapshot<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        // Deferred: the first statement takes the snapshot, the others use it.
        connection.execute_batch("BEGIN DEFERRED")?;
        let mut snapshot = SqliteSnapshot {
            connection,
            allowance: Allowance::new(ROWS_MAX, memory),
            limit: None,
        };
        let result = work(&mut snapshot);
        snapshot.connection.execute_batch("ROLLBACK")?;
        result
    }

    /// Sets the limit for the computation between two statements.
    pub(super) fn end_at(&mut self, limit: Limit) {
        self.limit = Some(limit);
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.connection.prepare_cached(sql)?.query_map(params, read)?.collect()
    }
}

/// Registers the SQL function that the statements of a snapshot need. To be called once for each connection.
pub(super) fn register_functions(connection: &Connection) -> rusqlite::Result<()> {
    count::register_group_of(connection)
}

impl Snapshot for SqliteSnapshot<'_> {
    type Error = rusqlite::Error;

    async fn days(&mut self, series: &SeriesFilter, range: Range<Timestamp>) -> rusqlite::Result<Vec<DayRow>> {
        let (name, channel) = (one(&series.event_names), one(&series.channels));
        let [from, to] = bounds(&range);
        let allowance = &mut self.allowance;
        let day_row = |row: &Row<'_>| {
            let total: Option<(u64, Vec<u8>)> = match row.get::<_, bool>(3)? {
                true => None,
                false => Some((rows::count(row, 4)?, row.get(5)?)),
            };
            let users_bytes = total.as_ref().map_or(0, |(_, users)| users.len());
            let row = DayRow {
                event_name: row.get(0)?,
                channel: row.get(1)?,
                day: rows::day(row, 2)?,
                total,
            };
            let names = [row.event_name.as_deref(), row.channel.as_deref()];
            allowance.take(names, users_bytes).map_err(refused)?;
            Ok(row)
        };
        self.connection
            .prepare_cached(&days_sql(series))?
            .query_map(params![name, channel, from, to], day_row)?
            .collect()
    }

    async fn parts(&mut self, series: &SeriesFilter, ranges: &[Range<Timestamp>]) -> rusqlite::Result<Vec<RollupRow>> {
        let (name, channel) = (one(&series.event_names), one(&series.channels));
        let mut parts = self.connection.prepare_cached(&parts_sql(series))?;
        let mut found = Vec::new();
        for [from, to] in ranges.iter().map(bounds) {
            for row in parts.query_map(params![name, channel, from, to], rollup_row)? {
                let row = row?;
                take(&mut self.allowance, &row)?;
                found.push(row);
            }
        }
        Ok(found)
    }

    async fn deltas(&mut self, series: &SeriesFilter, range: Range<Timestamp>) -> rusqlite::Result<Vec<RollupRow>> {
        let (name, channel) = (one(&series.event_names), one(&series.channels));
        let [from, to] = bounds(&range);
        let allowance = &mut self.allowance;
        self.connection
            .prepare_cached(&deltas_sql(series))?
            .query_map(params![name, channel, from, to], |row| {
                let row = rollup_row(row)?;
                take(allowance, &row)?;
                Ok(row)
            })?
            .collect()
    }

    async fn rollup_state(&mut self, range: Range<Timestamp>) -> rusqlite::Result<Option<RollupState>> {
        let keys = self.rows(
            "SELECT user_key FROM rollup_state WHERE NOT rebuild_needed",
            params![],
            |row| rows::user_key(row, 0),
        )?;
        let Some(&user_key) = keys.first() else {
            return Ok(None);
        };
        let [from, to] = bounds(&range);
        let overflowed = self.rows(
            "SELECT day FROM rollup_overflow WHERE day >= ?1 AND day < ?2 ORDER BY day",
            params![from, to],
            |row| rows::day(row, 0),
        )?;
        Ok(Some(RollupState { user_key, overflowed }))
    }

    fn memory(&self) -> &Holding {
        self.allowance.memory()
    }

    async fn pause(&mut self) -> rusqlite::Result<()> {
        match &self.limit {
            Some(limit) if limit.is_reached() => Err(interrupted()),
            _ => Ok(()),
        }
    }

    async fn events_stored(&mut self, range: Range<Timestamp>) -> rusqlite::Result<u64> {
        let [from, to] = bounds(&range);
        self.connection
            .prepare_cached(&events_stored_sql())?
            .query_row(params![from, to], |row| rows::count(row, 0))
    }

    async fn count_users(
        &mut self,
        events: &EventFilter,
        range: Range<Timestamp>,
        starts: &[Timestamp],
        each: &mut EachUser<'_>,
    ) -> rusqlite::Result<()> {
        count::users(self.connection, events, range, starts, each)
    }
}

/// Takes a row off the allowance. The error travels in rusqlite's variant for errors of user functions.
fn take(allowance: &mut Allowance, row: &RollupRow) -> rusqlite::Result<()> {
    let names = [row.event_name.as_deref(), row.channel.as_deref()];
    allowance.take(names, row.users.len()).map_err(refused)
}

fn refused(error: QueryTooLarge) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(Box::new(error))
}

/// Series first, then their rows by primary key. SQLite does not know how many rows a series or a day has, and would
/// choose to read all series of the days.
fn days_sql(series: &SeriesFilter) -> String {
    format!(
        "SELECT s.event_name, s.channel, d.day, d.stale, iif(d.stale, NULL, d.events), iif(d.stale, NULL, d.users) \
         FROM rollup_series s CROSS JOIN rollup_days d ON d.series_id = s.id \
         WHERE {series} AND d.day >= ?3 AND d.day < ?4",
        series = series_condition(series)
    )
}

fn parts_sql(series: &SeriesFilter) -> String {
    format!(
        "SELECT s.event_name, s.channel, r.bucket, r.minutes, r.events, r.users \
         FROM rollup_series s CROSS JOIN rollups r ON r.series_id = s.id \
         WHERE {series} AND r.bucket >= ?3 AND r.bucket < ?4",
        series = series_condition(series)
    )
}

fn deltas_sql(series: &SeriesFilter) -> String {
    let channel = match series.channels {
        Names::One(_) => "AND channel = ?2",
        Names::Each | Names::All => "",
    };
    format!(
        "SELECT {name_told}, {channel_told}, bucket, minutes, events, users \
         FROM rollup_deltas WHERE {name} {channel} AND bucket >= ?3 AND bucket < ?4",
        name_told = told("event_name", &series.event_names),
        channel_told = told("channel", &series.channels),
        name = name_condition("rollup_deltas", &series.event_names),
    )
}

/// The series of all events has each event once. Whole days that are not stale are taken from their sums; a day without
/// a row has no parts.
fn events_stored_sql() -> String {
    format!(
        "SELECT coalesce((SELECT sum(CASE \
             WHEN NOT d.stale AND d.day >= ?1 AND d.day + {DAY_MICROS} <= ?2 THEN d.events \
             ELSE (SELECT sum(r.events) FROM rollups r WHERE r.series_id = d.series_id \
                   AND r.bucket >= max(d.day, ?1) AND r.bucket < min(d.day + {DAY_MICROS}, ?2)) END) \
         FROM rollup_series s CROSS JOIN rollup_days d ON d.series_id = s.id \
         WHERE {series} AND d.day > ?1 - {DAY_MICROS} AND d.day < ?2), 0) \
         + coalesce((SELECT sum(events) FROM rollup_deltas WHERE {name} AND bucket >= ?1 AND bucket < ?2), 0)",
        series = series_condition(&SeriesFilter {
            event_names: Names::All,
            channels: Names::All
        }),
        name = name_condition("rollup_deltas", &Names::All),
    )
}

/// The condition on series, with the same expressions as their unique index, which would not be used otherwise. No name
/// is empty; a question for an empty name must not find the series of all names.
fn series_condition(series: &SeriesFilter) -> String {
    let condition = |column, parameter, names: &Names| match names {
        Names::One(_) => {
            format!("coalesce({column}, '') = {parameter} AND {column} IS NOT NULL")
        }
        Names::Each => format!("coalesce({column}, '') > ''"),
        Names::All => format!("coalesce({column}, '') = ''"),
    };
    let name = condition("event_name", "?1", &series.event_names);
    let channel = condition("channel", "?2", &series.channels);
    format!("{name} AND {channel}")
}

/// The condition on the name in an index over name and time, written so that SQLite uses the index for the time too.
fn name_condition(table: &str, names: &Names) -> String {
    match names {
        Names::One(_) => "event_name = ?1".to_owned(),
        Names::Each | Names::All => {
            format!("event_name IN ({})", rows::distinct(table, "event_name"))
        }
    }
}

/// The column to select for a name; NULL where the filter says `All`.
fn told(column: &'static str, names: &Names) -> &'static str {
    match names {
        Names::One(_) | Names::Each => column,
        Names::All => "NULL",
    }
}

/// The single name as a parameter; NULL for statements that ask for no single name.
fn one(names: &Names) -> Option<&str> {
    match names {
        Names::One(name) => Some(name),
        Names::Each | Names::All => None,
    }
}

fn bounds(range: &Range<Timestamp>) -> [i64; 2] {
    [range.start.as_micros(), range.end.as_micros()]
}

fn rollup_row(row: &Row<'_>) -> rusqlite::Result<RollupRow> {
    Ok(RollupRow {
        event_name: row.get(0)?,
        channel: row.get(1)?,
        bucket: rows::bucket(row, 2)?,
        events: rows::count(row, 4)?,
        users: row.get(5)?,
    })
}
