//! All settings of `serve`, and whether they contradict each other.
//!
//! Each layer defines its own settings, with flag, variable, unit, default and its reason in one place. Here they are
//! checked against each other, once, before any thread starts: no later code parses a string or checks a combination.

use std::time::Duration;

use clap::Args;

use super::args::{DatabaseArgs, WHEN_REFUSED, WhenRefused};
use crate::flush::settings::FlushSettings;
use crate::http::settings::HttpSettings;
use crate::intake;
use crate::store::settings::StoreSettings;
use crate::support::settings::{ConfigError, positive_duration};
use crate::upkeep::settings::RollupSettings;
use crate::wal::settings::{SyncMode, WalSettings};
use crate::wal::{committer, record};

/// Upper limit of every time. PostgreSQL's timeouts are at most 2^31 milliseconds; more than a day is surely a mistake.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// The flags of `fast-ingest serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Flags that choose the database.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// After an error that only a person can fix (exit statuses 2, 65, 78): exit, or wait to be stopped, for
    /// supervisors that restart every process
    #[arg(long, env = WHEN_REFUSED, value_enum, default_value_t = WhenRefused::Exit, value_name = "WHAT")]
    pub when_refused: WhenRefused,

    /// The settings of all layers.
    #[command(flatten)]
    pub settings: Settings,
}

impl ServeArgs {
    /// Turns flags into settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the flags that contradict each other.
    pub fn resolve(self) -> Result<Settings, ConfigError> {
        let mut settings = self.settings;
        settings.wal.dir = self.database.wal_dir();
        settings.store.location = self.database.location()?;
        settings.validate()?;
        Ok(settings)
    }
}

/// The settings of `serve`, one struct for each layer.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The HTTP server.
    #[command(flatten)]
    pub http: HttpSettings,
    /// The write-ahead log.
    #[command(flatten)]
    pub wal: WalSettings,
    /// The flush.
    #[command(flatten)]
    pub flush: FlushSettings,
    /// The rollups.
    #[command(flatten)]
    pub rollup: RollupSettings,
    /// The database.
    #[command(flatten)]
    pub store: StoreSettings,
    /// Time after SIGTERM for flushing what the log holds; the rest stays safe in the log for the next start
    #[arg(long, env = "FAST_INGEST_DRAIN_TIMEOUT", default_value = "20s", value_name = "TIME", value_parser = positive_duration, help_heading = "Flush")]
    pub drain_timeout: Duration,
}

/// Most slots of the ring, whose memory is allocated at the start: 80 bytes for each slot.
const RING_SLOTS_MAX: usize = 1 << 20;

/// Whether a rule holds, and the error text if not.
type Rule = (bool, &'static str);

impl Settings {
    /// Checks that the settings do not contradict each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the flag to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rules = [
            self.lowest_values().as_slice(),
            self.sizes_that_fit_each_other().as_slice(),
        ]
        .concat();
        if let Some((_, what_to_do)) = rules.iter().find(|(holds, _)| !holds) {
            return Err(ConfigError((*what_to_do).to_owned()));
        }
        let long = self.times().into_iter().find(|(_, time)| *time > TIME_MAX);
        long.map_or(Ok(()), |(flag, _)| {
            Err(ConfigError(format!("{flag} must be at most 1day")))
        })
    }

    fn lowest_values(&self) -> [Rule; 11] {
        let Self {
            http,
            wal,
            flush,
            store,
            rollup,
            ..
        } = self;
        [
            (http.connections_max >= 1, "--connections-max must be at least 1"),
            (http.bulk_events_max >= 1, "--bulk-events-max must be at least 1"),
            (http.event_bytes_max >= 1024, "--event-bytes-max must be at least 1KiB"),
            (http.body_bytes_max >= 1024, "--body-bytes-max must be at least 1KiB"),
            (
                (1..=RING_SLOTS_MAX).contains(&wal.ring_slots),
                "--ring-slots must be from 1 to 1048576",
            ),
            (wal.segment_bytes >= 1024, "--wal-segment-bytes must be at least 1KiB"),
            (flush.rows_max >= 1, "--flush-rows-max must be at least 1"),
            (flush.bytes_max >= 1024, "--flush-bytes-max must be at least 1KiB"),
            (
                rollup.cap.pairs_per_day_max >= 1,
                "--rollup-pairs-max must be at least 1",
            ),
            (store.query_connections >= 1, "--query-connections must be at least 1"),
            (
                store.query_bytes_max >= 1 << 20,
                "--query-bytes-max must be at least 1MiB",
            ),
        ]
    }

    fn sizes_that_fit_each_other(&self) -> [Rule; 3] {
        let Self { http, wal, .. } = self;
        let body_bytes_max = http.body_bytes_max.max(http.event_bytes_max);
        let record_bytes_max = intake::log_bytes(body_bytes_max);
        // The active segment is never retired: even at its largest it must leave room for one more request.
        let group_bytes_max = committer::group_bytes_max(wal.segment_bytes) as u64;
        let active_bytes_max = wal.segment_bytes + group_bytes_max + record_bytes_max;
        [
            (
                body_bytes_max <= record::PAYLOAD_BYTES_MAX,
                "--body-bytes-max and --event-bytes-max must be at most 64MiB: one request is one log record",
            ),
            (
                http.inflight_bytes_max >= intake::in_flight_bytes(body_bytes_max),
                "--inflight-bytes-max must be more than twice --body-bytes-max: a body and its log record are held at once",
            ),
            (
                wal.bytes_max / 10 * 9 >= active_bytes_max + record_bytes_max,
                "--wal-bytes-max is too small for --wal-segment-bytes and --body-bytes-max: nine tenths of it must hold a segment, a \
                 group of at most 1MiB and two of the largest requests, or a full log could never open again",
            ),
        ]
    }

    fn times(&self) -> [(&'static str, Duration); 10] {
        let sync_interval = match self.wal.sync {
            SyncMode::Group => Duration::ZERO,
            SyncMode::Interval(interval) => interval,
        };
        [
            ("--header-timeout", self.http.header_timeout),
            ("--body-timeout", self.http.body_timeout),
            ("--idle-timeout", self.http.idle_timeout),
            ("--write-timeout", self.http.write_timeout),
            ("--flush-interval", self.flush.interval),
            ("--flush-timeout", self.store.flush_timeout),
            ("--query-timeout", self.store.query_timeout),
            ("--rollup-interval", self.rollup.interval),
            ("--drain-timeout", self.drain_timeout),
            ("--sync interval", sync_interval),
        ]
    }
}

#[cfg(test)]
mod tests;
