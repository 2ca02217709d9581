//! The deltas of flushes: inserted with the rows that they count, removed by compaction.

use rusqlite::{Connection, Row, params};

use super::rows;
use crate::event::bucket::Day;
use crate::rollup::Delta;
use crate::rollup::fold::DeltaRef;

/// Inserts the deltas of a flush. Must run in the transaction that stores the events.
pub(super) fn insert(connection: &Connection, deltas: &[DeltaRef<'_>]) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO rollup_deltas (event_name, channel, bucket, minutes, events, users) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut users = Vec::new();
    for delta in deltas {
        users.clear();
        delta.users.encode_into(&mut users);
        insert.execute(params![
            delta.event_name,
            delta.channel,
            delta.bucket.start.as_micros(),
            delta.bucket.width.minutes(),
            rows::integer(delta.events),
            users
        ])?;
    }
    Ok(())
}

/// Removes and returns the oldest deltas.
pub(super) fn take(connection: &Connection, rows_max: usize) -> rusqlite::Result<Vec<Delta>> {
    let mut last = None;
    let deltas = connection
        .prepare_cached(
            "SELECT event_name, channel, bucket, minutes, events, users, rowid FROM rollup_deltas ORDER BY rowid LIMIT ?1",
        )?
        .query_map([rows::integer(rows_max as u64)], |row| {
            last = Some(row.get::<_, i64>(6)?);
            delta(row)
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    // No other connection writes during the transaction, so these are the same rows.
    connection
        .prepare_cached("DELETE FROM rollup_deltas WHERE rowid <= ?1")?
        .execute([last])?;
    Ok(deltas)
}

/// The deltas of a day.
pub(super) fn on(connection: &Connection, day: Day) -> rusqlite::Result<Vec<Delta>> {
    let sql = format!(
        "SELECT event_name, channel, bucket, minutes, events, users FROM rollup_deltas \
         WHERE event_name IN ({names}) AND bucket >= ?1 AND bucket < ?2",
        names = rows::distinct("rollup_deltas", "event_name")
    );
    let bounds = [day.start().as_micros(), day.end().as_micros()];
    connection.prepare_cached(&sql)?.query_map(bounds, delta)?.collect()
}

/// Removes the deltas of a day.
pub(super) fn clear(connection: &Connection, day: Day) -> rusqlite::Result<()> {
    let sql = format!(
        "DELETE FROM rollup_deltas WHERE event_name IN ({names}) AND bucket >= ?1 AND bucket < ?2",
        names = rows::distinct("rollup_deltas", "event_name")
    );
    connection
        .prepare_cached(&sql)?
        .execute([day.start().as_micros(), day.end().as_micros()])?;
    Ok(())
}

fn delta(row: &Row<'_>) -> rusqlite::Result<Delta> {
    Ok(Delta {
        event_name: row.get(0)?,
        channel: row.get(1)?,
        bucket: rows::bucket(row, 2)?,
        tally: rows::tally(row, 4)?,
    })
}
