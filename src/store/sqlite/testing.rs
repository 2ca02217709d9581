//! What the tests of this layer share.

use std::path::PathBuf;

use futures_util::FutureExt as _;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{connection, migrate};

/// A migrated database of its own.
pub(super) struct DatabasePlace {
    _directory: TempDir,
    pub(super) path: PathBuf,
}

impl DatabasePlace {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.db");
        migrate::up(&path).unwrap();
        Self {
            _directory: directory,
            path,
        }
    }

    pub(super) fn reader(&self) -> Connection {
        connection::open_reader(&self.path).unwrap()
    }
}

/// The result of a future that never waits, as all of this layer.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

/// SQLite's plan for a statement, one line for each step.
pub(super) fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps = statement.raw_query().mapped(|row| row.get(3));
    steps.map(Result::unwrap).collect()
}
