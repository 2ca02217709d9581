//! How rollups are kept.

use std::time::Duration;

use clap::Args;

use super::rebuild::PAIRS_MAX_DEFAULT;
use crate::support::settings::{count, positive_duration};

/// How rollups are kept.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Rollups")]
pub struct RollupSettings {
    /// Time between two compactions of rollups in light traffic; a query reads some 25 rows a server on top of
    /// compacted ones meanwhile
    #[arg(id = "rollup_interval", long = "rollup-interval", env = "FAST_INGEST_ROLLUP_INTERVAL", default_value = "5s", value_name = "TIME", value_parser = positive_duration)]
    pub interval: Duration,
    /// How much the rollups may hold.
    #[command(flatten)]
    pub cap: RollupCap,
}

/// How much the rollups may hold. All that make them must agree on it.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Rollups")]
pub struct RollupCap {
    /// Pairs of event name and channel with rollups on one day, queries for others count events; ids sent as names
    /// cannot fill the disk
    #[arg(
        id = "rollup_pairs_max", long = "rollup-pairs-max",
        env = "FAST_INGEST_ROLLUP_PAIRS_MAX",
        default_value_t = PAIRS_MAX_DEFAULT,
        value_name = "N", value_parser = count::<usize>
    )]
    pub pairs_per_day_max: usize,
}
