//! The load test of the whole path: from clients to stored rows, until nothing waits in the log. The limit is COPY of
//! prepared rows into the same tables of the same PostgreSQL, alone.
//!
//! The two take turns, so that changes of the machine's speed meet both. A turn of ours begins with an empty log. The
//! last batch of a turn is not full and waits out the flush interval of 200 ms, which counts. Work that a turn leaves
//! to the background counts in its CPU, not in its time.

use fast_ingest::upkeep::upgrade;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, SamplingMode, Throughput};
use fast_ingest::store::settings::StoreLocation;

use crate::support::client::{Client, Pace};
use crate::support::database::{Postgres, settle};
use crate::support::raw_copy::{RawCopy, Rows};
use crate::support::requests::{Kind, Requests};
use crate::support::servers::{Data, Server};
use crate::support::table::{Row, Table, Target};
use crate::support::{disk, median, process, sizes};

const CONNECTIONS: usize = 16;
const BULK_EVENTS: u64 = 1000;
/// Turns of each, one after the other.
const ROUNDS: usize = 3;
/// Events of a turn, unless [`EVENTS_VARIABLE`] says otherwise; SQLite gets a fifth.
const EVENTS: f64 = 1_500_000.0;
const EVENTS_VARIABLE: &str = "FAST_INGEST_BENCH_END_TO_END";
/// Bulks of one iteration of Criterion's: several full batches, or the flush interval would dominate.
const ITERATION_BULKS: u64 = 100;
const MIB: f64 = 1024.0 * 1024.0;

/// Measures PostgreSQL and SQLite.
pub(crate) fn run(criterion: &mut Criterion, table: &mut Table) {
    let events = sizes(EVENTS_VARIABLE, &[EVENTS])[0] as u64;
    with_postgres(criterion, events, table);
    with_sqlite(events / 5, table);
}

/// A server under a load that ends when everything is stored.
pub(crate) struct Loaded {
    /// The server.
    pub(crate) server: Server,
    client: Client,
    /// Events that were answered by 202.
    pub(crate) acknowledged: u64,
}

impl Loaded {
    /// A load of bulks whose events happened an hour ago.
    pub(crate) fn new(server: Server) -> Self {
        Self::with_metadata(server, 0)
    }

    /// A load of bulks, each event with metadata of about this many bytes; none for 0.
    pub(crate) fn with_metadata(server: Server, metadata_bytes: usize) -> Self {
        let kind = Kind::Bulk(usize::try_from(BULK_EVENTS).expect("a small number"));
        let start = start();
        let requests = |index| Requests::with_metadata(kind, index, CONNECTIONS, start, metadata_bytes);
        let client = Client::connect(server.address, CONNECTIONS, requests);
        Self {
            server,
            client,
            acknowledged: 0,
        }
    }

    /// Sends this many events, as fast as the server accepts them.
    pub(crate) fn send(&mut self, events: u64) {
        let outcome = self.client.run(events.div_ceil(BULK_EVENTS), Pace::Closed);
        self.acknowledged += outcome.latencies.len() as u64 * BULK_EVENTS;
    }

    /// Sends this many events and waits until they are stored; returns the time taken.
    pub(crate) fn store(&mut self, events: u64) -> Duration {
        let started = Instant::now();
        self.send(events);
        self.server.wait_until_flushed();
        started.elapsed()
    }
}

/// A time of the first event that keeps even a long load in the past.
fn start() -> SystemTime {
    SystemTime::now() - Duration::from_secs(3600)
}

/// What one turn cost.
struct Turn {
    events: u64,
    elapsed: Duration,
    accepting: Duration,
    /// CPU time of the flush and of the rollup thread.
    flushing: Duration,
    database: Duration,
}

impl Turn {
    fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }

    /// Seconds for a million events.
    fn per_million(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.events as f64
    }
}

fn with_postgres(criterion: &mut Criterion, events: u64, table: &mut Table) {
    let postgres = Postgres::start();
    let url = postgres.fresh_database();
    let mut ours = Loaded::new(Server::ours(Data::fresh(), Some(&url), &[]));
    let raw_copy = RawCopy::new(&postgres);
    let rows = Rows::encode(start(), events);
    turn_of_ours(&mut ours, Some(&postgres), events);
    turn_of_copy(&raw_copy, &postgres, &rows);
    let (mut our_turns, mut copy_turns) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        our_turns.push(turn_of_ours(&mut ours, Some(&postgres), events));
        copy_turns.push(turn_of_copy(&raw_copy, &postgres, &rows));
    }
    assert_eq!(
        postgres.count_events(&url),
        ours.acknowledged,
        "as many rows as were acknowledged"
    );
    let copied = (ROUNDS as u64 + 1) * rows.count;
    assert_eq!(postgres.count_events(&raw_copy.url), copied, "all rows");

    add_rows("postgres", &our_turns, Some(&copy_turns), table);
    let peak = process::peak_resident(ours.server.pid());
    table.add(Row {
        layer: "end_to_end".to_owned(),
        what: "postgres: peak resident memory while serving".to_owned(),
        unit: "MiB",
        ours: peak as f64 / MIB,
        limit: None,
        target: Target::AtMost(64.0),
    });
    measure_iterations(criterion, &postgres, &mut ours, &raw_copy);
}

fn turn_of_ours(ours: &mut Loaded, postgres: Option<&Postgres>, events: u64) -> Turn {
    let pid = ours.server.pid();
    let database_cpu = || postgres.map_or(Duration::ZERO, Postgres::cpu);
    let acknowledged = ours.acknowledged;
    let (accepting, all) = (ours.server.cpu_of_accepting(), process::cpu(pid));
    let database = database_cpu();
    let elapsed = ours.store(events);
    settle(|| process::cpu(pid) + database_cpu());
    let accepting = ours.server.cpu_of_accepting() - accepting;
    Turn {
        events: ours.acknowledged - acknowledged,
        elapsed,
        accepting,
        flushing: (process::cpu(pid) - all).saturating_sub(accepting),
        database: database_cpu() - database,
    }
}

fn turn_of_copy(raw_copy: &RawCopy, postgres: &Postgres, rows: &Rows) -> Turn {
    let (started, before) = (Instant::now(), postgres.cpu());
    raw_copy.store(postgres, rows);
    let elapsed = started.elapsed();
    settle(|| postgres.cpu());
    Turn {
        events: rows.count,
        elapsed,
        accepting: Duration::ZERO,
        flushing: Duration::ZERO,
        database: postgres.cpu() - before,
    }
}

fn add_rows(store: &str, ours: &[Turn], limit: Option<&[Turn]>, table: &mut Table) {
    let middle = |turns: &[Turn], value: fn(&Turn) -> f64| median(turns.iter().map(value).collect());
    let mut add = |what: &str, unit, value: fn(&Turn) -> f64, is_limited: bool, target| {
        table.add(Row {
            layer: "end_to_end".to_owned(),
            what: format!("{store}: {what}"),
            unit,
            ours: middle(ours, value),
            limit: limit.filter(|_| is_limited).map(|turns| middle(turns, value)),
            target,
        });
    };
    let target = limit.map_or(Target::None, |_| Target::RatioAtLeast(0.57));
    add("events stored a second", "/s", Turn::rate, true, target);
    let accepting = |turn: &Turn| turn.per_million(turn.accepting);
    let flushing = |turn: &Turn| turn.per_million(turn.flushing);
    let database = |turn: &Turn| turn.per_million(turn.database);
    add(
        "CPU of the accept path for a million events",
        "s",
        accepting,
        false,
        Target::None,
    );
    add(
        "CPU of flush and rollups for a million events",
        "s",
        flushing,
        false,
        Target::None,
    );
    if limit.is_some() {
        add(
            "CPU of the database for a million events",
            "s",
            database,
            true,
            Target::None,
        );
    }
}

fn measure_iterations(criterion: &mut Criterion, postgres: &Postgres, ours: &mut Loaded, raw_copy: &RawCopy) {
    let events = ITERATION_BULKS * BULK_EVENTS;
    let rows = Rows::encode(start(), events);
    let mut group = criterion.benchmark_group("end_to_end");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.throughput(Throughput::Elements(events));
    group.bench_function("ours/postgres", |bencher| {
        bencher.iter_custom(|iterations| ours.store(iterations * events));
    });
    group.bench_function("raw_copy/postgres", |bencher| {
        bencher.iter_custom(|iterations| {
            let started = Instant::now();
            for _ in 0..iterations {
                raw_copy.store(postgres, &rows);
            }
            started.elapsed()
        });
    });
    group.finish();
}

fn with_sqlite(events: u64, table: &mut Table) {
    let directory = disk::fresh_directory();
    let file = directory.path().join("events.db");
    upgrade::up(&StoreLocation::Sqlite(file.clone())).expect("a new file takes its schema");
    let data = Data::Lent(directory.path().to_owned());
    let mut ours = Loaded::new(Server::ours(data, None, &[]));
    turn_of_ours(&mut ours, None, events / 5);
    let turn = turn_of_ours(&mut ours, None, events);
    add_rows("sqlite", &[turn], None, table);
    let acknowledged = ours.acknowledged;
    drop(ours);
    let file = rusqlite::Connection::open(file).expect("the file is there");
    let stored = file.query_row("SELECT count(*) FROM events", [], |row| row.get(0));
    let stored: i64 = stored.expect("the server is gone");
    assert_eq!(stored as u64, acknowledged, "as many rows as were acknowledged");
}
