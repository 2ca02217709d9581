//! Connections for reading: a small pool of diesel-async connections.
//!
//! A query whose caller is gone is cancelled in the server, and its connection is never used again: its unfinished
//! transaction marks it as broken, and the pool drops it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, PoolError, RecyclingMethod};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, OnceCell};
use tokio_postgres::CancelToken;

use super::connect::Connector;
use crate::store::{QueryError, StoreError};

/// Longest wait for a free connection, or for a new one.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a pooled connection to prove that it is alive; a frozen one is dropped and the next one tried.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that was not used for so long is closed. Poolers, firewalls and cloud gateways in between drop idle
/// connections too, mostly after some minutes, and some do so silently.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Longest time that a cancel request may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// The pool.
pub(super) struct Readers {
    connector: Connector,
    connections: u32,
    /// Made by the first query, because bb8 must be built inside the runtime on which it spawns.
    pool: OnceCell<Pool<AsyncPgConnection>>,
    connect_errors: Arc<ConnectErrors>,
}

impl Readers {
    /// No connection is made before the first query.
    pub(super) fn new(connector: Connector, connections: u32) -> Self {
        Self {
            connector,
            connections,
            pool: OnceCell::new(),
            connect_errors: Arc::default(),
        }
    }

    /// Cancels what runs on a connection unless it is disarmed before it is dropped.
    pub(super) fn cancel_on_drop(&self, connection: &AsyncPgConnection) -> CancelOnDrop {
        CancelOnDrop {
            token: Some(connection.cancel_token()),
            connector: self.connector.clone(),
        }
    }

    /// Takes a connection that answers from the pool.
    pub(super) async fn checkout(&self) -> Result<PooledConnection<'_, AsyncPgConnection>, QueryError> {
        let pool = self.pool.get_or_init(async || self.build_pool()).await;
        let asked = Instant::now();
        let mut checkout = pin!(pool.get());
        loop {
            tokio::select! {
                outcome = &mut checkout => return outcome.map_err(|_| self.no_connection(pool, asked)),
                // While there are other connections, one of them may become free. Without any, waiting is useless.
                () = self.connect_errors.came.notified() => if pool.state().connections == 0 {
                    return Err(self.no_connection(pool, asked));
                },
            }
        }
    }

    /// Why a query that asked at `asked` got no connection.
    fn no_connection(&self, pool: &Pool<AsyncPgConnection>, asked: Instant) -> QueryError {
        let connected = pool.state().connections;
        // An older error belongs to an outage that may have ended.
        let error = self.connect_errors.recent(asked);
        let busy = format!("all {connected} connections for metrics queries were busy for {CHECKOUT_TIMEOUT:?}");
        match (connected, error) {
            (0, Some(error)) => StoreError::Unavailable(error).into(),
            (0, None) => StoreError::Unavailable(format!(
                "no connection to {} within {CHECKOUT_TIMEOUT:?}",
                self.connector.address()
            ))
            .into(),
            (_, Some(error)) if connected < self.connections => {
                QueryError::Busy(format!("{busy}, and no further one could be opened: {error}"))
            }
            (..) => QueryError::Busy(busy),
        }
    }

    fn build_pool(&self) -> Pool<AsyncPgConnection> {
        let connector = self.connector.clone();
        let mut config = ManagerConfig::<AsyncPgConnection>::default();
        config.custom_setup = Box::new(move |_url| {
            let connector = connector.clone();
            async move { connector.connect_pooled().await }.boxed()
        });
        config.recycling_method = RecyclingMethod::CustomFunction(Box::new(|connection| ping(connection).boxed()));
        // The URL stays in the connector; the manager would only pass it to the setup above.
        let manager = AsyncDieselConnectionManager::new_with_config(String::new(), config);
        Pool::builder()
            .max_size(self.connections)
            .connection_timeout(CHECKOUT_TIMEOUT)
            .idle_timeout(IDLE_MAX)
            .error_sink(Box::new(ConnectErrorSink(Arc::clone(&self.connect_errors))))
            .build_unchecked(manager)
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
pub(super) struct CancelOnDrop {
    token: Option<CancelToken>,
    connector: Connector,
}

impl CancelOnDrop {
    /// Notes that nothing runs any more, so there is nothing to cancel.
    pub(super) fn disarm(&mut self) {
        self.token = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let (Some(token), Ok(runtime)) = (self.token.take(), tokio::runtime::Handle::try_current()) else {
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
    /// The last error and when it came. Kept after it is read: several queries may wait for the same attempt.
    last: Mutex<Option<(Instant, String)>>,
    came: Notify,
}

impl ConnectErrors {
    /// The last error, unless it came long before `asked`.
    fn recent(&self, asked: Instant) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, error) = last.as_ref().filter(|(came, _)| *came + CHECKOUT_TIMEOUT >= asked)?;
        Some(error.clone())
    }
}

/// The pool's end of [`ConnectErrors`].
#[derive(Debug, Clone)]
struct ConnectErrorSink(Arc<ConnectErrors>);

impl bb8::ErrorSink<PoolError> for ConnectErrorSink {
    fn sink(&self, error: PoolError) {
        if let PoolError::QueryError(error) = error {
            // A pooled connection was found dead and dropped. That says nothing about the next connection.
            tracing::debug!("a pooled connection had ended: {error}");
            return;
        }
        let error = (Instant::now(), error.to_string());
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.0.came.notify_waiters();
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<PoolError>> {
        Box::new(self.clone())
    }
}
