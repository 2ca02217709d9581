//! Sums of days, their overflow, and which days there are.

use std::ops::Range;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::event::Timestamp;
use crate::event::bucket::{DAY_MICROS, Day};
use crate::rollup::{SeriesId, SeriesKey, Tally, UserSet};
use crate::store::sqlite::rows;

/// Marks days as changed since they were summed up; makes rows for days that have none.
pub(super) fn mark_stale(connection: &Connection, days: &[(SeriesId, Day)]) -> rusqlite::Result<()> {
    // Most days are stale already: the condition saves writing their rows again.
    let mut mark = connection.prepare_cached(
        "INSERT INTO rollup_days (series_id, day, stale, events, users) VALUES (?1, ?2, 1, 0, ?3) \
         ON CONFLICT (series_id, day) DO UPDATE SET stale = 1 WHERE NOT stale",
    )?;
    let nobody = UserSet::empty().encode();
    for (series, day) in days {
        mark.execute(params![series, day.start().as_micros(), nobody])?;
    }
    Ok(())
}

/// The earliest stale days.
pub(super) fn stale(connection: &Connection, before: Day, rows_max: usize) -> rusqlite::Result<Vec<(SeriesId, Day)>> {
    connection
        .prepare_cached("SELECT series_id, day FROM rollup_days WHERE stale AND day < ?1 ORDER BY day LIMIT ?2")?
        .query_map(
            params![before.start().as_micros(), rows::integer(rows_max as u64)],
            |row| Ok((row.get(0)?, rows::day(row, 1)?)),
        )?
        .collect()
}

/// Stores the sums of days.
pub(super) fn put(connection: &Connection, days: &[(SeriesId, Day, Tally)]) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO rollup_days (series_id, day, stale, events, users) VALUES (?1, ?2, 0, ?3, ?4) \
         ON CONFLICT (series_id, day) DO UPDATE SET stale = 0, events = excluded.events, users = excluded.users",
    )?;
    for (series, day, tally) in days {
        put.execute(params![
            series,
            day.start().as_micros(),
            rows::integer(tally.events),
            tally.users.encode()
        ])?;
    }
    Ok(())
}

/// The (name, channel) pairs and (name, all) series that have parts on a day: those that have a row for it.
pub(super) fn series_on(connection: &Connection, day: Day) -> rusqlite::Result<Vec<SeriesKey>> {
    connection
        .prepare_cached(
            "SELECT s.event_name, s.channel FROM rollup_days d CROSS JOIN rollup_series s ON s.id = d.series_id \
             WHERE d.day = ?1 AND s.event_name IS NOT NULL",
        )?
        .query_map([day.start().as_micros()], |row| rows::series_key(row, 0))?
        .collect()
}

/// The sums of a day that are not stale.
pub(super) fn sums_on(connection: &Connection, day: Day) -> rusqlite::Result<Vec<(SeriesKey, SeriesId, Tally)>> {
    connection
        .prepare_cached(
            "SELECT s.event_name, s.channel, s.id, d.events, d.users \
             FROM rollup_days d CROSS JOIN rollup_series s ON s.id = d.series_id WHERE d.day = ?1 AND NOT d.stale",
        )?
        .query_map([day.start().as_micros()], |row| {
            Ok((rows::series_key(row, 0)?, row.get(2)?, rows::tally(row, 3)?))
        })?
        .collect()
}

/// The series whose sum of a day is stale.
pub(super) fn stale_on(connection: &Connection, day: Day) -> rusqlite::Result<Vec<SeriesKey>> {
    connection
        .prepare_cached(
            "SELECT s.event_name, s.channel FROM rollup_days d CROSS JOIN rollup_series s ON s.id = d.series_id \
             WHERE d.day = ?1 AND d.stale",
        )?
        .query_map([day.start().as_micros()], |row| rows::series_key(row, 0))?
        .collect()
}

/// Number of events of a day whose (name, channel) pair got no series of its own.
pub(super) fn overflow_on(connection: &Connection, day: Day) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT events FROM rollup_overflow WHERE day = ?1")?
        .query_row([day.start().as_micros()], |row| rows::count(row, 0))
        .optional()
}

/// Adds events to the day's overflow.
pub(super) fn add_overflow(connection: &Connection, day: Day, events: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO rollup_overflow (day, events) VALUES (?1, ?2) \
             ON CONFLICT (day) DO UPDATE SET events = events + excluded.events",
        )?
        .execute([day.start().as_micros(), rows::integer(events)])?;
    Ok(())
}

/// The first day before `before` that has overflow and is not settled, or whose overflow has more than doubled since.
pub(super) fn unsettled(connection: &Connection, before: Day) -> rusqlite::Result<Option<Day>> {
    connection
        .prepare_cached(
            "SELECT day FROM rollup_overflow WHERE day < ?1 \
             AND (settled_events IS NULL OR events > 2 * settled_events) ORDER BY day LIMIT 1",
        )?
        .query_row([before.start().as_micros()], |row| rows::day(row, 0))
        .optional()
}

/// Notes that a day is settled.
pub(super) fn settle(connection: &Connection, day: Day) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE rollup_overflow SET settled_events = events WHERE day = ?1")?
        .execute([day.start().as_micros()])?;
    Ok(())
}

/// First and last day that has events, parts, deltas or sums.
pub(super) fn stored(connection: &Connection) -> rusqlite::Result<Option<(Day, Day)>> {
    let bound = |micros| Day::of(Timestamp::from_micros(micros));
    connection.query_row(&stored_sql(), [], |row| {
        let bounds: (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
        Ok(bounds.0.map(bound).zip(bounds.1.map(bound)))
    })
}

/// The statement steps through the indexes: every table has one over name or series, then time.
pub(super) fn stored_sql() -> String {
    let bounds = |table, name, time| {
        format!(
            "SELECT (SELECT min({time}) FROM {table} WHERE {name} = value) AS lowest, \
             (SELECT max({time}) FROM {table} WHERE {name} = value) AS highest FROM ({values})",
            values = rows::distinct(table, name)
        )
    };
    let tables = [
        bounds("events", "event_name", "ts"),
        bounds("rollup_deltas", "event_name", "bucket"),
        bounds("rollups", "series_id", "bucket"),
        "SELECT (SELECT min(day) FROM rollup_days), (SELECT max(day) FROM rollup_days)".to_owned(),
    ];
    format!("SELECT min(lowest), max(highest) FROM ({})", tables.join(" UNION ALL "))
}

/// The days that have parts, deltas, sums or overflow, in order.
pub(super) fn kept(connection: &Connection) -> rusqlite::Result<Vec<Day>> {
    connection
        .prepare(
            "SELECT DISTINCT at - at % ?1 AS day FROM (SELECT bucket AS at FROM rollups UNION ALL \
             SELECT bucket FROM rollup_deltas UNION ALL SELECT day FROM rollup_days UNION ALL SELECT day FROM rollup_overflow) ORDER BY day",
        )?
        .query_map([DAY_MICROS], |row| rows::day(row, 0))?
        .collect()
}

/// Whether any event of a range is stored. The index begins with the name, so each name is looked up.
pub(super) fn has_events(connection: &Connection, range: &Range<Timestamp>) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM ({names}) WHERE EXISTS \
         (SELECT 1 FROM events WHERE event_name = value AND ts >= ?1 AND ts < ?2))",
        names = rows::distinct("events", "event_name")
    );
    connection
        .prepare_cached(&sql)?
        .query_row(params![range.start.as_micros(), range.end.as_micros()], |row| {
            row.get(0)
        })
}

/// Removes sums and overflow of a day.
pub(super) fn clear(connection: &Connection, day: Day) -> rusqlite::Result<()> {
    for table in ["rollup_days", "rollup_overflow"] {
        connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE day = ?1"))?
            .execute([day.start().as_micros()])?;
    }
    Ok(())
}
