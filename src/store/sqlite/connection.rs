//! Opening the database file, always with the same pragmas.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::busy::{BUSY_TIMEOUT, is_busy};
use super::error::store_error;
use super::side_file::SIDE_FILE_BYTES_MAX;
use super::snapshot;
use crate::store::StoreError;

/// Size of the page cache that is SQLite's own default.
const CACHE_KIB_DEFAULT: u32 = 2000;
/// Pause between two attempts where SQLite does not wait by itself.
const BUSY_REST: Duration = Duration::from_millis(5);

/// Opens an existing database for writing.
///
/// `synchronous = FULL` syncs at every commit: segments of the write-ahead log are removed once that commit is
/// confirmed.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    open_writer_with_cache(path, CACHE_KIB_DEFAULT)
}

/// [`open_writer`] with a page cache of up to `cache_kib` KiB, which grows with use.
pub(super) fn open_writer_with_cache(path: &Path, cache_kib: u32) -> Result<Connection, StoreError> {
    let connection = open(path)?;
    // The size limit truncates the side file whenever SQLite restarts it; without the limit the file keeps its largest
    // size for ever.
    let pragmas = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
         PRAGMA journal_size_limit = {SIDE_FILE_BYTES_MAX}; PRAGMA cache_size = -{cache_kib};"
    );
    // SQLite does not wait by itself for the lock that the change to WAL takes, nor while another process closes its
    // last connection and removes the side files: of two processes that open a new database at once, one would fail.
    let give_up_at = Instant::now() + BUSY_TIMEOUT;
    loop {
        match connection.execute_batch(&pragmas) {
            Ok(()) => return Ok(connection),
            Err(error) if is_busy(&error) && Instant::now() < give_up_at => {
                std::thread::sleep(BUSY_REST);
            }
            Err(error) => return Err(store_error(&error)),
        }
    }
}

/// Opens an existing database for reading. Not by `SQLITE_OPEN_READONLY`: if such a connection is the first one, it
/// cannot set up the shared memory of a database in WAL mode.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = open(path)?;
    connection
        .execute_batch("PRAGMA query_only = ON;")
        .and_then(|()| snapshot::register_functions(&connection))
        .map_err(|error| store_error(&error))?;
    Ok(connection)
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    // Without SQLITE_OPEN_CREATE, because only `migrate` creates the file.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::Unavailable(format!("cannot open {}: {error}", path.display())))?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .map_err(|error| store_error(&error))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_that_is_locked_for_a_moment_opens_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.db");
        std::fs::write(&path, "").unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE; CREATE TABLE t (x);").unwrap();
        let opening = std::thread::spawn({
            let path = path.clone();
            move || open_writer(&path).map(drop)
        });
        // Long enough for the first attempts to fail; the test passes without that too.
        std::thread::sleep(20 * BUSY_REST);
        other.execute_batch("COMMIT").unwrap();
        opening.join().unwrap().unwrap();
    }
}
