//! Events in PostgreSQL: monthly partitions, flushed by binary COPY, queried through a small pool.
//!
//! ```text
//! connect ── url, tls       URL → sessions, one connector for all of them
//! pooling                   whether what we take for a session is one
//! sink ── deltas, copy_in, copy, partitions, transaction
//!                           the flush: tokio-postgres, one connection that is thrown away on doubt
//! rollups                   what keeps the rollups: tokio-postgres, one session under a lock
//! checkpoints               how far logs are flushed: tokio-postgres, one session for all who ask
//! metrics ── snapshot, pool the query: diesel-async behind a bb8 pool
//! migrate                   the schema: diesel's migrations over diesel-async
//! error                     SQLSTATE → what to do about it
//! ```
//!
//! The flush does everything on one tokio-postgres session of its own, including what diesel could do, reading the
//! checkpoint and making partitions: these statements guard its transaction and fail with it, and what to do about a
//! failure depends on the SQLSTATE, which diesel does not pass on. Nor does diesel offer binary COPY.

mod checkpoints;
mod connect;
pub(crate) mod copy;
mod copy_in;
mod deltas;
mod error;
mod instant;
mod lineage;
mod metrics;
pub(super) mod migrate;
mod partitions;
mod pool;
mod pooling;
mod rollups;
mod sink;
mod snapshot;
mod tls;
mod transaction;
mod url;

pub(crate) use self::url::with_password;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use self::checkpoints::Checkpoints;
use self::connect::Connector;
use self::error::bounded;
use self::metrics::{Metrics, QueryFailure};
use self::rollups::PostgresRollups;
use self::sink::PostgresSink;
use super::{EventSink, EventStore, QueryError, RollupStore, StoreError, Stretch};
use crate::query::{MetricsQuery, MetricsReport};
use crate::store::settings::StoreSettings;
use crate::support::settings::ConfigError;
use crate::wal::id::LifeId;

/// Time for the few reads of a schema check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Oldest major version of PostgreSQL that is tested.
const SERVER_VERSION_MIN: i32 = 15;

/// A PostgreSQL database.
pub(super) struct PostgresStore {
    connector: Connector,
    flush_timeout: Duration,
    metrics: Metrics,
    checkpoints: Checkpoints,
    /// Set once it is known that no pooler shares sessions between server processes.
    keeps_sessions: OnceCell<()>,
}

impl PostgresStore {
    /// Describes the database of a URL for people.
    pub(super) fn describe(url: &str) -> String {
        // Connecting reports what is wrong with the URL.
        Connector::parse(url).map_or_else(|_| "PostgreSQL".to_owned(), |url| url.database())
    }

    /// Parses the URL; connects to nothing yet.
    pub(super) fn new(url: &str, settings: &StoreSettings) -> Result<Self, ConfigError> {
        let connector = Connector::parse(url)?;
        let metrics = Metrics::new(connector.clone(), settings);
        Ok(Self {
            checkpoints: Checkpoints::new(connector.clone()),
            connector,
            flush_timeout: settings.flush_timeout,
            metrics,
            keeps_sessions: OnceCell::new(),
        })
    }

    /// Checks once, on the first connection that succeeds: the database may be down when the server starts.
    async fn must_keep_sessions(&self) -> Result<(), StoreError> {
        let look = || pooling::must_keep_sessions(&self.connector);
        self.keeps_sessions.get_or_try_init(look).await.copied()
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        self.must_keep_sessions().await?;
        let session = self.connector.connect().await?;
        let row = bounded(
            CHECK_TIMEOUT,
            session.client.query_one(
                "SELECT current_setting('server_version_num')::int / 10000, current_setting('fsync')",
                &[],
            ),
        )
        .await?;
        let (version, fsync): (i32, &str) = (row.get(0), row.get(1));
        if version < SERVER_VERSION_MIN {
            return Err(StoreError::Schema(format!(
                "PostgreSQL {SERVER_VERSION_MIN} or newer is needed; {} runs {version}",
                self.connector.address()
            )));
        }
        if fsync == "off" {
            tracing::warn!(
                "the database runs with fsync=off: a crash of its machine may lose events that were flushed"
            );
        }
        let applied = migrate::applied_versions(&session).await?;
        super::schema::check(&super::schema::known_postgres()?, &applied)
    }

    async fn check_rollups(&self) -> Result<(), StoreError> {
        let session = self.connector.connect().await?;
        let row = bounded(
            CHECK_TIMEOUT,
            session.client.query_one("SELECT rebuild_needed FROM rollup_state", &[]),
        )
        .await?;
        super::schema::check_rollups(row.get(0))
    }

    async fn open_sink(&self) -> Result<Box<dyn EventSink>, StoreError> {
        self.must_keep_sessions().await?;
        let session = self.connector.connect().await?;
        Ok(Box::new(PostgresSink::new(session, self.flush_timeout)))
    }

    async fn open_rollups(&self) -> Result<Box<dyn RollupStore>, StoreError> {
        self.must_keep_sessions().await?;
        let session = self.connector.connect().await?;
        Ok(Box::new(PostgresRollups::new(session, self.flush_timeout)))
    }

    async fn stored_of(&self, life: LifeId) -> Result<Vec<Stretch>, QueryError> {
        Ok(self.checkpoints.stored_of(life).await?)
    }

    async fn metrics(&self, query: &MetricsQuery) -> Result<MetricsReport, QueryError> {
        match self.metrics.answer(query).await {
            Ok(report) => Ok(report),
            Err(QueryFailure::Query(error)) => Err(error),
            Err(QueryFailure::SessionEnded(message)) => Err(StoreError::Unavailable(message).into()),
            // Either the schema check explains the refusal, or the statement may be tried again.
            Err(QueryFailure::Refused(message)) => {
                self.check_schema().await?;
                Err(StoreError::Unavailable(message).into())
            }
        }
    }
}
