//! Waiting for others who hold a lock on the database file.

use std::time::Duration;

use rusqlite::ErrorCode;

/// Longest wait for another writer: the flush and the keeping of rollups are two, `migrate` or a person's own tool a
/// third.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Whether somebody else holds a lock.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}
