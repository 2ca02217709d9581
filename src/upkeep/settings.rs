//! Settings of the rollups: how often they are compacted, and how much they may hold.

use std::time::Duration;

use clap::Args;

use super::rebuild::PAIRS_MAX_DEFAULT;
use crate::support::settings::{count, positive_duration};

/// How often rollups are compacted, and how much they may hold.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Rollups")]
pub struct RollupSettings {
    /// Time between two compactions of rollups in light traffic; until the next one a query reads some 25 more rows for
    /// each server
    #[arg(id = "rollup_interval", long = "rollup-interval", env = "FAST_INGEST_ROLLUP_INTERVAL", default_value = "5s", value_name = "TIME", value_parser = positive_duration)]
    pub interval: Duration,
    /// How much the rollups may hold.
    #[command(flatten)]
    pub cap: RollupCap,
}

/// How much the rollups may hold. Every process that writes rollups of one database must use the same value.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Rollups")]
pub struct RollupCap {
    /// Pairs of event name and channel that get rollups on one day; queries for other pairs count events. Keeps ids
    /// that are sent as names from filling the disk
    #[arg(
        id = "rollup_pairs_max", long = "rollup-pairs-max",
        env = "FAST_INGEST_ROLLUP_PAIRS_MAX",
        default_value_t = PAIRS_MAX_DEFAULT,
        value_name = "N", value_parser = count::<usize>
    )]
    pub pairs_per_day_max: usize,
}
