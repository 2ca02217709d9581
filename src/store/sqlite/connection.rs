//! Opening the database file, always with the same pragmas.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::store_error;
use super::side_file::SIDE_FILE_BYTES_MAX;
use super::snapshot;
use crate::store::StoreError;

/// Longest wait for another writer: the flush and the keeping of rollups are two, `migrate` or a person's own tool a third.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens an existing database for writing.
///
/// `synchronous = FULL` syncs at every commit: the write-ahead log of events is deleted on the word of that commit.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let connection = open(path)?;
    // The limit cuts the side file back whenever SQLite begins it anew; without it the file keeps its largest size for ever.
    let pragmas = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
         PRAGMA journal_size_limit = {SIDE_FILE_BYTES_MAX};"
    );
    connection
        .execute_batch(&pragmas)
        .map_err(|error| store_error(&error))?;
    Ok(connection)
}

/// Opens an existing database for reading. Not by `SQLITE_OPEN_READONLY`: such a connection cannot set up the shared memory of
/// a database in WAL mode when it is the first to come.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = open(path)?;
    connection
        .execute_batch("PRAGMA query_only = ON;")
        .and_then(|()| snapshot::register_functions(&connection))
        .map_err(|error| store_error(&error))?;
    Ok(connection)
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    // Without SQLITE_OPEN_CREATE: only `migrate` makes the file.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| {
        StoreError::Unavailable(format!("cannot open {}: {error}", path.display()))
    })?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .map_err(|error| store_error(&error))?;
    Ok(connection)
}
