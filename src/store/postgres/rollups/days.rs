//! Sums of days, which of them are stale, and the pairs that found no room.

use super::{Instant, PostgresRollups, as_bigint, count, parts, tally, value};
use crate::rollup::{Day, SeriesId, SeriesKey, Tally};
use crate::store::StoreError;

/// Marks days as changed. Those that are stale already are left alone: most are, and each rewritten row would have to be vacuumed.
pub(super) async fn mark_stale(
    store: &PostgresRollups,
    days: &[(SeriesId, Day)],
) -> Result<(), StoreError> {
    let series: Vec<_> = days.iter().map(|(series, _)| *series).collect();
    let starts: Vec<_> = days.iter().map(|(_, day)| Instant(day.start())).collect();
    store
        .execute(
            "INSERT INTO rollup_days (series_id, day, stale, events, users)
             SELECT series_id, day, true, 0, '' FROM unnest($1::bigint[], $2::timestamptz[]) AS changed (series_id, day)
             ON CONFLICT (series_id, day) DO UPDATE SET stale = true, events = 0, users = '' WHERE NOT rollup_days.stale",
            &[&series, &starts],
        )
        .await?;
    Ok(())
}

/// The oldest stale days.
pub(super) async fn stale(
    store: &PostgresRollups,
    before: Day,
    rows_max: usize,
) -> Result<Vec<(SeriesId, Day)>, StoreError> {
    let rows = store
        .query(
            "SELECT series_id, day FROM rollup_days WHERE stale AND day < $1 ORDER BY day, series_id LIMIT $2",
            &[&Instant(before.start()), &as_bigint(rows_max as u64)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let Instant(day) = value(row, 1)?;
            Ok((value(row, 0)?, Day::of(day)))
        })
        .collect()
}

/// Stores the sums of days.
pub(super) async fn put(
    store: &PostgresRollups,
    days: &[(SeriesId, Day, Tally)],
) -> Result<(), StoreError> {
    let series: Vec<_> = days.iter().map(|(series, ..)| *series).collect();
    let starts: Vec<_> = days
        .iter()
        .map(|(_, day, _)| Instant(day.start()))
        .collect();
    let events: Vec<_> = days
        .iter()
        .map(|(.., tally)| as_bigint(tally.events))
        .collect();
    let users: Vec<_> = days
        .iter()
        .map(|(.., tally)| tally.users.encode())
        .collect();
    store
        .execute(
            "INSERT INTO rollup_days (series_id, day, stale, events, users)
             SELECT series_id, day, false, events, users
             FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bytea[]) AS sum (series_id, day, events, users)
             ON CONFLICT (series_id, day) DO UPDATE SET stale = false, events = excluded.events, users = excluded.users",
            &[&series, &starts, &events, &users],
        )
        .await?;
    Ok(())
}

/// The series of a day but for that of everything.
pub(super) async fn series_on(
    store: &PostgresRollups,
    day: Day,
) -> Result<Vec<SeriesKey>, StoreError> {
    let rows = store
        .query(
            "SELECT event_name, channel FROM rollup_days JOIN rollup_series ON id = series_id
             WHERE day = $1 AND event_name IS NOT NULL",
            &[&Instant(day.start())],
        )
        .await?;
    rows.iter().map(|row| parts::series_key(row, 0)).collect()
}

/// Events of a day without a series of their own.
pub(super) async fn overflow_on(
    store: &PostgresRollups,
    day: Day,
) -> Result<Option<u64>, StoreError> {
    let rows = store
        .query(
            "SELECT events FROM rollup_overflow WHERE day = $1",
            &[&Instant(day.start())],
        )
        .await?;
    rows.first().map(|row| count(row, 0)).transpose()
}

/// Adds to them.
pub(super) async fn add_overflow(
    store: &PostgresRollups,
    day: Day,
    events: u64,
) -> Result<(), StoreError> {
    store
        .execute(
            "INSERT INTO rollup_overflow (day, events) VALUES ($1, $2)
             ON CONFLICT (day) DO UPDATE SET events = rollup_overflow.events + excluded.events",
            &[&Instant(day.start()), &as_bigint(events)],
        )
        .await?;
    Ok(())
}

/// First and last day of everything.
pub(super) async fn stored(store: &PostgresRollups) -> Result<Option<(Day, Day)>, StoreError> {
    let rows = store
        .query(
            "SELECT min(first), max(last) FROM (
                 SELECT min(ts) AS first, max(ts) AS last FROM events
                 UNION ALL SELECT min(bucket), max(bucket) FROM rollup_deltas
                 UNION ALL SELECT min(bucket), max(bucket) FROM rollups
                 UNION ALL SELECT min(day), max(day) FROM rollup_days
                 UNION ALL SELECT min(day), max(day) FROM rollup_overflow
             ) AS stored",
            &[],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let bounds: (Option<Instant>, Option<Instant>) = (value(row, 0)?, value(row, 1)?);
    Ok(match bounds {
        (Some(Instant(first)), Some(Instant(last))) => Some((Day::of(first), Day::of(last))),
        _ => None,
    })
}

/// The sums of a day that are not stale.
pub(super) async fn sums_on(
    store: &PostgresRollups,
    day: Day,
) -> Result<Vec<(SeriesKey, SeriesId, Tally)>, StoreError> {
    let rows = store
        .query(
            "SELECT event_name, channel, series_id, events, users FROM rollup_days JOIN rollup_series ON id = series_id
             WHERE day = $1 AND NOT stale",
            &[&Instant(day.start())],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((parts::series_key(row, 0)?, value(row, 2)?, tally(row, 3)?)))
        .collect()
}

/// Removes sums and overflow of a day.
pub(super) async fn clear(store: &PostgresRollups, day: Day) -> Result<(), StoreError> {
    for table in ["rollup_days", "rollup_overflow"] {
        let sql = format!("DELETE FROM {table} WHERE day = $1");
        store.execute(&sql, &[&Instant(day.start())]).await?;
    }
    Ok(())
}
