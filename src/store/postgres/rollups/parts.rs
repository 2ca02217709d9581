//! Parts and the series that they belong to.

use tokio_postgres::Row;

use super::{Instant, PostgresRollups, as_bigint, bucket, tally, value};
use crate::event::Timestamp;
use crate::rollup::{Bucket, Day, Part, SeriesId, SeriesKey};
use crate::store::StoreError;

/// Removes and returns the oldest parts of a minute.
pub(super) async fn take_minutes(
    store: &PostgresRollups,
    before: Timestamp,
    rows_max: usize,
) -> Result<Vec<Part>, StoreError> {
    let rows = store
        .query(
            "DELETE FROM rollups WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM rollups WHERE minutes = 1 AND bucket < $1 ORDER BY bucket LIMIT $2))
             RETURNING series_id, bucket, minutes, events, users",
            &[&Instant(before), &as_bigint(rows_max as u64)],
        )
        .await?;
    rows.iter().map(part).collect()
}

/// The numbers of series, missing ones made.
pub(super) async fn series_ids(
    store: &PostgresRollups,
    keys: &[SeriesKey],
) -> Result<Vec<SeriesId>, StoreError> {
    let ids = known_ids(store, keys).await?;
    if let Some(ids) = ids.iter().copied().collect() {
        return Ok(ids);
    }
    let missing: Vec<&SeriesKey> = keys
        .iter()
        .zip(&ids)
        .filter_map(|(key, id)| id.is_none().then_some(key))
        .collect();
    let event_names: Vec<_> = missing.iter().map(|key| &key.event_name).collect();
    let channels: Vec<_> = missing.iter().map(|key| &key.channel).collect();
    store
        .execute(
            "INSERT INTO rollup_series (event_name, channel) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING",
            &[&event_names, &channels],
        )
        .await?;
    let ids = known_ids(store, keys).await?;
    Ok(ids
        .into_iter()
        .map(|id| id.expect("made above, and nobody else may"))
        .collect())
}

/// Each key by one look into the index, which cannot be had with `IS NOT DISTINCT FROM`: hence the three branches, of which one applies.
async fn known_ids(
    store: &PostgresRollups,
    keys: &[SeriesKey],
) -> Result<Vec<Option<SeriesId>>, StoreError> {
    let event_names: Vec<_> = keys.iter().map(|key| &key.event_name).collect();
    let channels: Vec<_> = keys.iter().map(|key| &key.channel).collect();
    let rows = store
        .query(
            "SELECT known.n, series.id
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS known (event_name, channel, n), LATERAL (
                 SELECT id FROM rollup_series s WHERE s.event_name = known.event_name AND s.channel = known.channel
                 UNION ALL
                 SELECT id FROM rollup_series s
                 WHERE known.channel IS NULL AND s.event_name = known.event_name AND s.channel IS NULL
                 UNION ALL
                 SELECT id FROM rollup_series s
                 WHERE known.event_name IS NULL AND s.event_name IS NULL AND s.channel IS NULL
             ) AS series",
            &[&event_names, &channels],
        )
        .await?;
    let mut ids = vec![None; keys.len()];
    for row in &rows {
        let n: i64 = value(row, 0)?;
        let index = usize::try_from(n - 1).expect("ordinality begins with 1");
        ids[index] = Some(value(row, 1)?);
    }
    Ok(ids)
}

/// The parts with these keys, where they exist.
pub(super) async fn at(
    store: &PostgresRollups,
    keys: &[(SeriesId, Bucket)],
) -> Result<Vec<Part>, StoreError> {
    let series: Vec<_> = keys.iter().map(|(series, _)| *series).collect();
    let (starts, minutes) = columns(keys.iter().map(|(_, bucket)| bucket));
    let rows = store
        .query(
            "SELECT series_id, bucket, minutes, events, users
             FROM unnest($1::bigint[], $2::timestamptz[], $3::smallint[]) AS wanted (series_id, bucket, minutes)
             JOIN rollups USING (series_id, bucket, minutes)",
            &[&series, &starts, &minutes],
        )
        .await?;
    rows.iter().map(part).collect()
}

/// Inserts parts or replaces them.
pub(super) async fn put(store: &PostgresRollups, parts: &[Part]) -> Result<(), StoreError> {
    let series: Vec<_> = parts.iter().map(|part| part.series).collect();
    let (starts, minutes) = columns(parts.iter().map(|part| &part.bucket));
    let events: Vec<_> = parts
        .iter()
        .map(|part| as_bigint(part.tally.events))
        .collect();
    let users: Vec<_> = parts.iter().map(|part| part.tally.users.encode()).collect();
    store
        .execute(
            "INSERT INTO rollups (series_id, bucket, minutes, events, users)
             SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::smallint[], $4::bigint[], $5::bytea[])
             ON CONFLICT (series_id, bucket, minutes) DO UPDATE SET events = excluded.events, users = excluded.users",
            &[&series, &starts, &minutes, &events, &users],
        )
        .await?;
    Ok(())
}

/// All parts of a series on a day.
pub(super) async fn of_day(
    store: &PostgresRollups,
    series: SeriesId,
    day: Day,
) -> Result<Vec<Part>, StoreError> {
    let rows = store
        .query(
            "SELECT series_id, bucket, minutes, events, users FROM rollups
             WHERE series_id = $1 AND bucket >= $2 AND bucket < $3",
            &[&series, &Instant(day.start()), &Instant(day.end())],
        )
        .await?;
    rows.iter().map(part).collect()
}

/// All parts of a day, series by series, because there is no index by time alone.
pub(super) async fn on(
    store: &PostgresRollups,
    day: Day,
) -> Result<Vec<(SeriesKey, Part)>, StoreError> {
    let rows = store
        .query(
            "SELECT part.series_id, part.bucket, part.minutes, part.events, part.users, series.event_name, series.channel
             FROM rollup_series AS series, LATERAL (
                 SELECT * FROM rollups WHERE series_id = series.id AND bucket >= $1 AND bucket < $2
             ) AS part",
            &[&Instant(day.start()), &Instant(day.end())],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((series_key(row, 5)?, part(row)?)))
        .collect()
}

/// Removes all parts of a day.
pub(super) async fn clear(store: &PostgresRollups, day: Day) -> Result<(), StoreError> {
    store
        .execute(
            "DELETE FROM rollups WHERE series_id = ANY (ARRAY(SELECT id FROM rollup_series)) AND bucket >= $1 AND bucket < $2",
            &[&Instant(day.start()), &Instant(day.end())],
        )
        .await?;
    Ok(())
}

/// What a series counts: the column `event_name`, with `channel` behind it.
pub(super) fn series_key(row: &Row, column: usize) -> Result<SeriesKey, StoreError> {
    Ok(SeriesKey {
        event_name: value(row, column)?,
        channel: value(row, column + 1)?,
    })
}

fn part(row: &Row) -> Result<Part, StoreError> {
    Ok(Part {
        series: value(row, 0)?,
        bucket: bucket(row, 1)?,
        tally: tally(row, 3)?,
    })
}

fn columns<'b>(buckets: impl Iterator<Item = &'b Bucket>) -> (Vec<Instant>, Vec<i16>) {
    buckets
        .map(|bucket| (Instant(bucket.start), bucket.width.minutes()))
        .unzip()
}
