//! The metrics query on SQLite. Total and groups are two statements in one read transaction, so from one snapshot.

use rusqlite::{Connection, params};

use super::readers::Readers;
use super::snapshot::SqliteSnapshot;
use crate::event::Timestamp;
use crate::query::{Counts, GROUPS_MAX, Group, GroupBy, GroupKey, MetricsQuery, MetricsReport};
use crate::store::StoreError;

/// Answers one query.
pub(super) async fn answer(
    readers: &Readers,
    query: &MetricsQuery,
) -> Result<MetricsReport, StoreError> {
    let query = query.clone();
    let report = readers
        .read(move |reader| SqliteSnapshot::with(reader, |snapshot| run(snapshot, &query)))
        .await?;
    if report.groups.len() > GROUPS_MAX {
        return Err(StoreError::TooManyGroups { max: GROUPS_MAX });
    }
    Ok(report)
}

fn run(snapshot: &mut SqliteSnapshot<'_>, query: &MetricsQuery) -> rusqlite::Result<MetricsReport> {
    let reader = snapshot.connection();
    let range = params![
        query.event_name,
        query.from.as_micros(),
        query.to.as_micros()
    ];
    let total = reader
        .prepare_cached("SELECT count(*), count(DISTINCT user_id) FROM events WHERE event_name = ?1 AND ts >= ?2 AND ts < ?3")?
        .query_row(range, |row| Ok(Counts { total_events: row.get::<_, i64>(0)? as u64, unique_users: row.get::<_, i64>(1)? as u64 }))?;
    let groups = match query.group_by {
        None => Vec::new(),
        Some(group_by) => groups(reader, group_by, range)?,
    };
    Ok(MetricsReport { total, groups })
}

/// One group more than an answer may hold tells that there are too many.
fn groups(
    reader: &Connection,
    group_by: GroupBy,
    range: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<Group>> {
    let key = match group_by.bucket_micros() {
        // Times are never negative, so that division rounds down.
        Some(width) => format!("ts / {width} * {width}"),
        // The default collation compares bytes.
        None => "channel".to_owned(),
    };
    let sql = format!(
        "SELECT {key}, count(*), count(DISTINCT user_id) FROM events WHERE event_name = ?1 AND ts >= ?2 AND ts < ?3 \
         GROUP BY 1 ORDER BY 1 LIMIT {rows_max}",
        rows_max = GROUPS_MAX + 1
    );
    let mut statement = reader.prepare_cached(&sql)?;
    let rows = statement.query_map(range, |row| {
        let key = match group_by.bucket_micros() {
            Some(width) => {
                let start: i64 = row.get(0)?;
                GroupKey::Bucket {
                    start: Timestamp::from_micros(start),
                    end: Timestamp::from_micros(start + width),
                }
            }
            None => GroupKey::Channel(row.get(0)?),
        };
        let counts = Counts {
            total_events: row.get::<_, i64>(1)? as u64,
            unique_users: row.get::<_, i64>(2)? as u64,
        };
        Ok(Group { key, counts })
    })?;
    rows.collect()
}
