//! The metrics query on SQLite: a few reading connections on tokio's blocking threads.
//!
//! Total and groups are two statements in one read transaction, so from one snapshot. A progress handler ends a query that takes
//! too long or whose caller is gone; unlike an interrupt from outside, it cannot come too early and be lost.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tokio::sync::Semaphore;

use super::connection;
use super::error::{is_interrupt, store_error};
use crate::event::Timestamp;
use crate::query::{Counts, GROUPS_MAX, Group, GroupBy, GroupKey, MetricsQuery, MetricsReport};
use crate::store::StoreError;

/// Longest wait for a free connection.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);
/// Steps of SQLite's virtual machine between two looks at the clock: some microseconds.
const STEPS_BETWEEN_CHECKS: i32 = 1_000;

/// Answers metrics queries.
pub(super) struct Metrics {
    readers: Arc<Readers>,
    connections: u32,
    permits: Arc<Semaphore>,
    query_timeout: Duration,
}

impl Metrics {
    /// No connection is made before the first query.
    pub(super) fn new(path: &Path, connections: u32, query_timeout: Duration) -> Self {
        Self {
            readers: Arc::new(Readers {
                path: path.to_owned(),
                idle: Mutex::new(Vec::new()),
            }),
            connections,
            permits: Arc::new(Semaphore::new(connections as usize)),
            query_timeout,
        }
    }

    /// Answers one query.
    pub(super) async fn answer(&self, query: &MetricsQuery) -> Result<MetricsReport, StoreError> {
        let permit =
            match tokio::time::timeout(CHECKOUT_TIMEOUT, Arc::clone(&self.permits).acquire_owned())
                .await
            {
                Ok(permit) => permit.expect("the semaphore is never closed"),
                Err(_) => {
                    return Err(StoreError::Unavailable(format!(
                        "all {} connections for metrics queries were busy for {CHECKOUT_TIMEOUT:?}",
                        self.connections
                    )));
                }
            };
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(Arc::clone(&cancelled));
        let (readers, query, query_timeout) =
            (Arc::clone(&self.readers), query.clone(), self.query_timeout);
        let answering = tokio::task::spawn_blocking(move || {
            // Held until the query has really ended, also when nobody waits for it any more.
            let _permit = permit;
            let mut reader = readers.take()?;
            let limit = Limit {
                deadline: Instant::now() + query_timeout,
                cancelled,
            };
            let answer = interruptible(&mut reader, limit, |reader| run(reader, &query));
            match answer {
                Ok(report) => {
                    readers.put(reader);
                    if report.groups.len() > GROUPS_MAX {
                        return Err(StoreError::TooManyGroups { max: GROUPS_MAX });
                    }
                    Ok(report)
                }
                Err(error) if is_interrupt(&error) => Err(StoreError::QueryTimeout(query_timeout)),
                Err(error) => Err(store_error(&error)),
            }
        });
        match answering.await {
            Ok(answer) => answer,
            Err(error) => Err(StoreError::Unavailable(format!(
                "the query ended early: {error}"
            ))),
        }
    }
}

/// Connections that nobody uses at the moment. One that failed is not put back.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match idle {
            Some(reader) => Ok(reader),
            None => connection::open_reader(&self.path),
        }
    }

    fn put(&self, reader: Connection) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(reader);
    }
}

/// Tells the blocking thread that nobody waits.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// When a query has to end.
struct Limit {
    deadline: Instant,
    cancelled: Arc<AtomicBool>,
}

impl Limit {
    fn is_reached(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }
}

/// Runs `work` with a handler that interrupts its statements when the limit is reached.
fn interruptible<T>(
    reader: &mut Connection,
    limit: Limit,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    reader.progress_handler(STEPS_BETWEEN_CHECKS, Some(move || limit.is_reached()))?;
    let result = work(reader);
    reader.progress_handler(0, None::<fn() -> bool>)?;
    result
}

fn run(reader: &mut Connection, query: &MetricsQuery) -> rusqlite::Result<MetricsReport> {
    // Deferred: the first statement takes the snapshot, the second one uses it.
    let transaction = reader.transaction()?;
    let range = params![
        query.event_name,
        query.from.as_micros(),
        query.to.as_micros()
    ];
    let total = transaction
        .prepare_cached("SELECT count(*), count(DISTINCT user_id) FROM events WHERE event_name = ?1 AND ts >= ?2 AND ts < ?3")?
        .query_row(range, |row| Ok(Counts { total_events: row.get::<_, i64>(0)? as u64, unique_users: row.get::<_, i64>(1)? as u64 }))?;
    let groups = match query.group_by {
        None => Vec::new(),
        Some(group_by) => groups(&transaction, group_by, range)?,
    };
    transaction.finish()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs for ever unless it is interrupted.
    fn endless(reader: &mut Connection) -> rusqlite::Result<i64> {
        reader.query_row("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n", [], |row| row.get(0))
    }

    #[test]
    fn a_query_whose_caller_is_gone_ends() {
        let mut reader = Connection::open_in_memory().unwrap();
        let cancelled = Arc::new(AtomicBool::new(false));
        let limit = Limit {
            deadline: Instant::now() + Duration::from_secs(3600),
            cancelled: Arc::clone(&cancelled),
        };
        let canceller = std::thread::spawn(move || drop(CancelOnDrop(cancelled)));
        let error = interruptible(&mut reader, limit, endless).unwrap_err();
        assert!(is_interrupt(&error), "{error}");
        canceller.join().unwrap();
        // The handler went with the query.
        assert_eq!(
            reader
                .query_row("SELECT 1", [], |row| row.get::<_, i64>(0))
                .unwrap(),
            1
        );
    }

    #[test]
    fn a_query_past_its_deadline_ends() {
        let mut reader = Connection::open_in_memory().unwrap();
        let limit = Limit {
            deadline: Instant::now(),
            cancelled: Arc::default(),
        };
        assert!(is_interrupt(
            &interruptible(&mut reader, limit, endless).unwrap_err()
        ));
    }
}
