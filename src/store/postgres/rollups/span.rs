//! Finds the days that have anything stored, without reading all events.

use std::ops::Range;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::error::{StatementError, bounded};
use super::super::instant::Instant;
use super::session::Transactions;
use crate::event::Timestamp;
use crate::event::bucket::Day;

/// Range of each partition in order, as text that only this session reads back. A table that is not partitioned by time
/// alone (a default partition, a table that somebody partitioned otherwise or not at all) may hold any time.
const RANGES: &str = "SELECT lower::text, upper::text FROM (
        SELECT coalesce(substring(bound FROM $re$FROM \\('([^']+)'\\)$re$)::timestamptz, '-infinity') AS lower,
               coalesce(substring(bound FROM $re$TO \\('([^']+)'\\)$re$)::timestamptz, 'infinity') AS upper
        FROM (SELECT CASE WHEN pg_get_partkeydef(inhparent) = 'RANGE (ts)' THEN pg_get_expr(relpartbound, pg_class.oid) END AS bound
              FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'events'::regclass
              UNION ALL
              SELECT NULL WHERE NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'events'::regclass)) AS partitions
    ) AS ranges ORDER BY ranges.lower";
/// First and last event of a range. Asked of the parent table, so that it does not matter if a partition vanishes.
const ENDS: &str =
    "SELECT min(ts), max(ts) FROM events WHERE ts >= $1::text::timestamptz AND ts < $2::text::timestamptz";
/// First and last time of all rollups.
const KEPT: &str = "SELECT min(first), max(last) FROM (
        SELECT min(bucket) AS first, max(bucket) AS last FROM rollups
        UNION ALL SELECT min(bucket), max(bucket) FROM rollup_deltas
        UNION ALL SELECT min(day), max(day) FROM rollup_days
    ) AS kept";

/// Days of all rollups.
const DAYS_KEPT: &str = "SELECT DISTINCT date_bin('1 day', kept.at, '1970-01-01T00:00:00Z') AS day FROM (
        SELECT bucket AS at FROM rollups UNION ALL SELECT bucket FROM rollup_deltas UNION ALL SELECT day FROM rollup_days
        UNION ALL SELECT day FROM rollup_overflow
    ) AS kept ORDER BY day";
const HAS_EVENTS: &str = "SELECT EXISTS (SELECT FROM events WHERE ts >= $1 AND ts < $2)";

type Ends = Option<(Timestamp, Timestamp)>;

/// First and last day that has events or rollups.
pub(super) async fn read(transactions: &mut Transactions) -> Result<Option<(Day, Day)>, StatementError> {
    let ranges = ranges(&transactions.query(RANGES, &[]).await?)?;
    let limit = transactions.allow_long().await?;
    let kept = bounded(limit, transactions.client().query_one(KEPT, &[])).await?;
    let found = [ends(&kept)?, of_events(transactions, limit, &ranges).await?];
    let found = || found.iter().flatten();
    let first = found().map(|(first, _)| Day::of(*first)).min();
    let last = found().map(|(_, last)| Day::of(*last)).max();
    Ok(first.zip(last))
}

/// The days that have parts, deltas, sums or overflow, in order.
pub(super) async fn days_kept(transactions: &mut Transactions) -> Result<Vec<Day>, StatementError> {
    let rows = transactions.query_long(DAYS_KEPT, &[]).await?;
    let day = |row: &Row| {
        let Instant(start) = row.try_get(0)?;
        Ok(Day::of(start))
    };
    rows.iter().map(day).collect()
}

/// Whether any event of a range is stored.
pub(super) async fn has_events(
    transactions: &mut Transactions,
    range: Range<Timestamp>,
) -> Result<bool, StatementError> {
    // The planner expects to find a row soon, and would read a whole partition to learn that a day in it has none.
    transactions.set_local("enable_seqscan = off").await?;
    let values: [&(dyn ToSql + Sync); 2] = [&Instant(range.start), &Instant(range.end)];
    let rows = transactions.query_long(HAS_EVENTS, &values).await?;
    transactions.set_local("enable_seqscan TO DEFAULT").await?;
    Ok(rows[0].try_get(0)?)
}

/// Searches from both ends for a range that is not empty, which is enough because partitions do not overlap.
async fn of_events(
    transactions: &Transactions,
    limit: Duration,
    ranges: &[(String, String)],
) -> Result<Ends, StatementError> {
    let read = async |(lower, upper): &(String, String)| {
        let values: [&(dyn ToSql + Sync); 2] = [lower, upper];
        let asked = transactions.client().query_one(ENDS, &values);
        ends(&bounded(limit, asked).await?)
    };
    let mut later = ranges.iter();
    let (first, last) = loop {
        let Some(range) = later.next() else {
            return Ok(None);
        };
        if let Some(ends) = read(range).await? {
            break ends;
        }
    };
    for range in later.rev() {
        if let Some((_, last)) = read(range).await? {
            return Ok(Some((first, last)));
        }
    }
    Ok(Some((first, last)))
}

/// The ranges of all partitions; a single unbounded one if some partition may hold any time.
fn ranges(rows: &[Row]) -> Result<Vec<(String, String)>, StatementError> {
    let mut ranges: Vec<(String, String)> = Vec::new();
    for row in rows {
        let range = (row.try_get(0)?, row.try_get(1)?);
        if range == ("-infinity".to_owned(), "infinity".to_owned()) {
            return Ok(vec![range]);
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn ends(row: &Row) -> Result<Ends, StatementError> {
    let first: Option<Instant> = row.try_get(0)?;
    let last: Option<Instant> = row.try_get(1)?;
    Ok(first.zip(last).map(|(Instant(first), Instant(last))| (first, last)))
}
