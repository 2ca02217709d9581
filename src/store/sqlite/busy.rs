//! Waiting for others who hold a lock on the database file.

use std::time::Duration;

use rusqlite::ErrorCode;

/// Longest wait for another writer. Writers are the flush and the rollup thread; `migrate` or a person's own tool may
/// be a third one.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Whether the error says that another connection holds a lock.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}
