//! A few connections for reading, on tokio's blocking threads.
//!
//! A progress handler ends a query that takes too long or whose caller is gone; unlike an interrupt from outside, it
//! cannot come too early and be lost.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection;
use super::error::{is_interrupt, query_error};
use super::limit::Limit;
use crate::store::{QueryError, StoreError};

/// Longest wait for a free connection.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);
/// Steps of SQLite's virtual machine between two checks of the limit: some microseconds.
const STEPS_BETWEEN_CHECKS: i32 = 1_000;

/// The connections, and how long each may be used at a time.
pub(super) struct Readers {
    idle: Arc<Idle>,
    connections: u32,
    permits: Arc<Semaphore>,
    query_timeout: Duration,
}

impl Readers {
    /// No connection is made before the first use.
    pub(super) fn new(path: &Path, connections: u32, query_timeout: Duration) -> Self {
        Self {
            idle: Arc::new(Idle {
                path: path.to_owned(),
                connections: Mutex::new(Vec::new()),
            }),
            connections,
            permits: Arc::new(Semaphore::new(connections as usize)),
            query_timeout,
        }
    }

    /// Runs `work` on a connection. Dropping the future ends its statements.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.read_until(|reader, _| work(reader)).await
    }

    /// [`Readers::read`] for work that computes between its statements and must check the limit by itself.
    pub(super) async fn read_until<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, Limit) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueryError> {
        let permit = match tokio::time::timeout(CHECKOUT_TIMEOUT, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(permit) => permit.expect("the semaphore is never closed"),
            Err(_) => {
                return Err(QueryError::Busy(format!(
                    "all {} connections for metrics queries were busy for {CHECKOUT_TIMEOUT:?}",
                    self.connections
                )));
            }
        };
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(Arc::clone(&cancelled));
        let (idle, query_timeout) = (Arc::clone(&self.idle), self.query_timeout);
        let reading = tokio::task::spawn_blocking(move || {
            // Held until the work has really ended, even if its caller is gone.
            let _permit = permit;
            let mut reader = idle.take()?;
            let limit = Limit {
                deadline: Instant::now() + query_timeout,
                cancelled,
            };
            let limit_of_work = limit.clone();
            match interruptible(&mut reader, limit, |reader| work(reader, limit_of_work)) {
                Ok(result) => {
                    idle.put(reader);
                    Ok(result)
                }
                Err(error) if is_interrupt(&error) => Err(QueryError::Timeout(query_timeout)),
                Err(error) => Err(query_error(&error)),
            }
        });
        match reading.await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Unavailable(format!("the query ended early: {error}")).into()),
        }
    }
}

/// Connections that are not in use. A connection that failed is not put back.
struct Idle {
    path: PathBuf,
    connections: Mutex<Vec<Connection>>,
}

impl Idle {
    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.connections.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(reader) => Ok(reader),
            None => connection::open_reader(&self.path),
        }
    }

    fn put(&self, reader: Connection) {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(reader);
    }
}

/// Tells the blocking thread that its caller is gone.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::query::memory::QueryMemory;
    use crate::query::snapshot::Snapshot as _;
    use crate::store::sqlite::snapshot::SqliteSnapshot;

    /// Runs for ever unless it is interrupted.
    fn endless(reader: &mut Connection) -> rusqlite::Result<i64> {
        reader.query_row(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
            [],
            |row| row.get(0),
        )
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
        // The handler was removed with the query.
        assert_eq!(reader.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }

    #[tokio::test]
    async fn computing_between_statements_ends_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.db");
        std::fs::write(&path, "").unwrap();
        let readers = Readers::new(&path, 1, Duration::from_millis(1));
        let reading = readers.read_until(|reader, limit| {
            SqliteSnapshot::with(reader, QueryMemory::new(0).question(), |snapshot| {
                snapshot.end_at(limit);
                loop {
                    snapshot.pause().now_or_never().unwrap()?;
                }
                #[allow(unreachable_code, reason = "it only ends by an error")]
                Ok(())
            })
        });
        let error = reading.await.unwrap_err();
        assert!(matches!(error, QueryError::Timeout(_)), "{error}");
    }

    #[test]
    fn a_query_past_its_deadline_ends() {
        let mut reader = Connection::open_in_memory().unwrap();
        let limit = Limit {
            deadline: Instant::now(),
            cancelled: Arc::default(),
        };
        assert!(is_interrupt(&interruptible(&mut reader, limit, endless).unwrap_err()));
    }
}
