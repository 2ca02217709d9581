//! Moves a database's schema from one version to another.
//!
//! Both directories of migrations are compiled in. Rule: `up` on a database that is newer than the binary changes
//! nothing.
//!
//! A migration only creates tables. Filling them with counts is done afterwards, by `upkeep::upgrade`, because counting
//! can take long and must survive an interruption: the database remembers that it is due.

use std::time::Duration;

use super::schema::{known_postgres, known_sqlite};
use super::{StoreError, postgres, sqlite};
use crate::store::settings::{StoreLocation, StoreSettings};

/// One migration and whether the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its name; only its version if this binary does not know the migration.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
    /// Whether this binary has it.
    pub known: bool,
}

/// Longest time for one statement when nobody waits for an answer: reading the events of a day is one.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Applies every pending migration, creating the embedded database if need be. Returns the names of those applied.
/// Waits up to `server_wait` for a PostgreSQL server that refuses connections or is still starting.
///
/// Blocks, and must not be called on a thread that drives a tokio runtime.
pub fn apply(location: &StoreLocation, server_wait: Duration) -> Result<Vec<String>, StoreError> {
    match location {
        StoreLocation::Postgres(url) => block_on(postgres::migrate::up(url, server_wait)),
        StoreLocation::Sqlite(path) => sqlite::migrate::up(path),
    }
}

/// Settings of a store for commands, which answer no queries and give each statement an hour.
pub(crate) fn upkeep_settings(location: StoreLocation) -> StoreSettings {
    StoreSettings {
        location,
        query_connections: 1,
        query_timeout: STATEMENT_TIMEOUT,
        query_bytes_max: 0,
        flush_timeout: STATEMENT_TIMEOUT,
    }
}

/// Reverts the newest migration, or all of them. Returns the names of those reverted. Blocks like [`apply`].
pub fn down(location: &StoreLocation, all: bool) -> Result<Vec<String>, StoreError> {
    match location {
        StoreLocation::Postgres(url) => block_on(postgres::migrate::down(url, all)),
        StoreLocation::Sqlite(path) => sqlite::migrate::down(path, all),
    }
}

/// Lists the migrations, oldest first, and changes nothing. Blocks like [`apply`].
pub fn status(location: &StoreLocation) -> Result<Vec<MigrationStatus>, StoreError> {
    let (known, applied) = match location {
        StoreLocation::Postgres(url) => (known_postgres()?, block_on(postgres::migrate::applied(url))?),
        StoreLocation::Sqlite(path) => (known_sqlite()?, sqlite::migrate::applied(path)?),
    };
    let unknown = applied
        .iter()
        .filter(|version| known.iter().all(|known| known.version != **version));
    let newer = unknown.map(|version| MigrationStatus {
        name: version.clone(),
        applied: true,
        known: false,
    });
    let carried = known.iter().map(|known| MigrationStatus {
        name: known.name.clone(),
        applied: applied.contains(&known.version),
        known: true,
    });
    Ok(carried.chain(newer).collect())
}

/// Runs a future on a runtime of its own; diesel-async's harness needs the multi-thread one.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| StoreError::Unavailable(format!("cannot start a tokio runtime: {error}")))?;
    runtime.block_on(future)
}
