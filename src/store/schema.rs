//! The schema versions that this binary carries, and their comparison with those of a database.

use std::collections::BTreeSet;
use std::error::Error;

use diesel::backend::Backend;
use diesel::migration::{Migration, MigrationSource};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::StoreError;

/// The migrations of PostgreSQL.
pub(super) const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
/// The migrations of SQLite.
pub(super) const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// A migration that this binary carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) version: String,
    pub(super) name: String,
}

/// Compares the migrations that a database has with those that this binary carries.
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

/// Fails if a database says that its rollups are not built.
pub(super) fn check_rollups(rebuild_needed: bool) -> Result<(), StoreError> {
    if rebuild_needed {
        return Err(StoreError::Schema(
            "the rollups are not built yet; run `fast-ingest migrate up`".to_owned(),
        ));
    }
    Ok(())
}

/// The migrations for PostgreSQL, oldest first.
pub(super) fn known_postgres() -> Result<Vec<Known>, StoreError> {
    known::<diesel::pg::Pg>(POSTGRES)
}

/// The migrations for SQLite, oldest first.
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
    // `applied_migrations` also creates the table of versions.
    let applied: BTreeSet<String> = harness.applied_migrations()?.iter().map(ToString::to_string).collect();
    let known = sorted::<DB>(source)?;
    if let Some(newer) = applied.iter().find(|version| {
        known
            .iter()
            .all(|known| known.name().version().to_string() != **version)
    }) {
        return Err(format!(
            "the schema has version {newer}, which this binary does not know; run a newer fast-ingest"
        )
        .into());
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
    // `applied_migrations` returns the newest first.
    for version in harness
        .applied_migrations()?
        .into_iter()
        .take(if all { usize::MAX } else { 1 })
    {
        let Some(migration) = known.iter().find(|known| known.name().version() == version) else {
            return Err(format!(
                "the schema has version {version}, which this binary does not know; run a newer fast-ingest"
            )
            .into());
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

fn sorted<DB: Backend>(source: EmbeddedMigrations) -> diesel::migration::Result<Vec<Box<dyn Migration<DB>>>>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let mut migrations = source.migrations()?;
    migrations.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(migrations)
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
        let ahead = check(&carried, &versions(&["1", "2", "3"])).unwrap_err().to_string();
        assert!(
            ahead.contains("version 3") && ahead.contains("older than the schema"),
            "{ahead}"
        );
    }
}
