//! Series and their parts.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::{Part, SeriesId, SeriesKey};
use crate::store::sqlite::rows;

pub(super) const TAKE_MINUTES: &str = "DELETE FROM rollups WHERE rowid IN \
    (SELECT rowid FROM rollups WHERE minutes = 1 AND bucket < ?1 ORDER BY bucket LIMIT ?2) \
    RETURNING series_id, bucket, minutes, events, users";

/// The numbers of series; makes missing series.
pub(super) fn series_ids(connection: &Connection, keys: &[SeriesKey]) -> rusqlite::Result<Vec<SeriesId>> {
    // With the same expressions as the unique index, which would not be used otherwise.
    let mut find = connection.prepare_cached(
        "SELECT id FROM rollup_series WHERE coalesce(event_name, '') = coalesce(?1, '') AND coalesce(channel, '') = coalesce(?2, '')",
    )?;
    let mut make =
        connection.prepare_cached("INSERT INTO rollup_series (event_name, channel) VALUES (?1, ?2) RETURNING id")?;
    let mut id = |key: &SeriesKey| {
        let key = params![key.event_name, key.channel];
        match find.query_row(key, |row| row.get(0)).optional()? {
            Some(id) => Ok(id),
            None => make.query_row(key, |row| row.get(0)),
        }
    };
    keys.iter().map(&mut id).collect()
}

/// Removes and returns the oldest parts of a minute.
pub(super) fn take_minutes(connection: &Connection, before: Timestamp, rows_max: usize) -> rusqlite::Result<Vec<Part>> {
    let mut taken: Vec<Part> = connection
        .prepare_cached(TAKE_MINUTES)?
        .query_map(params![before.as_micros(), rows::integer(rows_max as u64)], part)?
        .collect::<rusqlite::Result<_>>()?;
    // RETURNING promises no order.
    taken.sort_by_key(|part| part.bucket);
    Ok(taken)
}

/// The parts with these series and buckets, where they exist.
pub(super) fn at(connection: &Connection, keys: &[(SeriesId, Bucket)]) -> rusqlite::Result<Vec<Part>> {
    let mut find = connection.prepare_cached(
        "SELECT series_id, bucket, minutes, events, users FROM rollups WHERE series_id = ?1 AND bucket = ?2 AND minutes = ?3",
    )?;
    let mut parts = Vec::new();
    for (series, bucket) in keys {
        let key = params![series, bucket.start.as_micros(), bucket.width.minutes()];
        parts.extend(find.query_row(key, part).optional()?);
    }
    Ok(parts)
}

/// Inserts or replaces parts.
pub(super) fn put(connection: &Connection, parts: &[Part]) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO rollups (series_id, bucket, minutes, events, users) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (series_id, bucket, minutes) DO UPDATE SET events = excluded.events, users = excluded.users",
    )?;
    let mut users = Vec::new();
    for part in parts {
        users.clear();
        part.tally.users.encode_into(&mut users);
        put.execute(params![
            part.series,
            part.bucket.start.as_micros(),
            part.bucket.width.minutes(),
            rows::integer(part.tally.events),
            users
        ])?;
    }
    Ok(())
}

/// The parts of a series on a day.
pub(super) fn of_day(connection: &Connection, series: SeriesId, day: Day) -> rusqlite::Result<Vec<Part>> {
    connection
        .prepare_cached(
            "SELECT series_id, bucket, minutes, events, users FROM rollups WHERE series_id = ?1 AND bucket >= ?2 AND bucket < ?3",
        )?
        .query_map(
            params![series, day.start().as_micros(), day.end().as_micros()],
            part,
        )?
        .collect()
}

/// The parts of a day. Found by the series, not by `rollup_days`, because `verify` compares these parts with
/// `rollup_days`.
pub(super) fn on(connection: &Connection, day: Day) -> rusqlite::Result<Vec<(SeriesKey, Part)>> {
    connection
        .prepare_cached(
            "SELECT r.series_id, r.bucket, r.minutes, r.events, r.users, s.event_name, s.channel \
             FROM rollup_series s CROSS JOIN rollups r ON r.series_id = s.id WHERE r.bucket >= ?1 AND r.bucket < ?2",
        )?
        .query_map([day.start().as_micros(), day.end().as_micros()], |row| {
            Ok((rows::series_key(row, 5)?, part(row)?))
        })?
        .collect()
}

/// Removes the parts of a day.
pub(super) fn clear(connection: &Connection, day: Day) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM rollups WHERE series_id IN (SELECT id FROM rollup_series) AND bucket >= ?1 AND bucket < ?2",
        )?
        .execute([day.start().as_micros(), day.end().as_micros()])?;
    Ok(())
}

fn part(row: &Row<'_>) -> rusqlite::Result<Part> {
    Ok(Part {
        series: row.get(0)?,
        bucket: rows::bucket(row, 1)?,
        tally: rows::tally(row, 3)?,
    })
}
