//! `fast-ingest migrate up|down|status`: migrations of the schema, and the first build of the rollups. Prints one line
//! for each migration, and one for the build.

use crate::upkeep::upgrade;
use std::time::Duration;

use super::MigrateCommand;
use super::args::DatabaseArgs;
use super::text::printable;
use crate::store::settings::StoreLocation;
use crate::store::{self, StoreError, migrations};
use crate::support::exit::{ExitStatus, Failure, OrExit as _, say, say_aside};
use crate::support::words::plural;
use crate::upkeep::rebuild::Rebuilt;

/// Runs a migration command.
pub fn run(command: MigrateCommand) -> Result<(), Failure> {
    match command {
        MigrateCommand::Up {
            database,
            wait,
            rollups,
        } => {
            let server_wait = wait.unwrap_or(Duration::ZERO);
            up(&locate(&database)?, server_wait, rollups.pairs_per_day_max)
        }
        MigrateCommand::Down { database, all, yes } => down(&locate(&database)?, all, yes),
        MigrateCommand::Status(database) => status(&locate(&database)?),
    }
}

/// The database of a command. Prints which one it is, because the user may mean another one, named in a file that this
/// shell has not read.
pub(super) fn locate(database: &DatabaseArgs) -> Result<StoreLocation, Failure> {
    let location = database.location().or_exit(ExitStatus::Config)?;
    let name = printable(&store::describe(&location));
    say_aside(format_args!("fast-ingest: database: {name}"));
    Ok(location)
}

fn up(location: &StoreLocation, server_wait: Duration, pairs_max: usize) -> Result<(), Failure> {
    let applied = migrations::apply(location, server_wait).map_err(|error| failure(location, error))?;
    for name in &applied {
        say(format_args!("applied {name}"))?;
    }
    // Even when nothing was applied: an earlier run may have been interrupted here.
    let built = upgrade::build_rollups(location, pairs_max).map_err(|error| failure(location, error))?;
    if let Some(Rebuilt { days, events, .. }) = built {
        let (days, events) = (plural(days, "day"), plural(events, "event"));
        say(format_args!("built rollups for {events} in {days}"))?;
    } else if applied.is_empty() {
        say("nothing to apply: the schema is up to date")?;
    }
    Ok(())
}

fn down(location: &StoreLocation, all: bool, is_confirmed: bool) -> Result<(), Failure> {
    if !is_confirmed {
        confirm_nothing_is_lost(location, all)?;
    }
    let reverted = migrations::down(location, all).map_err(|error| failure(location, error))?;
    for name in &reverted {
        say(format_args!("reverted {name}"))?;
    }
    if reverted.is_empty() {
        say("nothing to revert: no migration is applied")?;
    }
    Ok(())
}

/// What undoing each migration drops, by the end of its name; first migration to last.
const LOST: [(&str, &str); 4] = [
    (
        "events",
        "drops the tables events and quarantine with everything in them",
    ),
    ("rollups", "drops all rollups, even of days whose events are gone"),
    (
        "lineage",
        "drops the records of which life of which log wrote what, and the identity of the database: logs have to be adopted again",
    ),
    (
        "user_key",
        "drops the secret that users are hashed with: `migrate up` rebuilds all rollups, except of days whose events are gone, and \
         makes no new secret where there are rollups; `rollup rebuild` makes one, unless a day has rollups and no events",
    ),
];

/// Fails if there is a migration to undo; the error says what would be dropped.
fn confirm_nothing_is_lost(location: &StoreLocation, all: bool) -> Result<(), Failure> {
    let migrations = migrations::status(location).map_err(|error| failure(location, error))?;
    let applied = || migrations.iter().filter(|migration| migration.applied);
    let gravest = if all { applied().next() } else { applied().next_back() };
    let Some(gravest) = gravest else {
        return Ok(());
    };
    let lost = LOST.iter().find(|(name, _)| gravest.name.ends_with(name));
    let lost = lost.map_or("may drop what is stored", |(_, lost)| *lost);
    Err(Failure::new(
        ExitStatus::Config,
        anyhow::anyhow!(
            "undoing {} {lost}; nothing was undone. Add --yes to drop that",
            gravest.name
        ),
    ))
}

fn status(location: &StoreLocation) -> Result<(), Failure> {
    let migrations = migrations::status(location).map_err(|error| failure(location, error))?;
    for migration in &migrations {
        let state = match (migration.applied, migration.known) {
            (true, true) => "applied",
            (true, false) => "unknown",
            (false, _) => "pending",
        };
        say(format_args!("{state}  {}", migration.name))?;
    }
    if migrations.iter().any(|migration| !migration.known) {
        return Err(schema_failure(
            "this binary is older than the schema; use a newer fast-ingest",
        ));
    }
    if migrations.iter().any(|migration| !migration.applied) {
        return Err(schema_failure("the schema is behind; run `fast-ingest migrate up`"));
    }
    Ok(())
}

fn schema_failure(text: &'static str) -> Failure {
    Failure::new(ExitStatus::Config, anyhow::Error::msg(text))
}

/// The exit status of a store's error: an embedded database that cannot be used is an I/O error (74), a PostgreSQL
/// server that does not answer is unavailable (69).
pub(super) fn failure(location: &StoreLocation, error: StoreError) -> Failure {
    let status = match (&error, location) {
        (StoreError::Unavailable(_) | StoreError::Unclear { .. }, StoreLocation::Postgres(_)) => {
            ExitStatus::Unavailable
        }
        (StoreError::Unavailable(_) | StoreError::Unclear { .. }, StoreLocation::Sqlite(_)) => ExitStatus::Io,
        (StoreError::Schema(_), _) => ExitStatus::Config,
        (StoreError::Data { .. }, _) => ExitStatus::Software,
    };
    Failure::new(status, error)
}
