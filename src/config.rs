//! Settings: resolved values without contradictions, one struct for each concern.
//!
//! `cli::args` makes them from flags and environment and has [`Settings::validate`] check them once, before any thread starts. Past
//! that no code parses a string or doubts a combination.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::intake;
use crate::wal::{committer, record};

/// When the log is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Before the answers of each group: a 202 means on disk.
    Group,
    /// At most this long after an answer: a 202 means handed to the operating system.
    Interval(Duration),
}

/// Where events are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// PostgreSQL at this URL.
    Postgres(String),
    /// Embedded SQLite in this file.
    Sqlite(PathBuf),
}

/// Everything `serve` needs to know, resolved and free of contradictions.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The HTTP side.
    pub http: HttpSettings,
    /// The write-ahead log.
    pub wal: WalSettings,
    /// The flush.
    pub flush: FlushSettings,
    /// The rollups.
    pub rollup: RollupSettings,
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
    /// Names beside loopback's that requests may call the server by, and sites that they may come from; `*` for all.
    pub allowed_hosts: Vec<String>,
    /// Connections served at once.
    pub connections_max: usize,
    /// Events in one bulk request.
    pub bulk_events_max: usize,
    /// How far back an event may lie.
    pub event_age_max: Duration,
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
    /// Each 64 KiB of an answer, or what is left of it, to be taken by the client.
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
    /// Bytes of segments to keep although the database has their events.
    pub keep_bytes: u64,
    /// Free bytes to leave on the disk.
    pub disk_free_min: u64,
}

/// Shape of a flush.
#[derive(Debug, Clone, Copy)]
pub struct FlushSettings {
    /// Rows in one transaction.
    pub rows_max: usize,
    /// Bytes of encoded events in one transaction.
    pub bytes_max: usize,
    /// Longest wait for a batch to fill.
    pub interval: Duration,
}

/// How rollups are kept.
#[derive(Debug, Clone, Copy)]
pub struct RollupSettings {
    /// Between two compactions when little happens.
    pub interval: Duration,
    /// Pairs of event name and channel that get a rollup of their own on a day.
    pub pairs_per_day_max: usize,
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
    /// What all metrics queries together may hold in memory.
    pub query_bytes_max: usize,
    /// Statement timeout inside a flush transaction.
    pub flush_timeout: Duration,
}

/// Longest of all times. PostgreSQL takes timeouts of at most 2^31 milliseconds; nobody means more than a day.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// A setting that cannot work, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Settings {
    /// Checks that the settings do not contradict each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the flag to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self {
            http,
            wal,
            flush,
            rollup,
            store,
            ..
        } = self;
        let body_bytes_max = http.body_bytes_max.max(http.event_bytes_max);
        let record_bytes_max = intake::log_bytes(body_bytes_max);
        // The active segment is never retired: whatever it can grow to must leave room for one more request.
        let group_bytes_max = committer::group_bytes_max(wal.segment_bytes) as u64;
        let active_bytes_max = wal.segment_bytes + group_bytes_max + record_bytes_max;
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
                body_bytes_max <= record::PAYLOAD_BYTES_MAX,
                "--body-bytes-max and --event-bytes-max must be at most 64MiB: one request is one log record",
            ),
            (
                http.inflight_bytes_max >= intake::in_flight_bytes(body_bytes_max),
                "--inflight-bytes-max must be more than twice --body-bytes-max: a body and its log record are held at once",
            ),
            (wal.ring_slots >= 1, "--ring-slots must be at least 1"),
            (
                wal.segment_bytes >= 1024,
                "--wal-segment-bytes must be at least 1KiB",
            ),
            (
                wal.bytes_max / 10 * 9 >= active_bytes_max + record_bytes_max,
                "--wal-bytes-max is too small for --wal-segment-bytes and --body-bytes-max: nine tenths of it must hold a segment, a \
                 group of at most 1MiB and two of the largest requests, or a full log could never open again",
            ),
            (
                [
                    http.header_timeout,
                    http.body_timeout,
                    http.idle_timeout,
                    http.write_timeout,
                ]
                .into_iter()
                .chain([
                    flush.interval,
                    rollup.interval,
                    store.query_timeout,
                    store.flush_timeout,
                    self.drain_timeout,
                ])
                .all(|time| time <= TIME_MAX),
                "times must be at most 1day",
            ),
            (flush.rows_max >= 1, "--flush-rows-max must be at least 1"),
            (
                flush.bytes_max >= 1024,
                "--flush-bytes-max must be at least 1KiB",
            ),
            (
                rollup.pairs_per_day_max >= 1,
                "--rollup-pairs-max must be at least 1",
            ),
            (
                store.query_connections >= 1,
                "--query-connections must be at least 1",
            ),
            (
                store.query_bytes_max >= 1 << 20,
                "--query-bytes-max must be at least 1MiB",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, what_to_do)) => Err(ConfigError((*what_to_do).to_owned())),
            None => Ok(()),
        }
    }
}
