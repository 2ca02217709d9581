//! From a database URL to connections, plain or encrypted.
//!
//! One connector serves the flush (tokio-postgres), the metrics pool and the migrations (diesel-async), so that all of
//! them agree on TLS, timeouts and name. A URL may hold a password: errors and log lines made here repeat nothing of it
//! but host and port.

use std::future::poll_fn;
use std::path::Path;
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use tokio::task::AbortHandle;
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error;
use super::tls;
use super::url::{check_credentials, refusal, take_ssl_parameters};
use crate::store::StoreError;
use crate::support::settings::ConfigError;

/// Name of this program's sessions in `pg_stat_activity`.
const APPLICATION_NAME: &str = "fast-ingest";
/// Time for one address to accept the TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole connection: name resolution, every address, TLS and authentication.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which the kernel probes the peer; three lost probes end the connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// Keepalives from the server's end. In the middle of a COPY a server waits for its client without any timeout, so only
/// keepalives end the session of a machine that died, and with it the lock on the checkpoint; the usual default is two
/// hours. `tcp_user_timeout` is for data that the client does not acknowledge. A statement rather than a start-up
/// option, which poolers may refuse. Has no effect on a Unix socket, which does not need it.
const SERVER_KEEPALIVES: &str = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; \
                                 SET tcp_keepalives_count = 3; SET tcp_user_timeout = 60000";
/// Time between attempts to connect to a server that is not up yet.
const WAIT_INTERVAL: Duration = Duration::from_millis(250);
const DEFAULT_PORT: u16 = 5432;

/// What drives the socket of a [`Client`].
type Connection = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A parsed database URL.
#[derive(Clone)]
pub(super) struct Connector {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    address: String,
}

impl Connector {
    /// Parses a URL; reads the root certificates if it asks for verification.
    pub(super) fn parse(url: &str) -> Result<Self, ConfigError> {
        check_credentials(url)?;
        let (url, ssl) = take_ssl_parameters(url)?;
        // The parser's own message is not shown: it may quote a supposed option that is a piece of a password.
        let mut config: tokio_postgres::Config = url.parse().map_err(|_| ConfigError(refusal::explain(&url)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(ConfigError("the database URL names no host".to_owned()));
        }
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION_NAME);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config
            .ssl_mode(ssl.mode)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_PROBES);
        let tls = MakeRustlsConnect::new(tls::client_config(ssl.verification, ssl.roots.as_deref())?);
        Ok(Self {
            address: address(&config),
            config,
            tls,
        })
    }

    /// Host and port, for people.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Which database this is, for people: never with the password, nor with anything else of the URL.
    pub(super) fn database(&self) -> String {
        let user = self.config.get_user();
        let name = self.config.get_dbname().or(user);
        let name = name.map_or_else(String::new, |name| format!(" database {name}"));
        let user = user.map_or_else(String::new, |user| format!(" as {user}"));
        format!("PostgreSQL{name} at {}{user}", self.address)
    }

    /// The TLS settings, which a cancel request needs to reach the server.
    pub(super) fn tls(&self) -> &MakeRustlsConnect {
        &self.tls
    }

    /// Opens a session whose socket closes when the returned value is dropped.
    pub(super) async fn connect(&self) -> Result<Session, StoreError> {
        let connecting = async {
            let (client, connection) = self.open().await?;
            let driver = tokio::spawn(drive(connection));
            let session = Session {
                client,
                driver: driver.abort_handle(),
            };
            session
                .client
                .batch_execute(SERVER_KEEPALIVES)
                .await
                .map_err(|error| self.unreachable(&error))?;
            Ok(session)
        };
        self.within_session_timeout(connecting).await
    }

    /// Opens a diesel-async connection.
    pub(super) async fn connect_diesel(&self) -> Result<AsyncPgConnection, StoreError> {
        let connecting = async {
            let (client, connection) = self.open().await?;
            let unusable = |error: &dyn std::fmt::Display| {
                StoreError::Unavailable(format!("cannot connect to {}: {error}", self.address))
            };
            let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection)
                .await
                .map_err(|error| unusable(&error))?;
            connection
                .batch_execute(SERVER_KEEPALIVES)
                .await
                .map_err(|error| unusable(&error))?;
            Ok(connection)
        };
        self.within_session_timeout(connecting).await
    }

    /// [`Connector::connect_diesel`] for a pool, which has an error type of its own.
    pub(super) async fn connect_pooled(&self) -> ConnectionResult<AsyncPgConnection> {
        self.connect_diesel().await.map_err(|error| match error {
            StoreError::Unavailable(text) => ConnectionError::BadConnection(text),
            other => ConnectionError::BadConnection(other.to_string()),
        })
    }

    /// Waits for a server that refuses connections or is still starting, but not longer than `limit`. Reports no error:
    /// the next connection does.
    pub(super) async fn wait_until_up(&self, limit: Duration) {
        let mut announced = false;
        let waiting = async {
            while let Err(error) = self.config.connect(self.tls.clone()).await
                && error::may_be_starting(&error)
            {
                if !announced {
                    announced = true;
                    let error = error::describe(&error);
                    tracing::info!("waiting up to {limit:?} for {}: {error}", self.address);
                }
                tokio::time::sleep(WAIT_INTERVAL).await;
            }
        };
        // After the limit, the next connection reports the error.
        tokio::time::timeout(limit, waiting).await.ok();
    }

    async fn open(&self) -> Result<(Client, Connection), StoreError> {
        let (client, connection) = self
            .config
            .connect(self.tls.clone())
            .await
            .map_err(|error| self.unreachable(&error))?;
        // Every server sends this parameter in its greeting. Checked for each session, since the database may be down
        // when we start.
        match connection.parameter("server_encoding") {
            None | Some("UTF8") => Ok((client, connection)),
            Some(other) => Err(StoreError::Schema(format!(
                "the database has the encoding {other} and cannot hold every event: make a new one with CREATE DATABASE … \
                 ENCODING 'UTF8' TEMPLATE template0"
            ))),
        }
    }

    async fn within_session_timeout<T>(
        &self,
        connecting: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(SESSION_TIMEOUT, connecting).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable(format!(
                "cannot connect to {}: no answer within {SESSION_TIMEOUT:?}",
                self.address
            ))),
        }
    }

    fn unreachable(&self, error: &tokio_postgres::Error) -> StoreError {
        StoreError::Unavailable(format!(
            "cannot connect to {}: {}",
            self.address,
            tls::explain(error).unwrap_or_else(|| error::describe(error))
        ))
    }
}

/// A tokio-postgres client and the task that drives its socket.
pub(super) struct Session {
    /// The client.
    pub(super) client: Client,
    driver: AbortHandle,
}

impl Drop for Session {
    /// Left alone, the driver would wait for replies that a frozen server never sends, and keep the socket.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Moves data over the socket until the connection ends. If it were driven as a plain future, tokio-postgres would log
/// each notice of the server at info level: one an event, if a trigger raises one.
async fn drive(mut connection: Connection) {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                tracing::debug!("notice from the database: {}: {}", notice.severity(), notice.message());
            }
            Ok(_) => {}
            // Callers that wait for a reply get the same error.
            Err(error) => {
                tracing::debug!(error = error::describe(&error), "database connection ended");
                return;
            }
        }
    }
}

fn address(config: &tokio_postgres::Config) -> String {
    let port = |index: usize| {
        let ports = config.get_ports();
        ports.get(index).or(ports.first()).copied().unwrap_or(DEFAULT_PORT)
    };
    let unix = |path: &Path| path.display().to_string();
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(index)),
        #[cfg(unix)]
        Host::Unix(directory) => format!("{}:{}", unix(directory), port(index)),
    });
    let mut addresses: Vec<String> = hosts.collect();
    if addresses.is_empty() {
        addresses = config
            .get_hostaddrs()
            .iter()
            .enumerate()
            .map(|(index, ip)| format!("{ip}:{}", port(index)))
            .collect();
    }
    addresses.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_addresses_never_hold_the_password() {
        for url in [
            "postgres://user:secret@host:port/db",
            "postgres://user:secret@host/db?secret=1",
            "postgres://user:secret@",
            "postgres://user:a@secret@host/db",
            "postgres://user:a@secret/b@host/db",
            "postgres://user:a@b?secret=@host/db",
            "postgres://user:%secret%@host:port/db",
        ] {
            let error = Connector::parse(url)
                .err()
                .unwrap_or_else(|| panic!("{url} should be refused"));
            assert!(!error.to_string().contains("cret"), "{error}");
        }
        let connector = Connector::parse("postgres://user:secret@one:7,two:8/db").unwrap();
        assert_eq!(connector.address(), "one:7,two:8");
        let database = "PostgreSQL database db at one:7,two:8 as user";
        assert_eq!(connector.database(), database);
        assert_eq!(
            Connector::parse("postgresql://user:secret@host/db").unwrap().address(),
            "host:5432"
        );
    }
}
