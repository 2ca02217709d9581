//! The metrics query on PostgreSQL: one read-only transaction on a pooled connection.
//!
//! Everything a query reads comes from one snapshot. Both the server and the clock here limit its time. If its session
//! ends, a query is sent once more on another session: it changes nothing, and sessions end for reasons that say
//! nothing about the database, such as a limit for idle sessions.

use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection as _;

use super::connect::Connector;
use super::error::REPLY_GRACE;
use super::pool::Readers;
use super::snapshot::{PgSnapshot, too_large};
use crate::query::error::AnswerError;
use crate::query::memory::QueryMemory;
use crate::query::{self, MetricsQuery, MetricsReport};
use crate::store::settings::StoreSettings;
use crate::store::{QueryError, StoreError};

/// Why a query has no answer.
pub(super) enum QueryFailure {
    /// The server refuses the statement. diesel-async hides the SQLSTATE; the caller can check whether the schema is
    /// the reason.
    Refused(String),
    /// The session has ended; the text says why.
    SessionEnded(String),
    /// Anything else, classified.
    Query(QueryError),
}

impl From<QueryError> for QueryFailure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

/// Answers metrics queries.
pub(super) struct Metrics {
    readers: Readers,
    query_timeout: Duration,
    memory: QueryMemory,
}

impl Metrics {
    /// No connection is made before the first query.
    pub(super) fn new(connector: Connector, settings: &StoreSettings) -> Self {
        Self {
            readers: Readers::new(connector, settings.query_connections),
            query_timeout: settings.query_timeout,
            memory: QueryMemory::new(settings.query_bytes_max),
        }
    }

    /// Answers one query.
    pub(super) async fn answer(&self, query: &MetricsQuery) -> Result<MetricsReport, QueryFailure> {
        let mut connection = self.readers.checkout().await?;
        let started = Instant::now();
        let reason = match self.attempt(&mut connection, query, started).await {
            Err(QueryFailure::SessionEnded(reason)) => reason,
            answer => return answer,
        };
        tracing::debug!("sending the query again on another connection: {reason}");
        drop(connection);
        let mut connection = self.readers.checkout().await?;
        self.attempt(&mut connection, query, started).await
    }

    /// One attempt at a query that was first asked at `started`.
    async fn attempt(
        &self,
        connection: &mut AsyncPgConnection,
        query: &MetricsQuery,
        started: Instant,
    ) -> Result<MetricsReport, QueryFailure> {
        let mut cancel = self.readers.cancel_on_drop(connection);
        let time_left = self.query_timeout.saturating_sub(started.elapsed());
        let answer = tokio::time::timeout(time_left + REPLY_GRACE, self.run(connection, query, time_left)).await;
        match answer {
            Ok(Ok(answer)) => {
                cancel.disarm();
                Ok(answer?)
            }
            Ok(Err(error)) => {
                // Rows are still on their way. The guard stops them, and the open transaction keeps the connection from
                // being used again.
                if let Some(error) = too_large(&error) {
                    return Err(QueryError::from(error).into());
                }
                cancel.disarm();
                Err(self.classify(error, connection.is_broken(), started))
            }
            // The guard cancels what may still run.
            Err(_) => Err(QueryError::Timeout(self.query_timeout).into()),
        }
    }

    /// The answer, or why the question has none. The outer error is one of the database.
    async fn run(
        &self,
        connection: &mut AsyncPgConnection,
        query: &MetricsQuery,
        statement_timeout: Duration,
    ) -> Result<Result<MetricsReport, QueryError>, DieselError> {
        let memory = self.memory.question();
        let mut snapshot = PgSnapshot::begin(connection, statement_timeout, memory).await?;
        let answer = match query::answer(&mut snapshot, query).await {
            Err(AnswerError::Store(error)) => Err(error),
            answer => Ok(answer.map_err(|error| {
                error
                    .map_store(|error| StoreError::Unavailable(error.to_string()))
                    .into()
            })),
        };
        snapshot.end(answer).await
    }

    /// Without an SQLSTATE, the clock tells a timeout: the server never reports one early, and any other error after
    /// the timeout came too late as well. The state of the connection tells whether the session has ended.
    fn classify(&self, error: DieselError, is_broken: bool, started: Instant) -> QueryFailure {
        use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
        match error {
            DieselError::DatabaseError(kind, info)
                if is_broken || matches!(kind, UnableToSendCommand | ClosedConnection) =>
            {
                QueryFailure::SessionEnded(info.message().to_owned())
            }
            DieselError::DatabaseError(..) if started.elapsed() >= self.query_timeout => {
                QueryError::Timeout(self.query_timeout).into()
            }
            DieselError::DatabaseError(_, info) => QueryFailure::Refused(info.message().to_owned()),
            other => QueryError::from(StoreError::Unavailable(other.to_string())).into(),
        }
    }
}
