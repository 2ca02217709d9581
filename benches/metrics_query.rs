//! Metrics queries over millions of events, against hand-written SQL over the same rows, and what keeping rollups costs
//! the flush.
//!
//! The table has the slowest of many different questions, which criterion does not look for; criterion's own figures
//! are about a few of them. Everything goes through the store's own interface; only the baseline is SQL.
//!
//! | variable                   | meaning                                                                                        |
//! |----------------------------|------------------------------------------------------------------------------------------------|
//! | `FAST_INGEST_BENCH_ROWS`   | numbers of events, default `1000000,10000000` on PostgreSQL and `1000000` on SQLite             |
//! | `FAST_INGEST_BENCH_STORES` | default `postgres,sqlite`                                                                       |
//! | `FAST_INGEST_BENCH_KEEP`   | a directory that keeps the loaded databases: a hundred million rows are loaded once, not each time. When root runs this, PostgreSQL runs as another user, who must get at it |
//! | `TMPDIR`                   | where PostgreSQL is when nothing is kept; default `/tmp`                                       |

mod database;
mod flush;
mod measure;
mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode};
use fast_ingest::event::Timestamp;
use fast_ingest::upkeep::compact::{Limits, compact, sum_up_days};
use tokio::runtime::{Builder, Runtime};

use self::database::{Database, Kind};
use self::server::Server;
use crate::support::disk;
use crate::support::table::{Row, Table, Target};
use crate::traffic::{self, Traffic};

/// Events of the dense traffic: some days.
const DENSE_EVENTS: u64 = 4_000_000;
/// Longest time for one row of the table: a slow question is asked fewer times, not for hours.
const BUDGET: Duration = Duration::from_secs(15);

/// Measures all stores.
pub(crate) fn run(criterion: &mut Criterion, table: &mut Table) {
    // Connections do background work between two questions.
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let settings = Settings::from_environment();
    for &kind in &settings.kinds {
        let home = Home::new(kind, settings.keep.as_deref());
        let mut p99s = Vec::new();
        for &events in settings.events(kind) {
            let traffic = Traffic::ending_at(home.now, events);
            let database = runtime.block_on(home.database(&format!("events_{events}")));
            p99s.push(runtime.block_on(measure_one(&database, &traffic, table)));
            bench_questions(criterion, &runtime, &database, &traffic);
        }
        if let ([first, .., last], [.., events]) = (&p99s[..], settings.events(kind)) {
            let subject = Subject {
                store: kind.name(),
                events: *events,
            };
            table.add(subject.row(
                "30 days by day: p99, against that of the fewest events",
                "ms",
                *last,
                Some(*first),
                Target::RatioAtMost(2.0),
            ));
        }
        runtime.block_on(async {
            let database = home.fresh_database("dense").await;
            measure_size(&database, &Traffic::dense(home.now, DENSE_EVENTS), table).await;
            let database = home.fresh_database("flush").await;
            flush::measure(&database, table).await;
        });
    }
}

/// What a row of the table is about.
struct Subject {
    store: &'static str,
    events: u64,
}

impl Subject {
    fn of(database: &Database, events: u64) -> Self {
        Self {
            store: database.kind.name(),
            events,
        }
    }

    fn row(&self, what: &str, unit: &'static str, ours: f64, limit: Option<f64>, target: Target) -> Row {
        let Self { store, events } = self;
        Row {
            layer: "metrics_query".to_owned(),
            what: format!("{store}, {events} events: {what}"),
            unit,
            ours,
            limit,
            target,
        }
    }
}

/// Loads one database and measures it; returns the p99 of the days.
async fn measure_one(database: &Database, traffic: &Traffic, table: &mut Table) -> f64 {
    traffic.load_into(database.store()).await;
    settle(database).await;
    database.tidy().await;
    let subject = Subject::of(database, traffic.events);
    let days = measure::latencies(database.store(), traffic, measure::Edges::Midnight).await;
    let ragged = measure::latencies(database.store(), traffic, measure::Edges::Second).await;
    database.add_index().await;
    let by_hand = measure::by_hand(database, traffic).await;
    let accuracy = measure::accuracy(database, traffic).await;
    database.drop_index().await;
    let days_max = match database.kind {
        Kind::Postgres => 10.0,
        Kind::Sqlite => 20.0,
    };
    // The goal is a thousandth with a hundred million events; with fewer events the rows are quicker to read and the
    // rollups are not.
    let share_max = 0.001 * 100e6 / traffic.events as f64;
    let mut add = |what: &str, unit, value, limit, target| {
        table.add(subject.row(what, unit, value, limit, target));
    };
    add(
        "30 days by day: p50, against SQL over rows",
        "ms",
        days.p50,
        Some(by_hand),
        Target::RatioAtMost(share_max),
    );
    let at_most = Target::AtMost;
    add("30 days by day: p99", "ms", days.p99, None, at_most(days_max));
    add("30 ragged days: p50", "ms", ragged.p50, None, Target::None);
    add("30 ragged days: p99", "ms", ragged.p99, None, at_most(25.0));
    let mut add_percent = |what: &str, share: f64, target| {
        add(what, "%", 100.0 * share, None, target);
    };
    let reported = accuracy.reported_max;
    add_percent("users: reported error, max", reported, at_most(1.0));
    add_percent("users: true error, mean", accuracy.true_mean, at_most(1.0));
    add_percent("users: true error, max", accuracy.true_max, Target::None);
    let within = accuracy.within;
    add_percent("users: in the reported range", within, Target::AtLeast(95.0));
    days.p99
}

/// The same questions, measured by Criterion.
fn bench_questions(criterion: &mut Criterion, runtime: &Runtime, database: &Database, traffic: &Traffic) {
    let name = format!("metrics_query/{}", database.kind.name());
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    // A new question each time.
    let mut number = 0;
    group.bench_function(BenchmarkId::new("rollups", traffic.events), |bencher| {
        bencher.iter(|| {
            number += 1;
            runtime.block_on(measure::ask(database, traffic, number));
        });
    });
    runtime.block_on(database.add_index());
    group.bench_function(BenchmarkId::new("sql_by_hand", traffic.events), |bencher| {
        bencher.iter(|| {
            number += 1;
            runtime.block_on(measure::ask_by_hand(database, traffic, number));
        });
    });
    runtime.block_on(database.drop_index());
    group.finish();
}

/// How much the rollups of steady traffic take.
async fn measure_size(database: &Database, traffic: &Traffic, table: &mut Table) {
    traffic.load_into(database.store()).await;
    settle(database).await;
    database.tidy().await;
    let size = database.size().await;
    let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    table.add(Subject::of(database, traffic.events).row(
        "dense traffic: size of rollups, against that of events",
        "MiB",
        mib(size.rollups),
        Some(mib(size.events)),
        Target::RatioAtMost(0.05),
    ));
}

/// Brings the rollups to the state of a server that has run for long: every delta merged, every day that has ended
/// summed up.
async fn settle(database: &Database) {
    let mut rollups = database.store().open_rollups().await.expect("a connection");
    let (now, limits) = (Timestamp::now(), Limits::new(10_000));
    let began = Instant::now();
    while compact(rollups.as_mut(), now, &limits)
        .await
        .expect("compaction")
        .has_more
    {}
    while sum_up_days(rollups.as_mut(), now, &limits)
        .await
        .expect("sums")
        .has_more
    {}
    eprintln!("rollups settled in {:.1?}", began.elapsed());
}

/// What the environment asks for.
struct Settings {
    /// Overrides the defaults.
    events: Option<Vec<u64>>,
    kinds: Vec<Kind>,
    keep: Option<PathBuf>,
}

impl Settings {
    fn from_environment() -> Self {
        let list = |name: &str| {
            let text = std::env::var(name).ok()?;
            let items = text.split(',').map(|item| item.trim().to_owned());
            Some(items.collect::<Vec<String>>())
        };
        let number = |text: &String| text.parse::<u64>();
        let events = list("FAST_INGEST_BENCH_ROWS").map(|numbers| {
            let numbers: Result<Vec<_>, _> = numbers.iter().map(number).collect();
            let mut events = numbers.expect("FAST_INGEST_BENCH_ROWS: numbers, separated by commas");
            events.sort_unstable();
            events
        });
        let kinds = list("FAST_INGEST_BENCH_STORES").map(|names| {
            let kinds: Option<_> = names.iter().map(|name| Kind::named(name)).collect();
            kinds.expect("FAST_INGEST_BENCH_STORES: postgres, sqlite or both")
        });
        Self {
            events,
            kinds: kinds.unwrap_or_else(|| vec![Kind::Postgres, Kind::Sqlite]),
            keep: std::env::var_os("FAST_INGEST_BENCH_KEEP").map(PathBuf::from),
        }
    }

    /// Sizes for one kind, in order.
    fn events(&self, kind: Kind) -> &[u64] {
        let default: &[u64] = match kind {
            Kind::Postgres => &[1_000_000, 10_000_000],
            Kind::Sqlite => &[1_000_000],
        };
        self.events.as_deref().unwrap_or(default)
    }
}

/// Where the databases of one kind are.
struct Home {
    place: Place,
    /// The instant that the traffic takes as now, in microseconds. Kept with the databases, so that an interrupted load
    /// can go on.
    now: i64,
    /// Removed at the end, unless it is to be kept.
    _throw_away: Option<tempfile::TempDir>,
}

enum Place {
    Postgres(Server),
    Sqlite(PathBuf),
}

impl Home {
    fn new(kind: Kind, keep: Option<&Path>) -> Self {
        let throw_away = keep.is_none().then(disk::fresh_directory);
        let directory = match (&throw_away, keep) {
            (Some(directory), _) => directory.path(),
            (None, Some(directory)) => directory,
            (None, None) => unreachable!("one of the two is set"),
        };
        std::fs::create_dir_all(directory).expect("FAST_INGEST_BENCH_KEEP: a directory");
        let directory = directory.canonicalize().expect("made above");
        let place = match (kind, keep) {
            (Kind::Postgres, None) => Place::Postgres(Server::throw_away()),
            (Kind::Postgres, Some(_)) => Place::Postgres(Server::kept_in(&directory.join("postgres"))),
            (Kind::Sqlite, _) => Place::Sqlite(directory.clone()),
        };
        Self {
            place,
            now: kept_now(&directory.join("now")),
            _throw_away: throw_away,
        }
    }

    /// The database of this name, with its schema; empty unless it was kept.
    async fn database(&self, name: &str) -> Database {
        match &self.place {
            Place::Postgres(server) => Database::postgres(server.database(name).await).await,
            Place::Sqlite(directory) => Database::sqlite(directory.join(format!("{name}.db"))).await,
        }
    }

    /// The database of this name, always empty.
    async fn fresh_database(&self, name: &str) -> Database {
        match &self.place {
            Place::Postgres(server) => server.drop_database(name).await,
            Place::Sqlite(directory) => {
                for end in ["db", "db-wal", "db-shm"] {
                    // The file usually does not exist.
                    std::fs::remove_file(directory.join(format!("{name}.{end}"))).ok();
                }
            }
        }
        self.database(name).await
    }
}

/// Reads the instant from a file, or writes the present one there.
fn kept_now(path: &Path) -> i64 {
    if let Ok(text) = std::fs::read_to_string(path) {
        return text.trim().parse().expect("the file holds microseconds");
    }
    let now = traffic::now();
    std::fs::write(path, now.to_string()).expect("the directory can be written to");
    now
}
