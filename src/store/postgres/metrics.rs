//! The metrics query on PostgreSQL: a pool of diesel-async connections, one read-only transaction a query.
//!
//! Totals and groups come from one statement, so from one snapshot. A query whose caller is gone is cancelled in the server, and
//! its connection is never used again: the transaction it is in the middle of marks it as broken, and the pool drops it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::data_types::PgTimestamp;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{QueryableByName, sql_query};
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError, RecyclingMethod,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, OnceCell};
use tokio_postgres::CancelToken;

use super::connect::Connector;
use super::copy::POSTGRES_EPOCH_MICROS;
use super::error::REPLY_GRACE;
use crate::event::Timestamp;
use crate::query::{Counts, GROUPS_MAX, Group, GroupBy, GroupKey, MetricsQuery, MetricsReport};
use crate::store::StoreError;

/// Longest wait for a free connection, or for a new one.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a pooled connection to prove that it is alive; a frozen one is thrown away and the next one tried.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest life of a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a query has no answer.
pub(super) enum Failure {
    /// The server refuses the statement. diesel-async hides the SQLSTATE; the caller can look whether the schema is the reason.
    Refused(String),
    /// Anything else, classified.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Answers metrics queries.
pub(super) struct Metrics {
    connector: Connector,
    connections: u32,
    query_timeout: Duration,
    /// Made by the first query: bb8 wants to be inside the runtime that it spawns on.
    pool: OnceCell<Pool<AsyncPgConnection>>,
    connect_errors: Arc<ConnectErrors>,
}

impl Metrics {
    /// No connection is made before the first query.
    pub(super) fn new(connector: Connector, connections: u32, query_timeout: Duration) -> Self {
        Self {
            connector,
            connections,
            query_timeout,
            pool: OnceCell::new(),
            connect_errors: Arc::default(),
        }
    }

    /// Answers one query.
    pub(super) async fn answer(&self, query: &MetricsQuery) -> Result<MetricsReport, Failure> {
        let mut connection = self.checkout().await?;
        let started = Instant::now();
        let mut cancel = CancelOnDrop {
            token: Some(connection.cancel_token()),
            connector: self.connector.clone(),
        };
        let answer = tokio::time::timeout(
            self.query_timeout + REPLY_GRACE,
            self.run(&mut connection, query),
        )
        .await;
        let rows = match answer {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                cancel.token = None;
                return Err(self.classify(error, started));
            }
            // The guard cancels what may still run.
            Err(_) => return Err(StoreError::QueryTimeout(self.query_timeout).into()),
        };
        cancel.token = None;
        Ok(report(query, rows)?)
    }

    async fn run(
        &self,
        connection: &mut AsyncPgConnection,
        query: &MetricsQuery,
    ) -> Result<Vec<Row>, DieselError> {
        let timeout = format!(
            "SET LOCAL statement_timeout = {}",
            self.query_timeout.as_millis().max(1)
        );
        connection
            .build_transaction()
            .read_only()
            .read_committed()
            .run(async |connection| {
                connection.batch_execute(&timeout).await?;
                sql_query(sql(query.group_by))
                    .bind::<Text, _>(query.event_name.as_str())
                    .bind::<Timestamptz, _>(pg_timestamp(query.from))
                    .bind::<Timestamptz, _>(pg_timestamp(query.to))
                    .load(connection)
                    .await
            })
            .await
    }

    async fn checkout(&self) -> Result<PooledConnection<'_, AsyncPgConnection>, StoreError> {
        let pool = self.pool.get_or_init(async || self.build_pool()).await;
        let asked = Instant::now();
        let mut checkout = pin!(pool.get());
        loop {
            tokio::select! {
                outcome = &mut checkout => return outcome.map_err(|_| self.no_connection(pool, asked)),
                // While others are connected one of them may come free. With none, waiting helps nobody.
                () = self.connect_errors.came.notified() => if pool.state().connections == 0 {
                    return Err(self.no_connection(pool, asked));
                },
            }
        }
    }

    /// Why a query that asked at `asked` got no connection.
    fn no_connection(&self, pool: &Pool<AsyncPgConnection>, asked: Instant) -> StoreError {
        let connected = pool.state().connections;
        // An older error belongs to an outage that may be over.
        let error = self.connect_errors.recent(asked);
        let busy = format!(
            "all {connected} connections for metrics queries were busy for {CHECKOUT_TIMEOUT:?}"
        );
        StoreError::Unavailable(match (connected, error) {
            (0, Some(error)) => error,
            (0, None) => format!(
                "no connection to {} within {CHECKOUT_TIMEOUT:?}",
                self.connector.address()
            ),
            (_, Some(error)) if connected < self.connections => {
                format!("{busy}, and no other came about: {error}")
            }
            (..) => busy,
        })
    }

    fn build_pool(&self) -> Pool<AsyncPgConnection> {
        let connector = self.connector.clone();
        let mut config = ManagerConfig::<AsyncPgConnection>::default();
        config.custom_setup = Box::new(move |_url| {
            let connector = connector.clone();
            async move { connector.connect_pooled().await }.boxed()
        });
        config.recycling_method =
            RecyclingMethod::CustomFunction(Box::new(|connection| ping(connection).boxed()));
        // The URL stays in the connector; the manager would only hand it back to the setup above.
        let manager = AsyncDieselConnectionManager::new_with_config(String::new(), config);
        Pool::builder()
            .max_size(self.connections)
            .connection_timeout(CHECKOUT_TIMEOUT)
            .error_sink(Box::new(ConnectErrorSink(Arc::clone(&self.connect_errors))))
            .build_unchecked(manager)
    }

    /// Without an SQLSTATE a timeout is told by the clock: the server never reports one before its time, and whatever fails
    /// after that came too late as well.
    fn classify(&self, error: DieselError, started: Instant) -> Failure {
        use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
        match error {
            DieselError::DatabaseError(UnableToSendCommand | ClosedConnection, info) => {
                StoreError::Unavailable(info.message().to_owned()).into()
            }
            DieselError::DatabaseError(..) if started.elapsed() >= self.query_timeout => {
                StoreError::QueryTimeout(self.query_timeout).into()
            }
            DieselError::DatabaseError(_, info) => Failure::Refused(info.message().to_owned()),
            other => StoreError::Unavailable(other.to_string()).into(),
        }
    }
}

async fn ping(connection: &mut AsyncPgConnection) -> diesel::QueryResult<()> {
    match tokio::time::timeout(PING_TIMEOUT, connection.batch_execute("SELECT 1")).await {
        Ok(result) => result,
        Err(_) => Err(DieselError::DatabaseError(
            DatabaseErrorKind::UnableToSendCommand,
            Box::new("a pooled connection does not answer".to_owned()),
        )),
    }
}

/// Cancels the query in the server unless disarmed: the caller went away, or the reply did not come in time.
struct CancelOnDrop {
    token: Option<CancelToken>,
    connector: Connector,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let (Some(token), Ok(runtime)) = (self.token.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let tls = self.connector.tls().clone();
        runtime.spawn(async move {
            match tokio::time::timeout(CANCEL_TIMEOUT, token.cancel_query(tls)).await {
                Ok(Ok(())) => tracing::debug!("metrics query cancelled"),
                // Its statement timeout will end the query.
                Ok(Err(_)) | Err(_) => tracing::debug!("metrics query could not be cancelled"),
            }
        });
    }
}

/// Why the pool could not connect. bb8 itself only says that time ran out.
#[derive(Debug, Default)]
struct ConnectErrors {
    /// The last one and when it came. It stays: one attempt may be what several queries wait for.
    last: Mutex<Option<(Instant, String)>>,
    came: Notify,
}

impl ConnectErrors {
    /// The last error, unless it came long before `asked`.
    fn recent(&self, asked: Instant) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, error) = last
            .as_ref()
            .filter(|(came, _)| *came + CHECKOUT_TIMEOUT >= asked)?;
        Some(error.clone())
    }
}

/// The pool's end of [`ConnectErrors`].
#[derive(Debug, Clone)]
struct ConnectErrorSink(Arc<ConnectErrors>);

impl bb8::ErrorSink<PoolError> for ConnectErrorSink {
    fn sink(&self, error: PoolError) {
        let error = (Instant::now(), error.to_string());
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.0.came.notify_waiters();
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<PoolError>> {
        Box::new(self.clone())
    }
}

/// One row of the answer: a group, or the whole range.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Bool)]
    is_total: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    bucket: Option<PgTimestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    channel: Option<String>,
    #[diesel(sql_type = BigInt)]
    total_events: i64,
    #[diesel(sql_type = BigInt)]
    unique_users: i64,
}

/// The statement for a grouping; parameters are the name and the range.
///
/// Events are first counted by user (and group), which hashes; what is left to be sorted for the distinct users is one row a
/// user instead of one an event. Users compare by bytes, because a language's rules cost more than all the rest. Over 1.2 million
/// events by day, `count(DISTINCT user_id)` on the events took 2.7 s with 1,000 users and 3.7 s with 100,000, this 1.0 s and 2.9 s.
///
/// The total comes first, so that the limit cuts groups only: one more than an answer may hold, which tells that there are too many.
fn sql(group_by: Option<GroupBy>) -> String {
    // What a row of the inner query is grouped by besides the user, and the two columns that the outer query shows it in.
    let (key, bucket, channel) = match group_by {
        None => ("NULL::text", "NULL::timestamptz", "NULL::text"),
        // Bins of a fixed width from midnight UTC: a UTC day is always 24 hours.
        Some(GroupBy::Day) => (
            "date_bin('24 hours', ts, timestamptz '1970-01-01 00:00:00+00')",
            "key",
            "NULL::text",
        ),
        Some(GroupBy::Hour) => (
            "date_bin('1 hour', ts, timestamptz '1970-01-01 00:00:00+00')",
            "key",
            "NULL::text",
        ),
        Some(GroupBy::Channel) => ("channel COLLATE \"C\"", "NULL::timestamptz", "key"),
    };
    let sets = if group_by.is_some() {
        "GROUPING SETS ((key), ())"
    } else {
        "GROUPING SETS (())"
    };
    let is_total = if group_by.is_some() {
        "grouping(key) = 1"
    } else {
        "true"
    };
    format!(
        "SELECT {is_total} AS is_total, {bucket} AS bucket, {channel} AS channel,
                coalesce(sum(events), 0)::bigint AS total_events, count(DISTINCT user_id) AS unique_users
         FROM (SELECT {key} AS key, user_id COLLATE \"C\" AS user_id, count(*) AS events
               FROM events WHERE event_name = $1 AND ts >= $2 AND ts < $3 GROUP BY 1, 2) AS by_user
         GROUP BY {sets} ORDER BY is_total DESC, bucket, channel LIMIT {rows_max}",
        rows_max = 1 + GROUPS_MAX + 1
    )
}

fn report(query: &MetricsQuery, rows: Vec<Row>) -> Result<MetricsReport, StoreError> {
    let mut report = MetricsReport::default();
    let width = query.group_by.and_then(GroupBy::bucket_micros);
    for row in rows {
        let counts = Counts {
            total_events: as_count(row.total_events),
            unique_users: as_count(row.unique_users),
        };
        let key = match (row.is_total, row.bucket, row.channel, width) {
            (true, ..) => {
                report.total = counts;
                continue;
            }
            (false, Some(PgTimestamp(micros)), _, Some(width)) => {
                let start = micros + POSTGRES_EPOCH_MICROS;
                GroupKey::Bucket {
                    start: Timestamp::from_micros(start),
                    end: Timestamp::from_micros(start + width),
                }
            }
            (false, _, Some(channel), _) => GroupKey::Channel(channel),
            (false, ..) => {
                return Err(StoreError::Schema(
                    "a metrics group without a key".to_owned(),
                ));
            }
        };
        report.groups.push(Group { key, counts });
    }
    if report.groups.len() > GROUPS_MAX {
        return Err(StoreError::TooManyGroups { max: GROUPS_MAX });
    }
    Ok(report)
}

fn pg_timestamp(timestamp: Timestamp) -> PgTimestamp {
    PgTimestamp(timestamp.as_micros() - POSTGRES_EPOCH_MICROS)
}

fn as_count(count: i64) -> u64 {
    u64::try_from(count).expect("a count is not negative")
}
