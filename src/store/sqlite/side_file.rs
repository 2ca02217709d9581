//! SQLite's own write-ahead file, `events.db-wal`, kept from growing without bound.
//!
//! SQLite copies the file back into the database by itself, and restarts it once no reader needs it. While queries
//! overlap, some reader always needs it, so the file only grows; then new readers must be made to wait for a moment.
//! The flush does that, between batches and for a short time: the only other writer is the rollup thread, which can
//! wait.
//!
//! A commit is in this file first. If its sync fails, every process still sees the commit in the page cache, though it
//! may never reach the device. So the cached part of the file is dropped before a new connection reads the checkpoint.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::busy::BUSY_TIMEOUT;
use crate::wal::disk::DiskFile;

/// Size above which the file is emptied by force: several hundred usual batches, so this is rare.
pub(super) const SIDE_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest wait for readers to release the file. The flush stands still meanwhile.
const READERS_TIMEOUT: Duration = Duration::from_millis(250);
/// Pause after an attempt, so that long queries slow the flush by only a few percent.
const REST: Duration = Duration::from_secs(5);

/// The file, and when to check its size next.
pub(super) struct SideFile {
    path: PathBuf,
    bytes_max: u64,
    rest: Duration,
    next_attempt: Instant,
}

impl SideFile {
    /// The file that belongs to a database.
    pub(super) fn of(database: &Path) -> Self {
        Self {
            path: path_of(database),
            bytes_max: SIDE_FILE_BYTES_MAX,
            rest: REST,
            next_attempt: Instant::now(),
        }
    }

    /// Empties the file if it is too large and no reader holds it. Must be called outside a transaction.
    ///
    /// A failure does no harm and is tried again later: every commit stays in this file or in the database.
    pub(super) fn keep_small(&mut self, connection: &Connection) {
        let bytes = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if bytes <= self.bytes_max || Instant::now() < self.next_attempt {
            return;
        }
        match empty(connection) {
            Ok(true) => tracing::debug!(bytes, "SQLite's write-ahead file emptied"),
            Ok(false) => {
                tracing::debug!(bytes, "queries hold SQLite's write-ahead file, trying again later");
            }
            Err(error) => {
                tracing::warn!(bytes, "cannot empty SQLite's write-ahead file: {error}");
            }
        }
        self.next_attempt = Instant::now() + self.rest;
    }
}

fn path_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Makes the next reads of the file come from the device. Data that were not written to the device yet, as of a process
/// that was killed, are synced first. Opening and closing the file here is safe: SQLite holds no lock on it that
/// closing would release.
pub(super) fn drop_cached(database: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).open(path_of(database)) {
        Ok(mut file) => {
            DiskFile::sync_data(&mut file)?;
            DiskFile::drop_cached(&file)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Copies the file into the database and truncates it to nothing; `false` if readers held it for too long.
fn empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(READERS_TIMEOUT)?;
    // The first column is 1 if the file was busy.
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    connection.busy_timeout(BUSY_TIMEOUT)?;
    busy.map(|busy: i64| busy == 0)
}

#[cfg(test)]
mod tests {
    use rusqlite::Transaction;

    use super::*;
    use crate::store::sqlite::connection::{open_reader, open_writer};

    struct DatabasePlace {
        _directory: tempfile::TempDir,
        database: PathBuf,
        writer: Connection,
        file: SideFile,
    }

    impl DatabasePlace {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let database = directory.path().join("events.db");
            std::fs::write(&database, "").unwrap();
            let writer = open_writer(&database).unwrap();
            writer.execute_batch("CREATE TABLE t (x BLOB)").unwrap();
            let file = SideFile {
                bytes_max: 100_000,
                rest: Duration::ZERO,
                ..SideFile::of(&database)
            };
            Self {
                _directory: directory,
                database,
                writer,
                file,
            }
        }

        fn write(&self) {
            self.writer
                .execute("INSERT INTO t VALUES (zeroblob(1000000))", [])
                .unwrap();
        }

        fn bytes(&self) -> u64 {
            std::fs::metadata(&self.file.path).unwrap().len()
        }
    }

    /// Begins a query that does not end before the transaction does.
    fn begin_reading(reader: &Connection) -> Transaction<'_> {
        let reading = reader.unchecked_transaction().unwrap();
        reading
            .query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
            .unwrap();
        reading
    }

    #[test]
    fn the_file_shrinks_when_the_last_of_overlapping_readers_is_gone() {
        let mut place = DatabasePlace::new();
        let readers = [(); 2].map(|()| open_reader(&place.database).unwrap());
        let mut reading = begin_reading(&readers[0]);
        for round in 1..6 {
            place.write();
            let next = begin_reading(&readers[round % 2]);
            drop(std::mem::replace(&mut reading, next));
            place.write();
            place.file.keep_small(&place.writer);
            assert!(place.bytes() > round as u64 * 2_000_000, "somebody reads from it");
        }
        drop(reading);
        place.file.keep_small(&place.writer);
        assert_eq!(place.bytes(), 0);
        // Nothing but the file has changed, and a busy writer is waited for as before.
        let rows = place
            .writer
            .query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        assert_eq!(rows.unwrap(), 10);
        let timeout = place
            .writer
            .query_row("PRAGMA busy_timeout", [], |row| row.get::<_, i64>(0));
        assert_eq!(timeout.unwrap() as u128, BUSY_TIMEOUT.as_millis());
    }

    #[test]
    fn it_rests_between_attempts_and_leaves_a_small_file_alone() {
        let mut place = DatabasePlace::new();
        place.file.rest = Duration::from_secs(3600);
        place.file.keep_small(&place.writer);
        assert!(place.bytes() > 0, "small");
        place.write();
        place.file.keep_small(&place.writer);
        assert_eq!(place.bytes(), 0);
        place.write();
        place.file.keep_small(&place.writer);
        assert!(place.bytes() > 1_000_000, "resting");
    }
}
