//! Latency at half of the peak load, against what the disk takes for one sync in the same minute.
//!
//! Requests are due at fixed moments, so one that waits behind a stall counts from when it was due.

use super::LAYER;
use super::contest::{Contender, millis};
use crate::support::client::Pace;
use crate::support::table::{Row, Table, Target};
use crate::support::{disk, median};

/// Turns of a second. The median counts, so that one stall of the machine does not decide.
const TURNS: usize = 3;
const TURN_SECONDS: f64 = 1.0;

/// `peak` is the rate that ours reached, in requests a second, when every connection sent its next request at once.
pub(super) fn measure(ours: &mut Contender, peak: f64, table: &mut Table) {
    let rate = peak / 2.0;
    let requests = (rate * TURN_SECONDS) as u64;
    // How long a sync takes changes from one second to the next.
    let sync_millis = || millis(disk::median_fdatasync());
    let mut syncs = vec![sync_millis()];
    let mut latencies = Vec::new();
    for _ in 0..TURNS {
        let outcome = ours.client.run(requests, Pace::Open(rate));
        latencies.push(millis(outcome.quantile(0.99)));
        syncs.push(sync_millis());
    }
    table.add(Row {
        layer: LAYER.to_owned(),
        what: "single: p99 at half of the peak load, against one fdatasync".to_owned(),
        unit: "ms",
        ours: median(latencies),
        limit: Some(median(syncs)),
        target: Target::RatioAtMost(10.0),
    });
}
