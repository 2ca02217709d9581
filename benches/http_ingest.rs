//! The load test of the accept path: the real server on real sockets, `fdatasync` on, against a bare hyper server under the same load.

use std::time::{Duration, SystemTime};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use crate::support::client::{Client, Outcome, Pace};
use crate::support::process;
use crate::support::requests::{Kind, Requests};
use crate::support::servers::{Data, Server};
use crate::support::table::{Row, Table, Target};
use crate::support::{Selection, median};

const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
/// Turns of each server, one after the other.
const ROUNDS: usize = 5;
/// How long a turn should take.
const TURN: Duration = Duration::from_millis(600);

/// Measures all loads.
pub(crate) fn run(criterion: &mut Criterion, selection: &Selection, table: &mut Table) {
    for kind in [Kind::Single, Kind::Bulk(1000)] {
        for connections in CONNECTIONS {
            if !selection.has(&format!("http_ingest/{}/{connections}", name_of(kind))) {
                continue;
            }
            let mut pair = Pair::start(kind, connections);
            compare(&mut pair, kind, connections, table);
            let name = format!("http_ingest/{}", name_of(kind));
            let mut group = criterion.benchmark_group(name);
            group.sampling_mode(SamplingMode::Flat).sample_size(10);
            group.throughput(Throughput::Elements(kind.events() as u64));
            for (name, contender) in [("ours", &mut pair.ours), ("bare_hyper", &mut pair.bare)] {
                let id = BenchmarkId::new(name, connections);
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|requests| {
                        contender.client.run(requests, Pace::Closed).elapsed
                    });
                });
            }
            group.finish();
        }
    }
}

fn name_of(kind: Kind) -> String {
    match kind {
        Kind::Single => "single".to_owned(),
        Kind::Bulk(events) => format!("bulk of {events}"),
    }
}

struct Pair {
    ours: Contender,
    bare: Contender,
}

struct Contender {
    server: Server,
    client: Client,
}

/// What one turn cost.
struct Turn {
    outcome: Outcome,
    cpu: Duration,
}

impl Pair {
    fn start(kind: Kind, connections: usize) -> Self {
        let unreachable = "postgres://nobody@127.0.0.1:1/nothing";
        let url = std::env::var("WITH_SQLITE").is_err().then_some(unreachable);
        let ours = Server::ours(Data::fresh(), url, &[]);
        Self {
            ours: Contender::new(ours, kind, connections),
            bare: Contender::new(Server::bare(), kind, connections),
        }
    }
}

impl Contender {
    fn new(server: Server, kind: Kind, connections: usize) -> Self {
        let now = SystemTime::now();
        let requests = |index| Requests::new(kind, index, connections, now);
        let client = Client::connect(server.address, connections, requests);
        Self { server, client }
    }

    fn turn(&mut self, requests: u64) -> Turn {
        let before = self.server.cpu_of_accepting();
        let outcome = self.client.run(requests, Pace::Closed);
        let cpu = self.server.cpu_of_accepting() - before;
        Turn { outcome, cpu }
    }
}

fn compare(pair: &mut Pair, kind: Kind, connections: usize, table: &mut Table) {
    // Warms up, and says how many requests a turn takes.
    let warm_up = 20 * connections as u64;
    let rate = pair.ours.turn(warm_up).outcome.rate();
    pair.bare.turn(warm_up);
    let requests = (rate * TURN.as_secs_f64()) as u64 + connections as u64;
    let mut ours = Vec::new();
    let mut bare = Vec::new();
    for _ in 0..ROUNDS {
        ours.push(pair.ours.turn(requests));
        bare.push(pair.bare.turn(requests));
    }
    let what = format!("{}, {connections} connections", name_of(kind));
    let middle =
        |turns: &[Turn], value: fn(&Turn) -> f64| median(turns.iter().map(value).collect());
    let mut add = |name: &str, unit, value: fn(&Turn) -> f64, target| {
        table.add(Row {
            layer: "http_ingest".to_owned(),
            what: format!("{what}: {name}"),
            unit,
            ours: middle(&ours, value),
            limit: Some(middle(&bare, value)),
            target,
        });
    };
    let rate = |turn: &Turn| turn.outcome.rate();
    let cpu = |turn: &Turn| turn.cpu.as_secs_f64() * 1e6 / turn.outcome.latencies.len() as f64;
    add("requests a second", "/s", rate, Target::None);
    add("CPU a request", "µs", cpu, Target::None);
    add(
        "p50",
        "ms",
        |turn| millis(turn.outcome.quantile(0.5)),
        Target::None,
    );
    add(
        "p99",
        "ms",
        |turn| millis(turn.outcome.quantile(0.99)),
        Target::None,
    );
    add(
        "p99.9",
        "ms",
        |turn| millis(turn.outcome.quantile(0.999)),
        Target::None,
    );
    for (name, cpu) in process::cpu_of_threads(pair.ours.server.pid()) {
        eprintln!("  {name}: {cpu:?}");
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
