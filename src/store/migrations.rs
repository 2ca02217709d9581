//! The schema's versions: what this binary carries, what a database has, and the way from one to the other.
//!
//! Both directories of migrations are compiled in. Rule: `up` on a database that is newer than the binary changes nothing.
//!
//! A migration only makes tables. What must be counted to fill them is done afterwards, by `upkeep::upgrade`, because it can take long and
//! must survive an interruption: the database remembers that it is due.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use diesel::backend::Backend;
use diesel::migration::{Migration, MigrationSource};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{StoreError, postgres, sqlite};
use crate::store::settings::{StoreLocation, StoreSettings};

/// The migrations of PostgreSQL.
pub(super) const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
/// The migrations of SQLite.
pub(super) const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// One migration and whether the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its name; a migration that this binary does not know has only its version.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
    /// Whether this binary has it.
    pub known: bool,
}

/// A migration that this binary carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    version: String,
    name: String,
}

/// Longest time for one statement when nobody waits for an answer: reading the events of a day is one.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Applies every pending migration, creating the embedded database if need be. Returns the names of those applied. Waits for so long
/// for a PostgreSQL server that refuses connections or is still starting.
///
/// Blocks, and must not be called on a thread that drives a tokio runtime.
pub fn apply(location: &StoreLocation, server_wait: Duration) -> Result<Vec<String>, StoreError> {
    match location {
        StoreLocation::Postgres(url) => block_on(postgres::migrate::up(url, server_wait)),
        StoreLocation::Sqlite(path) => sqlite::migrate::up(path),
    }
}

/// Settings of a store for commands, which answer no queries and wait for as long as it takes.
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
        StoreLocation::Postgres(url) => (
            known_postgres()?,
            block_on(postgres::migrate::applied(url))?,
        ),
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

/// Compares what a database has with what this binary carries.
pub(super) fn check(known: &[Known], applied: &BTreeSet<String>) -> Result<(), StoreError> {
    if let Some(newer) = applied
        .iter()
        .find(|version| known.iter().all(|known| known.version != **version))
    {
        return Err(StoreError::Schema(format!(
            "the database schema has version {newer}, which this binary does not know: this binary is older than the schema; \
             run a newer fast-ingest"
        )));
    }
    if let Some(missing) = known.iter().find(|known| !applied.contains(&known.version)) {
        return Err(StoreError::Schema(format!(
            "the database schema is behind: {} is not applied; run `fast-ingest migrate up` first",
            missing.name
        )));
    }
    Ok(())
}

/// Judges what a database says of its rollups.
pub(super) fn check_rollups(rebuild_needed: bool) -> Result<(), StoreError> {
    if rebuild_needed {
        return Err(StoreError::Schema(
            "the rollups are not built yet; run `fast-ingest migrate up`".to_owned(),
        ));
    }
    Ok(())
}

/// What this binary carries for PostgreSQL, oldest first.
pub(super) fn known_postgres() -> Result<Vec<Known>, StoreError> {
    known::<diesel::pg::Pg>(POSTGRES)
}

/// What this binary carries for SQLite, oldest first.
pub(super) fn known_sqlite() -> Result<Vec<Known>, StoreError> {
    known::<diesel::sqlite::Sqlite>(SQLITE)
}

/// Applies what is pending, through a harness that holds a lock against others.
pub(super) fn run_pending<DB: Backend>(
    harness: &mut impl MigrationHarness<DB>,
    source: EmbeddedMigrations,
) -> Result<Vec<String>, Box<dyn Error + Send + Sync>>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    // Also makes the table of versions.
    let applied: BTreeSet<String> = harness
        .applied_migrations()?
        .iter()
        .map(ToString::to_string)
        .collect();
    let known = sorted::<DB>(source)?;
    if let Some(newer) = applied.iter().find(|version| {
        known
            .iter()
            .all(|known| known.name().version().to_string() != **version)
    }) {
        return Err(format!("the schema has version {newer}, which this binary does not know; run a newer fast-ingest").into());
    }
    let mut names = Vec::new();
    for migration in known
        .iter()
        .filter(|known| !applied.contains(&known.name().version().to_string()))
    {
        harness.run_migration(migration)?;
        names.push(migration.name().to_string());
    }
    Ok(names)
}

/// Reverts the newest migration or all, through a harness that holds a lock against others.
pub(super) fn revert<DB: Backend>(
    harness: &mut impl MigrationHarness<DB>,
    source: EmbeddedMigrations,
    all: bool,
) -> Result<Vec<String>, Box<dyn Error + Send + Sync>>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let known = sorted::<DB>(source)?;
    let mut names = Vec::new();
    // Newest first.
    for version in harness
        .applied_migrations()?
        .into_iter()
        .take(if all { usize::MAX } else { 1 })
    {
        let Some(migration) = known.iter().find(|known| known.name().version() == version) else {
            return Err(format!("the schema has version {version}, which this binary does not know; run a newer fast-ingest").into());
        };
        harness.revert_migration(migration)?;
        names.push(migration.name().to_string());
    }
    Ok(names)
}

fn known<DB: Backend>(source: EmbeddedMigrations) -> Result<Vec<Known>, StoreError>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let migrations = sorted::<DB>(source).map_err(|error| StoreError::Schema(error.to_string()))?;
    Ok(migrations
        .iter()
        .map(|migration| Known {
            version: migration.name().version().to_string(),
            name: migration.name().to_string(),
        })
        .collect())
}

fn sorted<DB: Backend>(
    source: EmbeddedMigrations,
) -> diesel::migration::Result<Vec<Box<dyn Migration<DB>>>>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let mut migrations = source.migrations()?;
    migrations.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(migrations)
}

/// Runs a future on a runtime of its own; diesel-async's harness needs the multi-thread one.
pub(crate) fn block_on<T>(
    future: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| StoreError::Unavailable(format!("no runtime: {error}")))?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(version: &str) -> Known {
        Known {
            version: version.to_owned(),
            name: format!("{version}_name"),
        }
    }

    #[test]
    fn both_backends_carry_the_same_versions() {
        assert_eq!(known_postgres().unwrap(), known_sqlite().unwrap());
        assert!(!known_postgres().unwrap().is_empty());
    }

    #[test]
    fn a_schema_that_is_behind_names_the_command_and_one_ahead_blames_the_binary() {
        let carried = [known("1"), known("2")];
        let versions = |list: &[&str]| {
            list.iter()
                .map(|version| (*version).to_owned())
                .collect::<BTreeSet<_>>()
        };
        check(&carried, &versions(&["1", "2"])).unwrap();
        let behind = check(&carried, &versions(&["1"])).unwrap_err().to_string();
        assert!(
            behind.contains("2_name") && behind.contains("fast-ingest migrate up"),
            "{behind}"
        );
        let ahead = check(&carried, &versions(&["1", "2", "3"]))
            .unwrap_err()
            .to_string();
        assert!(
            ahead.contains("version 3") && ahead.contains("older than the schema"),
            "{ahead}"
        );
    }
}
