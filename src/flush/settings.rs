//! Settings of the flush: how large and how old a batch may become.

use std::time::Duration;

use clap::Args;

use crate::support::settings::{bytes, count, positive_duration};

/// How large and how old a batch may become before it is stored.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Flush")]
pub struct FlushSettings {
    /// Rows in one database transaction; COPY gains nothing beyond the default
    #[arg(
        id = "flush_rows_max", long = "flush-rows-max",
        env = "FAST_INGEST_FLUSH_ROWS_MAX",
        default_value_t = 20_000,
        value_name = "N", value_parser = count::<usize>
    )]
    pub rows_max: usize,
    /// Bytes of events in one database transaction; bounds memory when events are large
    #[arg(
        id = "flush_bytes_max", long = "flush-bytes-max",
        env = "FAST_INGEST_FLUSH_BYTES_MAX",
        default_value = "8MiB",
        value_name = "BYTES", value_parser = bytes::<usize>
    )]
    pub bytes_max: usize,
    /// Longest wait for a batch to fill; when traffic is light, dashboards lag behind by this
    #[arg(id = "flush_interval", long = "flush-interval", env = "FAST_INGEST_FLUSH_INTERVAL", default_value = "200ms", value_name = "TIME", value_parser = positive_duration)]
    pub interval: Duration,
}
