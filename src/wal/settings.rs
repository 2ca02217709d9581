//! Settings of the write-ahead log.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::support::settings::{bytes, count, positive_duration};

/// When the log is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Before the answers of each group: a 202 means on disk.
    Group,
    /// At most this long after an answer: a 202 means handed to the operating system.
    Interval(Duration),
}

/// Settings of the write-ahead log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Write-ahead log")]
pub struct WalSettings {
    /// Directory of the log; `--data-dir` decides.
    #[arg(skip)]
    pub dir: PathBuf,
    /// When to sync the log: `group` (before every 202), or `interval=TIME` to answer first and lose up to TIME on
    /// power loss
    #[arg(
        long,
        env = "FAST_INGEST_SYNC",
        default_value = "group",
        value_name = "MODE", value_parser = sync_mode
    )]
    pub sync: SyncMode,
    /// Requests that may wait for the log thread; more are answered 429. Several groups of the largest size
    #[arg(
        long,
        env = "FAST_INGEST_RING_SLOTS",
        default_value_t = 4096,
        value_name = "N", value_parser = count::<usize>
    )]
    pub ring_slots: usize,
    /// Largest size of the log on disk; at this size requests are answered 503 until the database has caught up. About
    /// 100 million small events
    #[arg(
        id = "wal_bytes_max", long = "wal-bytes-max",
        env = "FAST_INGEST_WAL_BYTES_MAX",
        default_value = "8GiB",
        value_name = "BYTES", value_parser = bytes::<u64>
    )]
    pub bytes_max: u64,
    /// Size at which a segment is sealed and the next begun; small enough to give space back soon, large enough that
    /// this is rare
    #[arg(
        id = "wal_segment_bytes", long = "wal-segment-bytes",
        env = "FAST_INGEST_WAL_SEGMENT_BYTES",
        default_value = "64MiB",
        value_name = "BYTES", value_parser = bytes::<u64>
    )]
    pub segment_bytes: u64,
    /// Size of the log kept on top of --wal-bytes-max although the database has it: after a failover or restore to an
    /// earlier state, its events are stored again. About three million small events, far more than a replica lags
    /// behind
    #[arg(
        id = "wal_keep", long = "wal-keep",
        env = "FAST_INGEST_WAL_KEEP",
        default_value = "256MiB",
        value_name = "BYTES", value_parser = bytes::<u64>
    )]
    pub keep_bytes: u64,
    /// Free space to leave on the log's disk; below it requests are answered 503, because a sync that fails on a full
    /// disk would fail the log for good
    #[arg(
        long,
        env = "FAST_INGEST_DISK_FREE_MIN",
        default_value = "256MiB",
        value_name = "BYTES", value_parser = bytes::<u64>
    )]
    pub disk_free_min: u64,
}

/// Reads `--sync`.
///
/// # Errors
///
/// What is allowed, as a text for the user.
pub fn sync_mode(text: &str) -> Result<SyncMode, String> {
    if text == "group" {
        return Ok(SyncMode::Group);
    }
    let interval = text.strip_prefix("interval=");
    let interval = interval.ok_or("expected `group` or `interval=TIME`, for example `interval=200ms`")?;
    positive_duration(interval).map(SyncMode::Interval)
}
