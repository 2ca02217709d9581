//! Migrations on PostgreSQL: diesel's harness over diesel-async, under an advisory lock.
//!
//! The harness blocks inside the runtime, so all of this needs tokio's multi-thread runtime.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection as _};

use super::connect::{Connector, Session};
use super::error::{self, bounded};
use super::pooling;
use crate::store::{StoreError, schema};
use crate::support::settings::ConfigError;

/// Key of the advisory lock that one migration run holds: "fast-ing" in ASCII.
const MIGRATION_LOCK: i64 = 0x6661_7374_2d69_6e67;

/// Applies what is pending; returns the names. Waits up to `server_wait` for a server that is not up yet.
pub(in crate::store) async fn up(url: &str, server_wait: Duration) -> Result<Vec<String>, StoreError> {
    let connector = connector(url)?;
    if !server_wait.is_zero() {
        connector.wait_until_up(server_wait).await;
    }
    let mut harness = locked_harness(&connector).await?;
    schema::run_pending(&mut harness, schema::POSTGRES).map_err(|error| migration_error(&*error))
}

/// Reverts the newest migration, or all; returns the names.
pub(in crate::store) async fn down(url: &str, all: bool) -> Result<Vec<String>, StoreError> {
    let mut harness = locked_harness(&connector(url)?).await?;
    schema::revert(&mut harness, schema::POSTGRES, all).map_err(|error| migration_error(&*error))
}

/// The applied versions, without changing anything.
pub(in crate::store) async fn applied(url: &str) -> Result<BTreeSet<String>, StoreError> {
    let connector = connector(url)?;
    pooling::must_keep_sessions(&connector).await?;
    applied_versions(&connector.connect().await?).await
}

/// The applied versions, read on a session that is open already.
pub(super) async fn applied_versions(session: &Session) -> Result<BTreeSet<String>, StoreError> {
    match bounded(super::CHECK_TIMEOUT, read_versions(session)).await? {
        Ok(versions) => Ok(versions),
        // No such table: nothing was ever applied.
        Err(error) if error.code().is_some_and(|code| code.code() == "42P01") => Ok(BTreeSet::new()),
        Err(error) => Err(error::store_error(&error)),
    }
}

async fn read_versions(session: &Session) -> Result<Result<BTreeSet<String>, tokio_postgres::Error>, StoreError> {
    let rows = session
        .client
        .query("SELECT version FROM __diesel_schema_migrations", &[])
        .await;
    Ok(rows.map(|rows| rows.iter().map(|row| row.get(0)).collect()))
}

async fn locked_harness(connector: &Connector) -> Result<AsyncMigrationHarness<AsyncPgConnection>, StoreError> {
    pooling::must_keep_sessions(connector).await?;
    let mut connection = connector.connect_diesel().await?;
    // The lock ends with the session. Of two runs the first one works, and the second one then finds nothing to do.
    // READ COMMITTED, whatever the server's default is: a migration that waited for a table must see what the
    // transactions that it waited for have stored.
    connection
        .batch_execute(&format!(
            "SET default_transaction_isolation = 'read committed'; \
             SET lock_timeout = '60s'; SELECT pg_advisory_lock({MIGRATION_LOCK}); RESET lock_timeout"
        ))
        .await
        .map_err(|error| migration_error(&error))?;
    Ok(AsyncMigrationHarness::new(connection))
}

fn connector(url: &str) -> Result<Connector, StoreError> {
    Connector::parse(url).map_err(|ConfigError(text)| StoreError::Schema(text))
}

fn migration_error(error: &(dyn Error + 'static)) -> StoreError {
    match error.downcast_ref::<DieselError>() {
        Some(DieselError::DatabaseError(
            DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection,
            info,
        )) => StoreError::Unavailable(info.message().to_owned()),
        _ => StoreError::Schema(format!("migration failed: {error}")),
    }
}
