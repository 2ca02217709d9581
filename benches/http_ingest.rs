//! The load test of the accept path: the real server on real sockets, `fdatasync` on, against a bare hyper server under
//! the same load.
//!
//! The accept path alone: the server's database cannot be reached, so there is nothing to flush. `end_to_end` measures
//! what a flush costs; here a flush would go on during the bare server's turn, and a turn of ours would pay for the
//! events of the one before. One pair of rows shows what clients see while the same process flushes SQLite: see
//! `while_flushed`.

mod accept_cost;
mod contest;
mod half_load;
mod while_flushed;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use self::contest::{Comparison, Contender, Pair, cpu_micros, p50_millis, p99_millis, p999_millis, rate};
use crate::choice::Selection;
use crate::support::client::Pace;
use crate::support::requests::Kind;
use crate::support::series::{Chart, Series};
use crate::support::servers::Server;
use crate::support::table::{Row, Table, Target};

const LAYER: &str = "http_ingest";
const SINGLE_CONNECTIONS: [usize; 5] = [1, 16, 64, 256, 1000];
const BULK: Kind = Kind::Bulk(1000);
const BULK_CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
/// The number of connections at which single events have targets.
const CONNECTIONS_OF_TARGET: usize = 64;
/// The number of connections at which the cost of bulks is compared with parsing them.
const CONNECTIONS_OF_ACCEPT_COST: usize = 16;
/// Turns of each server, one after the other.
const ROUNDS: usize = 3;
/// More turns where there is a target, so that chance weighs less.
const ROUNDS_OF_TARGET: usize = 9;
/// How long a turn should take.
const TURN: Duration = Duration::from_millis(400);

/// Measures all loads. Returns rates and latencies of single events against connections.
pub(crate) fn run(criterion: &mut Criterion, selection: &Selection, table: &mut Table) -> Vec<Series> {
    let mut lines = Lines::default();
    for connections in SINGLE_CONNECTIONS {
        if !selection.has(&format!("{LAYER}/single/{connections}")) {
            continue;
        }
        let mut pair = Pair::start(Kind::Single, connections, contest::accepting_alone);
        let has_target = connections == CONNECTIONS_OF_TARGET;
        let comparison = compare(&mut pair, has_target, table);
        lines.add(connections, &comparison);
        if has_target {
            half_load::measure(&mut pair.ours, comparison.ours(rate), table);
        }
        measure_iterations(criterion, &mut pair);
    }
    if selection.has(&format!("{LAYER}/while_flushed")) {
        while_flushed::measure(CONNECTIONS_OF_TARGET, table);
    }
    for connections in BULK_CONNECTIONS {
        if !selection.has(&format!("{LAYER}/bulk/{connections}")) {
            continue;
        }
        let mut pair = Pair::start(BULK, connections, contest::accepting_alone);
        compare(&mut pair, false, table);
        if connections == CONNECTIONS_OF_ACCEPT_COST {
            accept_cost::measure(&mut pair.ours, table);
        }
        measure_iterations(criterion, &mut pair);
    }
    lines.into_series()
}

fn compare(pair: &mut Pair, has_target: bool, table: &mut Table) -> Comparison {
    let requests = pair.warm_up(TURN);
    let rounds = if has_target { ROUNDS_OF_TARGET } else { ROUNDS };
    let turn = |contender: &mut Contender| contender.turn(requests, Server::cpu_of_accepting);
    let comparison = pair.compare(rounds, turn, turn);
    let target = |target| if has_target { target } else { Target::None };
    let mut add = |name: &str, unit, value, target| {
        table.add(comparison.row(name, unit, value, target));
    };
    add("requests a second", "/s", rate, target(Target::RatioAtLeast(0.75)));
    add("CPU a request", "µs", cpu_micros, target(Target::RatioAtMost(1.4)));
    add("p50", "ms", p50_millis, Target::None);
    add("p99", "ms", p99_millis, Target::None);
    add("p99.9", "ms", p999_millis, Target::None);
    // Bulks on many connections are more than the server takes into memory at once: it refuses some, and they are sent
    // again.
    if comparison.refused_share() > 0.0 {
        table.add(Row {
            layer: LAYER.to_owned(),
            what: format!("{}: answers that say slow down", comparison.what),
            unit: "%",
            ours: 100.0 * comparison.refused_share(),
            limit: None,
            target: Target::None,
        });
    }
    comparison
}

fn measure_iterations(criterion: &mut Criterion, pair: &mut Pair) {
    let (kind, connections) = (pair.kind, pair.connections);
    let mut group = criterion.benchmark_group(format!("{LAYER}/{}", contest::name_of(kind)));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.throughput(Throughput::Elements(kind.events() as u64));
    for (name, contender) in [("ours", &mut pair.ours), ("bare_hyper", &mut pair.bare)] {
        group.bench_function(BenchmarkId::new(name, connections), |bencher| {
            bencher.iter_custom(|requests| contender.client.run(requests, Pace::Closed).elapsed);
        });
    }
    group.finish();
}

/// The series that become charts.
#[derive(Default)]
struct Lines {
    rates: Vec<(f64, f64)>,
    rates_of_bare: Vec<(f64, f64)>,
    p50_millis: Vec<(f64, f64)>,
    p99_millis: Vec<(f64, f64)>,
}

impl Lines {
    fn add(&mut self, connections: usize, comparison: &Comparison) {
        let x = connections as f64;
        self.rates.push((x, comparison.ours(rate)));
        self.rates_of_bare.push((x, comparison.bare(rate)));
        self.p50_millis.push((x, comparison.ours(p50_millis)));
        self.p99_millis.push((x, comparison.ours(p99_millis)));
    }

    fn into_series(self) -> Vec<Series> {
        let lines = [
            (Chart::Throughput, "fast-ingest", self.rates),
            (Chart::Throughput, "bare hyper", self.rates_of_bare),
            (Chart::Latency, "fast-ingest, p50", self.p50_millis),
            (Chart::Latency, "fast-ingest, p99", self.p99_millis),
        ];
        let lines = lines
            .into_iter()
            .map(|(chart, name, points)| Series { chart, name, points });
        lines.collect()
    }
}
