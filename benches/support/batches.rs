//! What both flush benches do: store the same batches through our sink and without it, by turns, in three sizes.
//!
//! A contender takes a batch and returns how long it took. What it prepares before its clock starts does not count.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use fast_ingest::event::bucket::HOUR_MICROS;
use fast_ingest::wal::batch::{Batch, BatchView};
use fast_ingest::wal::id::WalId;
use uuid::Uuid;

use super::paired;
use super::table::{Row, Table, Target};
use crate::traffic::{Traffic, now};

/// The log that all batches come from.
pub(crate) const WAL_ID: WalId = WalId(Uuid::from_u128(1));

/// Rows of a batch, and batches of a turn. A turn is long enough to meet work that only some batches do, as when SQLite
/// copies its side file back; the median of single batches would show that or not, by luck.
const SIZES: [(u64, u32); 3] = [(1_000, 40), (10_000, 8), (50_000, 2)];
/// Turns of each contender.
const ROUNDS: usize = 9;
/// From this many rows on a batch's fixed costs are negligible, so the target holds.
const ROWS_OF_TARGET: u64 = 10_000;
/// Busy traffic, in rows.
const ROWS_A_SECOND: u64 = 10_000;

/// A comparison of two ways to store a batch.
pub(crate) struct Contest {
    /// Name of the bench.
    pub(crate) layer: &'static str,
    /// Criterion's name for the contender that is not ours.
    pub(crate) limit: &'static str,
    /// Our rate over the limit's rate, at least.
    pub(crate) ratio_min: f64,
}

impl Contest {
    /// Measures both contenders in all sizes.
    pub(crate) fn run(
        &self,
        criterion: &mut Criterion,
        table: &mut Table,
        mut ours: impl FnMut(BatchView<'_>) -> Duration,
        mut limit: impl FnMut(BatchView<'_>) -> Duration,
    ) {
        // Each contender goes through the traffic at its own pace, so that every batch follows the one before.
        let (mut batches_of_ours, mut batches_of_limit) = (Batches::new(), Batches::new());
        for (rows, batches) in SIZES {
            let rows_of_turn = (rows * u64::from(batches)) as f64;
            let rate = |time: Duration| rows_of_turn / time.as_secs_f64();
            let medians = paired::medians(
                ROUNDS,
                || {
                    let flush = |_| ours(batches_of_ours.next(rows));
                    rate((0..batches).map(flush).sum())
                },
                || {
                    let flush = |_| limit(batches_of_limit.next(rows));
                    rate((0..batches).map(flush).sum())
                },
            );
            table.add(Row {
                layer: self.layer.to_owned(),
                what: format!("batches of {rows}: rows a second"),
                unit: "/s",
                ours: medians.ours,
                limit: Some(medians.limit),
                target: if rows >= ROWS_OF_TARGET {
                    Target::RatioAtLeast(self.ratio_min)
                } else {
                    Target::None
                },
            });
        }
        let mut group = criterion.benchmark_group(self.layer);
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        for (rows, _) in SIZES {
            group.throughput(Throughput::Elements(rows));
            group.bench_function(BenchmarkId::new("ours", rows), |bencher| {
                bencher.iter_custom(|flushes| {
                    let flush = |_| ours(batches_of_ours.next(rows));
                    (0..flushes).map(flush).sum()
                });
            });
            group.bench_function(BenchmarkId::new(self.limit, rows), |bencher| {
                bencher.iter_custom(|flushes| {
                    let flush = |_| limit(batches_of_limit.next(rows));
                    (0..flushes).map(flush).sum()
                });
            });
        }
        group.finish();
    }
}

/// Consecutive batches, as the flush would read them from a log.
struct Batches {
    traffic: Traffic,
    next: u64,
    batch: Batch,
}

impl Batches {
    fn new() -> Self {
        // One hour of traffic: more than any run stores.
        let range = now() - HOUR_MICROS..now();
        Self {
            traffic: Traffic {
                events: 3600 * ROWS_A_SECOND,
                range,
            },
            next: 0,
            batch: Batch::new(WAL_ID, 0),
        }
    }

    fn next(&mut self, rows: u64) -> BatchView<'_> {
        let first = self.next;
        self.next += rows;
        self.batch.reset(first);
        self.traffic.fill(&mut self.batch, first..self.next);
        self.batch.view()
    }
}
