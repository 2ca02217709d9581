//! Rows of the rollup tables, to and from Rust.

use tokio_postgres::Row;

use super::super::error::StatementError;
use super::super::instant::Instant;
use crate::event::bucket::{Bucket, Day, Width};
use crate::rollup::{Delta, Part, SeriesId, SeriesKey, Tally, UserSet};
use crate::store::StoreError;

/// Columns of parts, as arrays for `unnest`.
pub(super) struct PartColumns {
    pub(super) series: Vec<i32>,
    pub(super) buckets: Vec<Instant>,
    pub(super) minutes: Vec<i16>,
}

impl PartColumns {
    pub(super) fn of(keys: impl Iterator<Item = (SeriesId, Bucket)>) -> Self {
        let mut columns = Self {
            series: Vec::new(),
            buckets: Vec::new(),
            minutes: Vec::new(),
        };
        for (series, bucket) in keys {
            columns.series.push(series_number(series));
            columns.buckets.push(Instant(bucket.start));
            columns.minutes.push(bucket.width.minutes());
        }
        columns
    }
}

/// The column `series_id`.
///
/// # Panics
///
/// When the number is not one that this store gave out.
pub(super) fn series_number(series: SeriesId) -> i32 {
    i32::try_from(series).expect("a number that this store gave out")
}

/// The column `events`.
///
/// # Panics
///
/// Beyond 2^63 events.
pub(super) fn as_bigint(events: u64) -> i64 {
    i64::try_from(events).expect("a count fits into 63 bits")
}

/// Reads `event_name, channel, bucket, minutes, events, users`.
pub(super) fn delta(row: &Row) -> Result<Delta, StatementError> {
    Ok(Delta {
        event_name: row.try_get(0)?,
        channel: row.try_get(1)?,
        bucket: bucket(row, 2)?,
        tally: tally(row, 4)?,
    })
}

/// Reads `series_id, bucket, minutes, events, users`, from the column `first` on.
pub(super) fn part(row: &Row, first: usize) -> Result<Part, StatementError> {
    Ok(Part {
        series: series(row, first)?,
        bucket: bucket(row, first + 1)?,
        tally: tally(row, first + 3)?,
    })
}

/// Reads `event_name, channel`.
pub(super) fn key(row: &Row) -> Result<SeriesKey, StatementError> {
    Ok(SeriesKey {
        event_name: row.try_get(0)?,
        channel: row.try_get(1)?,
    })
}

/// Reads a series' number.
pub(super) fn series(row: &Row, column: usize) -> Result<SeriesId, StatementError> {
    Ok(SeriesId::from(row.try_get::<_, i32>(column)?))
}

/// Reads a day.
pub(super) fn day(row: &Row, column: usize) -> Result<Day, StatementError> {
    let Instant(start) = row.try_get(column)?;
    Ok(Day::of(start))
}

/// Reads `events, users`, from the column `first` on.
pub(super) fn tally(row: &Row, first: usize) -> Result<Tally, StatementError> {
    let users = UserSet::decode(row.try_get(first + 1)?);
    Ok(Tally {
        events: count(row, first)?,
        users: users.map_err(|error| damaged(&error))?,
    })
}

/// Reads a count.
pub(super) fn count(row: &Row, column: usize) -> Result<u64, StatementError> {
    let count: i64 = row.try_get(column)?;
    u64::try_from(count).map_err(|_| damaged(&format!("a rollup counts {count} events")).into())
}

/// The error for a value that this program cannot have written. Retrying cannot help.
fn damaged(what: &dyn std::fmt::Display) -> StoreError {
    StoreError::Schema(format!("{what}; `fast-ingest rollup rebuild` builds the rollups again"))
}

fn bucket(row: &Row, first: usize) -> Result<Bucket, StatementError> {
    let Instant(start) = row.try_get(first)?;
    let minutes: i16 = row.try_get(first + 1)?;
    let width = Width::from_minutes(i64::from(minutes));
    let width = width.ok_or_else(|| damaged(&format!("a rollup is {minutes} minutes wide")))?;
    Ok(Bucket { start, width })
}
