//! Keeping the rollups in SQLite: a writer connection of its own, whose immediate transaction is the lock. SQLite has
//! one writer at a time, so no other connection changes parts and days in the meantime; the flush waits as well, so
//! these transactions must stay short.
//!
//! The calls block, like those of the sink: the rollup thread does nothing else.

mod days;
mod parts;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::busy::{BUSY_TIMEOUT, is_busy};
use super::connection;
use super::error::store_error;
use super::{deltas, rows};
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::users::NewKey;
use crate::rollup::{Delta, Part, SeriesId, SeriesKey, Tally, UserKey};
use crate::store::{RollupStore, StoreError};

/// Pause between two attempts to become the writer. SQLite's own handler pauses for up to 100 ms, and would miss the
/// short gaps that the flush leaves under load.
const POLL: Duration = Duration::from_millis(1);
/// How long to try without `wait`: the time of some flushes, which take the same lock but not for long.
const SHORT_WAIT: Duration = Duration::from_millis(250);
/// Prepared statements that are kept: enough for all of this file.
const CACHED_STATEMENTS: usize = 32;

/// The connection that keeps the rollups. Dropping it rolls an open transaction back.
pub(super) struct SqliteRollups {
    connection: Connection,
}

impl SqliteRollups {
    /// Opens the database, which `migrate` has made.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = connection::open_writer(path)?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        Ok(Self { connection })
    }

    fn run<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        act(&self.connection).map_err(|error| store_error(&error))
    }
}

#[async_trait]
impl RollupStore for SqliteRollups {
    async fn begin(&mut self, wait: bool) -> Result<bool, StoreError> {
        self.run(|connection| {
            connection.busy_handler(Some(if wait { try_long } else { try_shortly }))?;
            match connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => Ok(true),
                Err(error) if is_busy(&error) && !wait => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    async fn begin_reading(&mut self) -> Result<(), StoreError> {
        self.run(|connection| {
            connection.execute_batch("BEGIN DEFERRED")?;
            // The first read takes the snapshot, so one is done here.
            rebuild_needed(connection).map(|_| ())
        })
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        self.run(|connection| connection.execute_batch("COMMIT"))
    }

    async fn take_deltas(&mut self, rows_max: usize) -> Result<Vec<Delta>, StoreError> {
        self.run(|connection| deltas::take(connection, rows_max))
    }

    async fn take_minutes(&mut self, before: Timestamp, rows_max: usize) -> Result<Vec<Part>, StoreError> {
        self.run(|connection| parts::take_minutes(connection, before, rows_max))
    }

    async fn series_ids(&mut self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError> {
        self.run(|connection| parts::series_ids(connection, keys))
    }

    async fn parts_at(&mut self, keys: &[(SeriesId, Bucket)]) -> Result<Vec<Part>, StoreError> {
        self.run(|connection| parts::at(connection, keys))
    }

    async fn put_parts(&mut self, parts: &[Part]) -> Result<(), StoreError> {
        self.run(|connection| parts::put(connection, parts))
    }

    async fn mark_stale(&mut self, days: &[(SeriesId, Day)]) -> Result<(), StoreError> {
        self.run(|connection| days::mark_stale(connection, days))
    }

    async fn stale_days(&mut self, before: Day, rows_max: usize) -> Result<Vec<(SeriesId, Day)>, StoreError> {
        self.run(|connection| days::stale(connection, before, rows_max))
    }

    async fn parts_of_day(&mut self, series: SeriesId, day: Day) -> Result<Vec<Part>, StoreError> {
        self.run(|connection| parts::of_day(connection, series, day))
    }

    async fn put_days(&mut self, days: &[(SeriesId, Day, Tally)]) -> Result<(), StoreError> {
        self.run(|connection| days::put(connection, days))
    }

    async fn series_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError> {
        self.run(|connection| days::series_on(connection, day))
    }

    async fn overflow_on(&mut self, day: Day) -> Result<Option<u64>, StoreError> {
        self.run(|connection| days::overflow_on(connection, day))
    }

    async fn add_overflow(&mut self, day: Day, events: u64) -> Result<(), StoreError> {
        self.run(|connection| days::add_overflow(connection, day, events))
    }

    async fn unsettled_day(&mut self, before: Day) -> Result<Option<Day>, StoreError> {
        self.run(|connection| days::unsettled(connection, before))
    }

    async fn settle(&mut self, day: Day) -> Result<(), StoreError> {
        self.run(|connection| days::settle(connection, day))
    }

    async fn days_stored(&mut self) -> Result<Option<(Day, Day)>, StoreError> {
        self.run(days::stored)
    }

    async fn days_kept(&mut self) -> Result<Vec<Day>, StoreError> {
        self.run(days::kept)
    }

    async fn has_events(&mut self, range: Range<Timestamp>) -> Result<bool, StoreError> {
        self.run(|connection| days::has_events(connection, &range))
    }

    async fn read_events(
        &mut self,
        range: Range<Timestamp>,
        each: &mut (dyn for<'e> FnMut(&'e str, &'e str, &'e str, Timestamp) + Send),
    ) -> Result<(), StoreError> {
        self.run(|connection| read_events(connection, range, each))
    }

    async fn pairs_on(&mut self, day: Day, pairs_max: usize) -> Result<Vec<SeriesKey>, StoreError> {
        self.run(|connection| pairs_on(connection, day, pairs_max))
    }

    async fn parts_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, Part)>, StoreError> {
        self.run(|connection| parts::on(connection, day))
    }

    async fn sums_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, SeriesId, Tally)>, StoreError> {
        self.run(|connection| days::sums_on(connection, day))
    }

    async fn stale_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError> {
        self.run(|connection| days::stale_on(connection, day))
    }

    async fn deltas_on(&mut self, day: Day) -> Result<Vec<Delta>, StoreError> {
        self.run(|connection| deltas::on(connection, day))
    }

    async fn clear_day(&mut self, day: Day) -> Result<(), StoreError> {
        self.run(|connection| {
            parts::clear(connection, day)?;
            days::clear(connection, day)?;
            deltas::clear(connection, day)
        })
    }

    async fn user_key(&mut self) -> Result<UserKey, StoreError> {
        self.run(user_key)
    }

    async fn make_user_key(&mut self) -> Result<NewKey, StoreError> {
        // This transaction is the only writer, so no flush is under way.
        self.run(|connection| {
            let exists = |sql| connection.query_row(sql, [], |row| row.get::<_, bool>(0));
            if exists("SELECT user_key IS NOT NULL FROM rollup_state")? {
                return Ok(NewKey::NotNeeded);
            }
            if exists(DAY_WITHOUT_EVENTS)? {
                return Ok(NewKey::KeptForOldDays);
            }
            connection.execute(
                "UPDATE rollup_state SET user_key = lower(hex(randomblob(16))), rebuild_needed = 1, build_from = NULL",
                [],
            )?;
            Ok(NewKey::Made)
        })
    }

    async fn rebuild_needed(&mut self) -> Result<bool, StoreError> {
        self.run(rebuild_needed)
    }

    async fn build_from(&mut self) -> Result<Option<Day>, StoreError> {
        let sql = "SELECT build_from FROM rollup_state WHERE build_from IS NOT NULL";
        self.run(|connection| {
            let day = connection.query_row(sql, [], |row| rows::day(row, 0));
            day.optional()
        })
    }

    async fn set_build_from(&mut self, day: Day) -> Result<(), StoreError> {
        // Another run may have finished everything already.
        let sql = "UPDATE rollup_state SET build_from = ?1 WHERE rebuild_needed";
        self.run(|connection| {
            connection.execute(sql, [day.start().as_micros()])?;
            Ok(())
        })
    }

    async fn set_rebuilt(&mut self) -> Result<(), StoreError> {
        let sql = "UPDATE rollup_state SET rebuild_needed = 0, build_from = NULL";
        self.run(|connection| {
            connection.execute(sql, [])?;
            Ok(())
        })
    }
}

/// A day with rollups and without events.
const DAY_WITHOUT_EVENTS: &str = "SELECT EXISTS (SELECT 1 FROM (SELECT DISTINCT day FROM rollup_days) AS d
    WHERE NOT EXISTS (SELECT 1 FROM events WHERE event_name IN (SELECT event_name FROM rollup_series)
        AND ts >= d.day AND ts < d.day + 86400000000))";

/// The key with which users are hashed.
pub(super) fn user_key(connection: &Connection) -> rusqlite::Result<UserKey> {
    connection
        .prepare_cached("SELECT user_key FROM rollup_state")?
        .query_row([], |row| rows::user_key(row, 0))
}

/// Busy handlers: SQLite calls them after each failed attempt, and tries again if they return `true`.
fn try_long(attempts: i32) -> bool {
    rest(attempts, BUSY_TIMEOUT)
}

fn try_shortly(attempts: i32) -> bool {
    rest(attempts, SHORT_WAIT)
}

fn rest(attempts: i32, longest: Duration) -> bool {
    std::thread::sleep(POLL);
    POLL.saturating_mul(attempts.unsigned_abs()) < longest
}

fn rebuild_needed(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT rebuild_needed FROM rollup_state")?
        .query_row([], |row| row.get(0))
}

/// Hands over the events of a range, name by name, because the index over times begins with the name.
fn read_events(
    connection: &Connection,
    range: Range<Timestamp>,
    each: &mut (dyn for<'e> FnMut(&'e str, &'e str, &'e str, Timestamp) + Send),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&events_sql())?;
    let mut events = statement.query([range.start.as_micros(), range.end.as_micros()])?;
    while let Some(row) = events.next()? {
        let text = |column| -> rusqlite::Result<&str> { Ok(row.get_ref(column)?.as_str()?) };
        let timestamp = Timestamp::from_micros(row.get(3)?);
        each(text(0)?, text(1)?, text(2)?, timestamp);
    }
    Ok(())
}

/// The pairs with the most events on a day; ties by bytes, which is how SQLite compares texts.
fn pairs_on(connection: &Connection, day: Day, pairs_max: usize) -> rusqlite::Result<Vec<SeriesKey>> {
    connection
        .prepare_cached(&pairs_sql())?
        .query_map(
            params![
                day.start().as_micros(),
                day.end().as_micros(),
                rows::integer(pairs_max as u64)
            ],
            |row| rows::series_key(row, 0),
        )?
        .collect()
}

fn pairs_sql() -> String {
    format!(
        "SELECT event_name, channel FROM ({events}) GROUP BY event_name, channel \
         ORDER BY count(*) DESC, event_name, channel LIMIT ?3",
        events = events_sql()
    )
}

fn events_sql() -> String {
    format!(
        "SELECT event_name, channel, user_id, ts FROM events WHERE event_name IN ({names}) AND ts >= ?1 AND ts < ?2",
        names = rows::distinct("events", "event_name")
    )
}
