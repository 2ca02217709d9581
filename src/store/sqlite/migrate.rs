//! Migrations on SQLite: diesel's harness inside one immediate transaction, so that two runs cannot interleave.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use super::busy::BUSY_TIMEOUT;
use super::connection;
use super::error::store_error;
use super::sink;
use crate::store::{StoreError, schema};

/// Creates the file if need be and applies what is pending; returns the names.
pub(in crate::store) fn up(path: &Path) -> Result<Vec<String>, StoreError> {
    create_file(path).map_err(|error| StoreError::Unavailable(format!("cannot create {}: {error}", path.display())))?;
    // This may be the first process to open the database after another one died in the middle of a commit.
    sink::forget(path)?;
    in_transaction(path, |connection| schema::run_pending(connection, schema::SQLITE))
}

/// Reverts the newest migration, or all; returns the names.
pub(in crate::store) fn down(path: &Path, all: bool) -> Result<Vec<String>, StoreError> {
    if !is_there(path)? {
        return Ok(Vec::new());
    }
    in_transaction(path, |connection| schema::revert(connection, schema::SQLITE, all))
}

/// The applied versions, without changing anything.
pub(in crate::store) fn applied(path: &Path) -> Result<BTreeSet<String>, StoreError> {
    if !is_there(path)? {
        return Ok(BTreeSet::new());
    }
    let reader = connection::open_reader(path)?;
    let read = || -> rusqlite::Result<BTreeSet<String>> {
        let mut versions = reader.prepare("SELECT version FROM __diesel_schema_migrations")?;
        versions.query_map([], |row| row.get(0))?.collect()
    };
    match read().map_err(|error| store_error(&error)) {
        // No such table: nothing was ever applied.
        Err(StoreError::Schema(_)) => Ok(BTreeSet::new()),
        result => result,
    }
}

/// Whether the database file exists. If that cannot be told, for lack of rights or because a parent is not a directory,
/// the result is an error, not `false`.
pub(super) fn is_there(path: &Path) -> Result<bool, StoreError> {
    let found = path.try_exists();
    found.map_err(|error| StoreError::Unavailable(format!("cannot open {}: {error}", path.display())))
}

/// Creates an empty database that only its owner may read. SQLite gives its side files the same mode.
fn create_file(path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    Ok(())
}

/// Error of a migration's transaction; diesel requires that its own errors convert into it.
enum MigrationError {
    Diesel(diesel::result::Error),
    Migration(Box<dyn Error + Send + Sync>),
}

impl From<diesel::result::Error> for MigrationError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Diesel(error)
    }
}

fn in_transaction(
    path: &Path,
    work: impl FnOnce(&mut SqliteConnection) -> Result<Vec<String>, Box<dyn Error + Send + Sync>>,
) -> Result<Vec<String>, StoreError> {
    let unusable =
        |error: &dyn std::fmt::Display| StoreError::Unavailable(format!("cannot open {}: {error}", path.display()));
    let name = path.to_str().ok_or_else(|| unusable(&"its name is not UTF-8"))?;
    let mut connection = SqliteConnection::establish(name).map_err(|error| unusable(&error))?;
    connection
        .batch_execute(&format!(
            "PRAGMA busy_timeout = {}; PRAGMA synchronous = FULL;",
            BUSY_TIMEOUT.as_millis()
        ))
        .map_err(|error| unusable(&error))?;
    connection
        .immediate_transaction(|connection| work(connection).map_err(MigrationError::Migration))
        .map_err(|problem| match problem {
            MigrationError::Diesel(error) => unusable(&error),
            MigrationError::Migration(error) => StoreError::Schema(format!("migration failed: {error}")),
        })
}
