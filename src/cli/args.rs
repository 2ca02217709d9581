//! The flags that several commands share, and the way from flags to settings.
//!
//! Flag beats environment beats default; clap sees to that. Each help text ends with the reason for the default.

mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::refusal::{self, WhenRefused};
use crate::config::{
    ConfigError, FlushSettings, HttpSettings, RollupSettings, Settings, StoreLocation,
    StoreSettings, SyncMode, WalSettings,
};
use crate::store::postgres::with_password;
use crate::upkeep::rebuild::PAIRS_MAX_DEFAULT;

pub use values::{DEFAULT_PORT, bytes, count, count_between, host, port, positive_duration};
use values::{host_name, sync_mode};

/// Which database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// PostgreSQL to store events in, as postgres://user:password@host:port/database; without it, the embedded SQLite
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Password where the URL has none, as it is, nothing percent-encoded. Everybody on the machine sees flags: prefer the variable
    #[arg(
        long,
        env = "PGPASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    pub database_password: Option<String>,

    /// Directory of the write-ahead log and of the embedded SQLite database
    #[arg(
        long,
        env = "FAST_INGEST_DATA_DIR",
        value_name = "DIR",
        default_value = "./data"
    )]
    pub data_dir: PathBuf,
}

impl DatabaseArgs {
    /// Directory of the write-ahead log.
    pub fn wal_dir(&self) -> PathBuf {
        self.data_dir.join("wal")
    }

    /// Chooses the store: PostgreSQL if there is a URL, else the embedded SQLite under the data directory.
    ///
    /// An empty URL counts as none, because that is what an unset variable in a compose file looks like.
    ///
    /// # Errors
    ///
    /// When the URL is of another kind.
    pub fn location(&self) -> Result<StoreLocation, ConfigError> {
        match self.database_url.as_deref().map(str::trim) {
            None | Some("") => Ok(StoreLocation::Sqlite(self.data_dir.join("events.db"))),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                let password = self.database_password.as_deref().unwrap_or_default();
                Ok(StoreLocation::Postgres(with_password(url, password)))
            }
            Some(_) => Err(ConfigError(
                "DATABASE_URL must start with postgres:// or postgresql://; leave it unset for the embedded SQLite".to_owned(),
            )),
        }
    }
}

/// How much the rollups may hold. Whoever makes them must agree on it.
#[derive(Debug, Clone, Args)]
pub struct RollupArgs {
    /// Pairs of event name and channel with rollups on one day, queries for others count events; ids sent as names cannot fill the disk
    #[arg(
        long,
        env = "FAST_INGEST_ROLLUP_PAIRS_MAX",
        default_value_t = PAIRS_MAX_DEFAULT,
        value_name = "N", value_parser = count::<usize>,
        help_heading = "Rollups"
    )]
    pub rollup_pairs_max: usize,
}

/// The flags of `fast-ingest serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Where only a person can help (exit statuses 2, 65, 78): end, or wait to be stopped, if a supervisor restarts whatever ends
    #[arg(long, env = refusal::VARIABLE, value_enum, default_value_t = WhenRefused::Exit, value_name = "WHAT")]
    pub when_refused: WhenRefused,

    /// Address to listen on, or a name for it. Loopback by default, because there is no authentication yet
    #[arg(
        long,
        env = "FAST_INGEST_HOST",
        default_value = "127.0.0.1",
        value_parser = host,
        help_heading = "HTTP"
    )]
    pub host: IpAddr,
    /// Port to listen on; 0 picks a free one and logs it
    #[arg(long, env = "PORT", value_parser = port, default_value_t = DEFAULT_PORT, help_heading = "HTTP")]
    pub port: u16,
    /// Names beside loopback's that a request's Host and a browser's Origin may have, separated by commas, or * for any. Without it, a
    /// server on loopback serves only loopback's names, so that no web page can reach it by a name of its own
    #[arg(
        long,
        env = "FAST_INGEST_ALLOWED_HOSTS",
        value_delimiter = ',',
        value_name = "NAME",
        value_parser = host_name,
        help_heading = "HTTP"
    )]
    pub allowed_hosts: Vec<String>,
    /// How far back an event may lie; older ones are refused. Most are clocks that were never set, and each month of events is a table
    #[arg(long, env = "FAST_INGEST_EVENT_AGE_MAX", default_value = "20years", value_name = "TIME", value_parser = positive_duration, help_heading = "HTTP")]
    pub event_age_max: Duration,
    /// Connections served at once; more are answered 503 and closed, a flood beyond that only closed. An idle one costs about 15 KiB
    #[arg(
        long,
        env = "FAST_INGEST_CONNECTIONS_MAX",
        default_value_t = 1024,
        value_name = "N", value_parser = count::<usize>,
        help_heading = "HTTP"
    )]
    pub connections_max: usize,
    /// Events in one bulk request; what a client can reasonably repeat after a failure
    #[arg(
        long,
        env = "FAST_INGEST_BULK_EVENTS_MAX",
        default_value_t = 1000,
        value_name = "N", value_parser = count::<usize>,
        help_heading = "HTTP"
    )]
    pub bulk_events_max: usize,
    /// Body of POST /events; the largest legal event fits, escapes included
    #[arg(
        long,
        env = "FAST_INGEST_EVENT_BYTES_MAX",
        default_value = "256KiB",
        value_name = "BYTES", value_parser = bytes,
        help_heading = "HTTP"
    )]
    pub event_bytes_max: ByteSize,
    /// Body of POST /events/bulk; a thousand events of 4 KiB
    #[arg(
        long,
        env = "FAST_INGEST_BODY_BYTES_MAX",
        default_value = "4MiB",
        value_name = "BYTES", value_parser = bytes,
        help_heading = "HTTP"
    )]
    pub body_bytes_max: ByteSize,
    /// Bodies and log records in memory at once, all connections together; beyond it 429. Keeps the process under 64 MiB
    #[arg(
        long,
        env = "FAST_INGEST_INFLIGHT_BYTES_MAX",
        default_value = "24MiB",
        value_name = "BYTES", value_parser = bytes,
        help_heading = "HTTP"
    )]
    pub inflight_bytes_max: ByteSize,
    /// Time from a request's first byte to the end of its headers; enough for any honest network
    #[arg(long, env = "FAST_INGEST_HEADER_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = positive_duration, help_heading = "HTTP")]
    pub header_timeout: Duration,
    /// Time for a whole body, then 408, as after a third of it without a byte; 4 MiB at 1.1 Mbit/s
    #[arg(long, env = "FAST_INGEST_BODY_TIMEOUT", default_value = "30s", value_name = "TIME", value_parser = positive_duration, help_heading = "HTTP")]
    pub body_timeout: Duration,
    /// Time between requests on a kept connection; longer than the 60 s of common load balancers, so that they close first
    #[arg(long, env = "FAST_INGEST_IDLE_TIMEOUT", default_value = "75s", value_name = "TIME", value_parser = positive_duration, help_heading = "HTTP")]
    pub idle_timeout: Duration,
    /// Time for a client to take 64 KiB of an answer, or what is left of it; most answers are smaller
    #[arg(long, env = "FAST_INGEST_WRITE_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = positive_duration, help_heading = "HTTP")]
    pub write_timeout: Duration,

    /// When to sync the log: `group` (before every 202), or `interval=TIME` to answer first and lose up to TIME on power loss
    #[arg(
        long,
        env = "FAST_INGEST_SYNC",
        default_value = "group",
        value_name = "MODE", value_parser = sync_mode,
        help_heading = "Write-ahead log"
    )]
    pub sync: SyncMode,
    /// Requests waiting for the log thread; more are answered 429. Several groups of the largest size
    #[arg(
        long,
        env = "FAST_INGEST_RING_SLOTS",
        default_value_t = 4096,
        value_name = "N", value_parser = count::<usize>,
        help_heading = "Write-ahead log"
    )]
    pub ring_slots: usize,
    /// Size of the log on disk; beyond it 503 until the database has caught up. About 100 million small events
    #[arg(
        long,
        env = "FAST_INGEST_WAL_BYTES_MAX",
        default_value = "8GiB",
        value_name = "BYTES", value_parser = bytes,
        help_heading = "Write-ahead log"
    )]
    pub wal_bytes_max: ByteSize,
    /// Size at which a segment is sealed and the next begun; small enough to give space back soon, large enough to be rare
    #[arg(
        long,
        env = "FAST_INGEST_WAL_SEGMENT_BYTES",
        default_value = "64MiB",
        value_name = "BYTES", value_parser = bytes,
        help_heading = "Write-ahead log"
    )]
    pub wal_segment_bytes: ByteSize,
    /// Log kept on top of that although the database has it: after a failover or restore to a state before, it is stored again from here.
    /// About three million small events, far more than a replica lags behind
    #[arg(
        long,
        env = "FAST_INGEST_WAL_KEEP",
        default_value = "256MiB",
        value_name = "BYTES", value_parser = bytes,
        help_heading = "Write-ahead log"
    )]
    pub wal_keep: ByteSize,
    /// Free space to leave on the log's disk; below it 503, because a full disk would fail the log for good
    #[arg(
        long,
        env = "FAST_INGEST_DISK_FREE_MIN",
        default_value = "256MiB",
        value_name = "BYTES", value_parser = bytes,
        help_heading = "Write-ahead log"
    )]
    pub disk_free_min: ByteSize,

    /// Rows in one database transaction; COPY gains nothing beyond this
    #[arg(
        long,
        env = "FAST_INGEST_FLUSH_ROWS_MAX",
        default_value_t = 20_000,
        value_name = "N", value_parser = count::<usize>,
        help_heading = "Flush"
    )]
    pub flush_rows_max: usize,
    /// Bytes of events in one database transaction; bounds memory when events are large
    #[arg(
        long,
        env = "FAST_INGEST_FLUSH_BYTES_MAX",
        default_value = "8MiB",
        value_name = "BYTES", value_parser = bytes,
        help_heading = "Flush"
    )]
    pub flush_bytes_max: ByteSize,
    /// Longest wait for a batch to fill; what a dashboard lags behind when traffic is light
    #[arg(long, env = "FAST_INGEST_FLUSH_INTERVAL", default_value = "200ms", value_name = "TIME", value_parser = positive_duration, help_heading = "Flush")]
    pub flush_interval: Duration,
    /// Time for one flush transaction before it counts as failed and is tried again on a new connection
    #[arg(long, env = "FAST_INGEST_FLUSH_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = positive_duration, help_heading = "Flush")]
    pub flush_timeout: Duration,
    /// Time after SIGTERM for flushing what the log holds; the rest stays safe in the log for the next start
    #[arg(long, env = "FAST_INGEST_DRAIN_TIMEOUT", default_value = "20s", value_name = "TIME", value_parser = positive_duration, help_heading = "Flush")]
    pub drain_timeout: Duration,

    /// Time between two compactions of rollups in light traffic; a query reads some 25 rows a server on top of compacted ones meanwhile
    #[arg(long, env = "FAST_INGEST_ROLLUP_INTERVAL", default_value = "5s", value_name = "TIME", value_parser = positive_duration, help_heading = "Rollups")]
    pub rollup_interval: Duration,
    /// How much the rollups may hold.
    #[command(flatten)]
    pub rollups: RollupArgs,

    /// Database connections for GET /metrics; the flush has its own, so that dashboards cannot starve it
    #[arg(
        long,
        env = "FAST_INGEST_QUERY_CONNECTIONS",
        default_value_t = 4,
        value_name = "N", value_parser = count::<u32>,
        help_heading = "Metrics"
    )]
    pub query_connections: u32,
    /// Time for one metrics query, then 503; a dashboard has given up by then
    #[arg(long, env = "FAST_INGEST_QUERY_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = positive_duration, help_heading = "Metrics")]
    pub query_timeout: Duration,
    /// Memory for what all metrics queries hold at a time; a query that finds too little left is answered 503, one that needs more by itself 400
    #[arg(
        long,
        env = "FAST_INGEST_QUERY_BYTES_MAX",
        default_value = "64MiB",
        value_name = "BYTES", value_parser = bytes,
        help_heading = "Metrics"
    )]
    pub query_bytes_max: ByteSize,
}

impl ServeArgs {
    /// Turns flags into settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the flags that contradict each other.
    pub fn resolve(self) -> Result<Settings, ConfigError> {
        let args = self;
        let settings = Settings {
            http: HttpSettings {
                address: SocketAddr::new(args.host, args.port),
                allowed_hosts: args.allowed_hosts,
                connections_max: args.connections_max,
                bulk_events_max: args.bulk_events_max,
                event_age_max: args.event_age_max,
                event_bytes_max: as_usize(args.event_bytes_max),
                body_bytes_max: as_usize(args.body_bytes_max),
                inflight_bytes_max: as_usize(args.inflight_bytes_max),
                header_timeout: args.header_timeout,
                body_timeout: args.body_timeout,
                idle_timeout: args.idle_timeout,
                write_timeout: args.write_timeout,
            },
            wal: WalSettings {
                dir: args.database.wal_dir(),
                sync: args.sync,
                ring_slots: args.ring_slots,
                bytes_max: args.wal_bytes_max.as_u64(),
                segment_bytes: args.wal_segment_bytes.as_u64(),
                keep_bytes: args.wal_keep.as_u64(),
                disk_free_min: args.disk_free_min.as_u64(),
            },
            flush: FlushSettings {
                rows_max: args.flush_rows_max,
                bytes_max: as_usize(args.flush_bytes_max),
                interval: args.flush_interval,
            },
            rollup: RollupSettings {
                interval: args.rollup_interval,
                pairs_per_day_max: args.rollups.rollup_pairs_max,
            },
            store: StoreSettings {
                location: args.database.location()?,
                query_connections: args.query_connections,
                query_timeout: args.query_timeout,
                query_bytes_max: as_usize(args.query_bytes_max),
                flush_timeout: args.flush_timeout,
            },
            drain_timeout: args.drain_timeout,
        };
        settings.validate()?;
        Ok(settings)
    }
}

fn as_usize(size: ByteSize) -> usize {
    usize::try_from(size.as_u64())
        .unwrap_or(usize::MAX / 4)
        .min(usize::MAX / 4)
}

#[cfg(test)]
mod tests;
