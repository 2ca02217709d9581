//! From whatever a database holds to where this release can serve from it: its schema, then what must be counted to
//! fill new tables.

use std::time::Duration;

use super::rebuild::{self, Rebuilt};
use crate::store::migrations::{apply, block_on, upkeep_settings};
use crate::store::settings::StoreLocation;
use crate::store::{self, StoreError};
use crate::support::words::plural;

/// Brings a database to where this binary can serve from it, with the default cap on rollups; see [`up_within`].
pub fn up(location: &StoreLocation) -> Result<Vec<String>, StoreError> {
    up_within(location, rebuild::PAIRS_MAX_DEFAULT)
}

/// Brings a database to where this binary can serve from it: [`apply`], then [`build_rollups`]. Returns the names of
/// the migrations applied.
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
/// Two runs at once count everything twice, one day after the other, and both are right.
pub fn build_rollups(location: &StoreLocation, pairs_max: usize) -> Result<Option<Rebuilt>, StoreError> {
    let settings = upkeep_settings(location.clone());
    block_on(async {
        let mut rollups = store::open(&settings)?.open_rollups().await?;
        rebuild::build_if_needed(&mut *rollups, pairs_max).await
    })
}
