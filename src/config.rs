//! Settings: what was typed or set in the environment, resolved once and checked once.
//!
//! Flag beats environment beats default. Past [`Settings::resolve`] no code parses a string or doubts a combination.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use crate::cli::DatabaseArgs;
use crate::wal::record;

/// The flags of `fast-ingest serve`. Each help text ends with the reason for the default.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Address to listen on. Loopback by default, because there is no authentication yet
    #[arg(
        long,
        env = "FAST_INGEST_HOST",
        default_value = "127.0.0.1",
        help_heading = "HTTP"
    )]
    pub host: IpAddr,
    /// Port to listen on; 0 picks a free one and logs it
    #[arg(long, env = "PORT", default_value_t = 8080, help_heading = "HTTP")]
    pub port: u16,
    /// Connections served at once; more are answered 503 and closed. An idle one costs about 15 KiB
    #[arg(
        long,
        env = "FAST_INGEST_CONNECTIONS_MAX",
        default_value_t = 1024,
        value_name = "N",
        help_heading = "HTTP"
    )]
    pub connections_max: usize,
    /// Events in one bulk request; what a client can reasonably repeat after a failure
    #[arg(
        long,
        env = "FAST_INGEST_BULK_EVENTS_MAX",
        default_value_t = 1000,
        value_name = "N",
        help_heading = "HTTP"
    )]
    pub bulk_events_max: usize,
    /// Body of POST /events; the largest legal event fits, escapes included
    #[arg(
        long,
        env = "FAST_INGEST_EVENT_BYTES_MAX",
        default_value = "256KiB",
        value_name = "BYTES",
        help_heading = "HTTP"
    )]
    pub event_bytes_max: ByteSize,
    /// Body of POST /events/bulk; a thousand events of 4 KiB
    #[arg(
        long,
        env = "FAST_INGEST_BODY_BYTES_MAX",
        default_value = "4MiB",
        value_name = "BYTES",
        help_heading = "HTTP"
    )]
    pub body_bytes_max: ByteSize,
    /// Bodies and log records in memory at once, all connections together; beyond it 429. Keeps the process under 64 MiB
    #[arg(
        long,
        env = "FAST_INGEST_INFLIGHT_BYTES_MAX",
        default_value = "24MiB",
        value_name = "BYTES",
        help_heading = "HTTP"
    )]
    pub inflight_bytes_max: ByteSize,
    /// Time from a request's first byte to the end of its headers; enough for any honest network
    #[arg(long, env = "FAST_INGEST_HEADER_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = positive_duration, help_heading = "HTTP")]
    pub header_timeout: Duration,
    /// Time for a whole body, then 408; 4 MiB at 1.1 Mbit/s
    #[arg(long, env = "FAST_INGEST_BODY_TIMEOUT", default_value = "30s", value_name = "TIME", value_parser = positive_duration, help_heading = "HTTP")]
    pub body_timeout: Duration,
    /// Time between requests on a kept connection; longer than the 60 s of common load balancers, so that they close first
    #[arg(long, env = "FAST_INGEST_IDLE_TIMEOUT", default_value = "75s", value_name = "TIME", value_parser = positive_duration, help_heading = "HTTP")]
    pub idle_timeout: Duration,
    /// Time for which a client may leave an answer unread
    #[arg(long, env = "FAST_INGEST_WRITE_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = positive_duration, help_heading = "HTTP")]
    pub write_timeout: Duration,

    /// When to sync the log: `group` (before every 202), or `interval=TIME` to answer first and lose up to TIME on power loss
    #[arg(
        long,
        env = "FAST_INGEST_SYNC",
        default_value = "group",
        value_name = "MODE",
        help_heading = "Write-ahead log"
    )]
    pub sync: SyncMode,
    /// Requests waiting for the log thread; more are answered 429. Several groups of the largest size
    #[arg(
        long,
        env = "FAST_INGEST_RING_SLOTS",
        default_value_t = 4096,
        value_name = "N",
        help_heading = "Write-ahead log"
    )]
    pub ring_slots: usize,
    /// Size of the log on disk; beyond it 503 until the database has caught up. About 100 million small events
    #[arg(
        long,
        env = "FAST_INGEST_WAL_BYTES_MAX",
        default_value = "8GiB",
        value_name = "BYTES",
        help_heading = "Write-ahead log"
    )]
    pub wal_bytes_max: ByteSize,
    /// Size at which a segment is sealed and the next begun; small enough to give space back soon, large enough to be rare
    #[arg(
        long,
        env = "FAST_INGEST_WAL_SEGMENT_BYTES",
        default_value = "64MiB",
        value_name = "BYTES",
        help_heading = "Write-ahead log"
    )]
    pub wal_segment_bytes: ByteSize,
    /// Free space to leave on the log's disk; below it 503, because a full disk would fail the log for good
    #[arg(
        long,
        env = "FAST_INGEST_DISK_FREE_MIN",
        default_value = "256MiB",
        value_name = "BYTES",
        help_heading = "Write-ahead log"
    )]
    pub disk_free_min: ByteSize,

    /// Rows in one database transaction; COPY gains nothing beyond this
    #[arg(
        long,
        env = "FAST_INGEST_FLUSH_ROWS_MAX",
        default_value_t = 20_000,
        value_name = "N",
        help_heading = "Flush"
    )]
    pub flush_rows_max: usize,
    /// Bytes of events in one database transaction; bounds memory when events are large
    #[arg(
        long,
        env = "FAST_INGEST_FLUSH_BYTES_MAX",
        default_value = "8MiB",
        value_name = "BYTES",
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

    /// Database connections for GET /metrics; the flush has its own, so that dashboards cannot starve it
    #[arg(
        long,
        env = "FAST_INGEST_QUERY_CONNECTIONS",
        default_value_t = 4,
        value_name = "N",
        help_heading = "Metrics"
    )]
    pub query_connections: u32,
    /// Time for one metrics query, then 503; a dashboard has given up by then
    #[arg(long, env = "FAST_INGEST_QUERY_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = positive_duration, help_heading = "Metrics")]
    pub query_timeout: Duration,
}

/// When the log is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Before the answers of each group: a 202 means on disk.
    Group,
    /// At most this long after an answer: a 202 means handed to the operating system.
    Interval(Duration),
}

impl FromStr for SyncMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "group" {
            return Ok(Self::Group);
        }
        let interval = text
            .strip_prefix("interval=")
            .ok_or("expected `group` or `interval=TIME`, for example `interval=200ms`")?;
        positive_duration(interval).map(Self::Interval)
    }
}

/// Where events are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// PostgreSQL at this URL.
    Postgres(String),
    /// Embedded SQLite in this file.
    Sqlite(PathBuf),
}

impl StoreLocation {
    /// Chooses the store: PostgreSQL if there is a URL, else the embedded SQLite under the data directory.
    ///
    /// An empty URL counts as none, because that is what an unset variable in a compose file looks like.
    pub fn resolve(args: &DatabaseArgs) -> Result<Self, ConfigError> {
        match args.database_url.as_deref().map(str::trim) {
            None | Some("") => Ok(Self::Sqlite(args.data_dir.join("events.db"))),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => Ok(Self::Postgres(url.to_owned())),
            Some(_) => Err(ConfigError(
                "DATABASE_URL must start with postgres:// or postgresql://; leave it unset for the embedded SQLite".to_owned(),
            )),
        }
    }
}

/// Everything `serve` needs to know, resolved and free of contradictions.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of all local state.
    pub data_dir: PathBuf,
    /// The HTTP side.
    pub http: HttpSettings,
    /// The write-ahead log.
    pub wal: WalSettings,
    /// The flush.
    pub flush: FlushSettings,
    /// The database.
    pub store: StoreSettings,
    /// Time for the last flush after SIGTERM.
    pub drain_timeout: Duration,
}

/// Limits and times of the HTTP side.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Where to listen.
    pub address: SocketAddr,
    /// Connections served at once.
    pub connections_max: usize,
    /// Events in one bulk request.
    pub bulk_events_max: usize,
    /// Bytes of the body of a single event.
    pub event_bytes_max: usize,
    /// Bytes of the body of a bulk request.
    pub body_bytes_max: usize,
    /// Bytes of bodies and records in flight.
    pub inflight_bytes_max: usize,
    /// First byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// Start to end of a body.
    pub body_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// An answer that stays unread.
    pub write_timeout: Duration,
}

/// Shape of the write-ahead log.
#[derive(Debug, Clone)]
pub struct WalSettings {
    /// Directory of the log.
    pub dir: PathBuf,
    /// When to sync.
    pub sync: SyncMode,
    /// Slots of the ring in front of the log.
    pub ring_slots: usize,
    /// Bytes on disk.
    pub bytes_max: u64,
    /// Bytes at which a segment is sealed.
    pub segment_bytes: u64,
    /// Free bytes to leave on the disk.
    pub disk_free_min: u64,
}

/// Shape of a flush.
#[derive(Debug, Clone)]
pub struct FlushSettings {
    /// Rows in one transaction.
    pub rows_max: usize,
    /// Bytes of encoded events in one transaction.
    pub bytes_max: usize,
    /// Longest wait for a batch to fill.
    pub interval: Duration,
}

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Which database.
    pub location: StoreLocation,
    /// Connections for metrics queries.
    pub query_connections: u32,
    /// Statement timeout of a metrics query.
    pub query_timeout: Duration,
    /// Statement timeout inside a flush transaction.
    pub flush_timeout: Duration,
}

/// A setting that cannot work, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Settings {
    /// Turns arguments into settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the flags that contradict each other.
    pub fn resolve(args: ServeArgs) -> Result<Self, ConfigError> {
        let settings = Self {
            http: HttpSettings {
                address: SocketAddr::new(args.host, args.port),
                connections_max: args.connections_max,
                bulk_events_max: args.bulk_events_max,
                event_bytes_max: as_usize(args.event_bytes_max),
                body_bytes_max: as_usize(args.body_bytes_max),
                inflight_bytes_max: as_usize(args.inflight_bytes_max),
                header_timeout: args.header_timeout,
                body_timeout: args.body_timeout,
                idle_timeout: args.idle_timeout,
                write_timeout: args.write_timeout,
            },
            wal: WalSettings {
                dir: args.database.data_dir.join("wal"),
                sync: args.sync,
                ring_slots: args.ring_slots,
                bytes_max: args.wal_bytes_max.as_u64(),
                segment_bytes: args.wal_segment_bytes.as_u64(),
                disk_free_min: args.disk_free_min.as_u64(),
            },
            flush: FlushSettings {
                rows_max: args.flush_rows_max,
                bytes_max: as_usize(args.flush_bytes_max),
                interval: args.flush_interval,
            },
            store: StoreSettings {
                location: StoreLocation::resolve(&args.database)?,
                query_connections: args.query_connections,
                query_timeout: args.query_timeout,
                flush_timeout: args.flush_timeout,
            },
            drain_timeout: args.drain_timeout,
            data_dir: args.database.data_dir,
        };
        settings.validate()?;
        Ok(settings)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let Self {
            http,
            wal,
            flush,
            store,
            ..
        } = self;
        let request_bytes =
            2 * http.body_bytes_max.max(http.event_bytes_max) + record::HEADER_BYTES;
        let record_bytes_max =
            (record::HEADER_BYTES + http.body_bytes_max.max(http.event_bytes_max)) as u64;
        let rules = [
            (
                http.connections_max >= 1,
                "--connections-max must be at least 1",
            ),
            (
                http.bulk_events_max >= 1,
                "--bulk-events-max must be at least 1",
            ),
            (
                http.event_bytes_max >= 1024,
                "--event-bytes-max must be at least 1KiB",
            ),
            (
                http.body_bytes_max >= 1024,
                "--body-bytes-max must be at least 1KiB",
            ),
            (
                http.body_bytes_max.max(http.event_bytes_max) <= record::PAYLOAD_BYTES_MAX,
                "--body-bytes-max and --event-bytes-max must be at most 64MiB: one request is one log record",
            ),
            (
                http.inflight_bytes_max >= request_bytes,
                "--inflight-bytes-max must be more than twice --body-bytes-max: a body and its log record are held at once",
            ),
            (wal.ring_slots >= 1, "--ring-slots must be at least 1"),
            (
                wal.segment_bytes >= 1024,
                "--wal-segment-bytes must be at least 1KiB",
            ),
            (
                wal.bytes_max >= 2 * wal.segment_bytes.max(record_bytes_max),
                "--wal-bytes-max must be at least twice --wal-segment-bytes and --body-bytes-max: space comes back a segment at a time",
            ),
            (flush.rows_max >= 1, "--flush-rows-max must be at least 1"),
            (
                flush.bytes_max >= 1024,
                "--flush-bytes-max must be at least 1KiB",
            ),
            (
                store.query_connections >= 1,
                "--query-connections must be at least 1",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, what_to_do)) => Err(ConfigError((*what_to_do).to_owned())),
            None => Ok(()),
        }
    }
}

fn as_usize(size: ByteSize) -> usize {
    usize::try_from(size.as_u64())
        .unwrap_or(usize::MAX / 4)
        .min(usize::MAX / 4)
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        Ok(_) => Err("must be longer than 0".to_owned()),
        Err(error) => Err(format!("{error}; write for example 200ms, 10s or 5m")),
    }
}

#[cfg(test)]
mod tests;
