//! Upgrading a database to this release: its schema, then the counts that fill new tables.

use std::time::Duration;

use super::rebuild::{self, Rebuilt};
use crate::store::migrations::{apply, block_on, upkeep_settings};
use crate::store::settings::StoreLocation;
use crate::store::{self, StoreError};
use crate::support::words::plural;

/// Upgrades a database to this release, with the default cap on rollups; see [`up_within`].
pub fn up(location: &StoreLocation) -> Result<Vec<String>, StoreError> {
    up_within(location, rebuild::PAIRS_MAX_DEFAULT)
}

/// Upgrades a database to this release: [`apply`], then [`build_rollups`]. Returns the names of the migrations applied.
///
/// Blocks, and must not be called on a thread that drives a tokio runtime. Two runs at once do no harm: the second
/// waits, then finds nothing to do.
pub fn up_within(location: &StoreLocation, pairs_max: usize) -> Result<Vec<String>, StoreError> {
    let names = apply(location, Duration::ZERO)?;
    if let Some(Rebuilt { days, events, .. }) = build_rollups(location, pairs_max)? {
        tracing::info!(
            days,
            events,
            "built rollups for {} in {}",
            plural(events, "event"),
            plural(days, "day")
        );
    }
    Ok(names)
}

/// Counts the events that were stored before there were rollups; `None` when that is done already. Blocks like [`up`].
///
/// Two runs at once only do the work twice: each rebuilds day after day, and the rollups stay right.
pub fn build_rollups(location: &StoreLocation, pairs_max: usize) -> Result<Option<Rebuilt>, StoreError> {
    let settings = upkeep_settings(location.clone());
    block_on(async {
        let mut rollups = store::open(&settings)?.open_rollups().await?;
        rebuild::build_if_needed(&mut *rollups, pairs_max).await
    })
}
