//! Settings of the database, and limits for queries.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::support::settings::{bytes, count, positive_duration};

/// Where events are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// PostgreSQL at this URL.
    Postgres(String),
    /// Embedded SQLite in this file.
    Sqlite(PathBuf),
}

impl Default for StoreLocation {
    fn default() -> Self {
        Self::Sqlite(PathBuf::from("./data/events.db"))
    }
}

/// How to reach the database.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Metrics")]
pub struct StoreSettings {
    /// The database; set from `--database-url` and `--data-dir`.
    #[arg(skip)]
    pub location: StoreLocation,
    /// Database connections for GET /metrics; the flush has its own, so that dashboards cannot starve it
    #[arg(
        long,
        env = "FAST_INGEST_QUERY_CONNECTIONS",
        default_value_t = 4,
        value_name = "N", value_parser = count::<u32>
    )]
    pub query_connections: u32,
    /// Time for one metrics query, then 503; a dashboard has given up by then
    #[arg(long, env = "FAST_INGEST_QUERY_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = positive_duration)]
    pub query_timeout: Duration,
    /// Memory for all running metrics queries together; a query that finds too little left gets 503, one that alone
    /// needs more gets 400
    #[arg(
        long,
        env = "FAST_INGEST_QUERY_BYTES_MAX",
        default_value = "64MiB",
        value_name = "BYTES", value_parser = bytes::<usize>
    )]
    pub query_bytes_max: usize,
    /// Time for one flush transaction before it counts as failed and is tried again on a new connection
    #[arg(long, env = "FAST_INGEST_FLUSH_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = positive_duration, help_heading = "Flush")]
    pub flush_timeout: Duration,
}
