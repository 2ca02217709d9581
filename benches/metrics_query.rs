//! Metrics queries over millions of events, against hand-written SQL over the same rows, and what keeping rollups costs the flush.
//!
//! Not by criterion: one query takes from a millisecond to many seconds, and what counts is the slowest of a hundred. Everything goes
//! through the store's own doors; only what it is compared with is SQL.
//!
//! | variable                   | meaning                                                                                        |
//! |----------------------------|------------------------------------------------------------------------------------------------|
//! | `FAST_INGEST_BENCH_ROWS`   | numbers of events, default `1000000,4000000`                                                    |
//! | `FAST_INGEST_BENCH_STORES` | default `postgres,sqlite`                                                                       |
//! | `FAST_INGEST_BENCH_KEEP`   | a directory that keeps the loaded databases: a hundred million rows are loaded once, not each time. When root runs this, PostgreSQL runs as another user, who must get at it |
//! | `TMPDIR`                   | where PostgreSQL is when nothing is kept; default `/tmp`                                       |

#![allow(clippy::print_stdout, reason = "what a bench finds out goes there")]

#[path = "../src/store/postgres/copy.rs"]
mod copy;
#[path = "metrics_query/database.rs"]
mod database;
#[path = "metrics_query/figures.rs"]
mod figures;
#[path = "metrics_query/flush.rs"]
mod flush;
#[path = "metrics_query/measure.rs"]
mod measure;
#[path = "../src/tests/postgres.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "it belongs to the tests, and they use the rest"
)]
mod postgres;
#[path = "metrics_query/server.rs"]
mod server;
#[path = "metrics_query/traffic.rs"]
mod traffic;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

// The rows of COPY are made by the same code on both sides; it knows the event by this name.
use fast_ingest::event::{self, Timestamp};
use fast_ingest::rollup::compact::{Limits, compact, sum_up_days};

use self::database::{Database, Kind};
use self::figures::{Bound, Figures};
use self::server::Server;
use self::traffic::Traffic;

/// Events of the dense traffic: some days.
const DENSE_EVENTS: u64 = 4_000_000;
/// Longest time for one row of the table: a slow answer is measured a few times less, not for hours.
const BUDGET: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let settings = Settings::from_environment();
    let mut figures = Figures::default();
    for &kind in &settings.kinds {
        let home = Home::new(kind, settings.keep.as_deref());
        let mut slowest = Vec::new();
        for &events in &settings.events {
            let traffic = Traffic::ending_at(home.now, events);
            let database = home.database(&format!("events_{events}")).await;
            slowest.push(measure_one(&database, &traffic, &mut figures).await);
        }
        if let [first, .., last] = slowest[..] {
            let events = settings.events.last().copied().unwrap_or_default();
            let name = "days: p99 at the most events over p99 at the fewest";
            figures.add(
                kind.name(),
                events,
                name,
                last / first,
                "×",
                Bound::AtMost(2.0),
            );
        }
        let database = home.fresh_database("dense").await;
        measure_size(
            &database,
            &Traffic::dense(home.now, DENSE_EVENTS),
            &mut figures,
        )
        .await;
        let database = home.fresh_database("flush").await;
        flush::measure(&database, &mut figures).await;
    }
    figures.print();
}

/// Loads one database and measures it; returns the p99 of the days.
async fn measure_one(database: &Database, traffic: &Traffic, figures: &mut Figures) -> f64 {
    traffic.load_into(database.store()).await;
    settle(database).await;
    database.tidy().await;
    let (kind, events) = (database.kind.name(), traffic.events);
    let mut add = |name: &str, value: f64, unit: &'static str, bound: Bound| {
        figures.add(kind, events, name, value, unit, bound);
    };
    let days = measure::latencies(database.store(), traffic, measure::Edges::Midnight).await;
    let days_max = match database.kind {
        Kind::Postgres => 10.0,
        Kind::Sqlite => 20.0,
    };
    add("30 days by day: p50", days.p50, "ms", Bound::None);
    add(
        "30 days by day: p99",
        days.p99,
        "ms",
        Bound::AtMost(days_max),
    );
    let ragged = measure::latencies(database.store(), traffic, measure::Edges::Second).await;
    add("30 ragged days: p50", ragged.p50, "ms", Bound::None);
    add("30 ragged days: p99", ragged.p99, "ms", Bound::AtMost(25.0));
    database.add_index().await;
    let by_hand = measure::by_hand(database, traffic).await;
    let accuracy = measure::accuracy(database, traffic).await;
    database.drop_index().await;
    add("30 days, SQL over rows: p50", by_hand, "ms", Bound::None);
    // The goal is for a hundred million events; with fewer the rows are quicker to read and the rollups are not.
    let faster = 1_000.0 * events as f64 / 100e6;
    add(
        "times faster",
        by_hand / days.p50,
        "×",
        Bound::AtLeast(faster),
    );
    let percent = |part: f64| 100.0 * part;
    let (reported, truth) = (percent(accuracy.reported_max), percent(accuracy.true_mean));
    add(
        "users: reported error, max",
        reported,
        "%",
        Bound::AtMost(1.0),
    );
    add("users: true error, mean", truth, "%", Bound::AtMost(1.0));
    add(
        "users: true error, max",
        percent(accuracy.true_max),
        "%",
        Bound::None,
    );
    add(
        "users: in the reported range",
        percent(accuracy.within),
        "%",
        Bound::AtLeast(95.0),
    );
    days.p99
}

/// How much the rollups of steady traffic take.
async fn measure_size(database: &Database, traffic: &Traffic, figures: &mut Figures) {
    traffic.load_into(database.store()).await;
    settle(database).await;
    database.tidy().await;
    let size = database.size().await;
    let (kind, events) = (database.kind.name(), traffic.events);
    let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    let mut add = |name: &str, value: f64, unit: &'static str, bound: Bound| {
        figures.add(kind, events, name, value, unit, bound);
    };
    add(
        "dense traffic: rollups",
        mib(size.rollups),
        "MiB",
        Bound::None,
    );
    add(
        "dense traffic: events",
        mib(size.events),
        "MiB",
        Bound::None,
    );
    let share = size.rollups as f64 / size.events as f64;
    add(
        "rollups over events",
        100.0 * share,
        "%",
        Bound::AtMost(5.0),
    );
}

/// Brings the rollups to where a server has them that runs for long: every delta merged, every day that is over summed up.
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
    events: Vec<u64>,
    kinds: Vec<Kind>,
    keep: Option<PathBuf>,
}

impl Settings {
    fn from_environment() -> Self {
        let list = |name: &str, default: &str| {
            let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
            let items: Vec<String> = text.split(',').map(|item| item.trim().to_owned()).collect();
            items
        };
        let mut events: Vec<u64> = list("FAST_INGEST_BENCH_ROWS", "1000000,4000000")
            .iter()
            .map(|number| {
                number
                    .parse()
                    .expect("FAST_INGEST_BENCH_ROWS: numbers, separated by commas")
            })
            .collect();
        events.sort_unstable();
        let kinds = list("FAST_INGEST_BENCH_STORES", "postgres,sqlite")
            .iter()
            .map(|name| {
                Kind::named(name).expect("FAST_INGEST_BENCH_STORES: postgres, sqlite or both")
            })
            .collect();
        Self {
            events,
            kinds,
            keep: std::env::var_os("FAST_INGEST_BENCH_KEEP").map(PathBuf::from),
        }
    }
}

/// Where the databases of one kind are.
struct Home {
    place: Place,
    /// What the traffic takes for now, in microseconds. Kept with the databases, so that loading can go on where it was interrupted.
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
        let throw_away = keep.is_none().then(|| {
            // Not in /tmp, which may be memory.
            tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))
                .expect("a directory on the disk under test")
        });
        let directory = match (&throw_away, keep) {
            (Some(directory), _) => directory.path(),
            (None, Some(directory)) => directory,
            (None, None) => unreachable!("one of them is there"),
        };
        std::fs::create_dir_all(directory).expect("FAST_INGEST_BENCH_KEEP: a directory");
        let directory = directory.canonicalize().expect("made above");
        let place = match (kind, keep) {
            (Kind::Postgres, None) => Place::Postgres(Server::throw_away()),
            (Kind::Postgres, Some(_)) => {
                Place::Postgres(Server::kept_in(&directory.join("postgres")))
            }
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
            Place::Sqlite(directory) => {
                Database::sqlite(directory.join(format!("{name}.db"))).await
            }
        }
    }

    /// The same, certainly empty.
    async fn fresh_database(&self, name: &str) -> Database {
        match &self.place {
            Place::Postgres(server) => server.drop_database(name).await,
            Place::Sqlite(directory) => {
                for end in ["db", "db-wal", "db-shm"] {
                    // Mostly it is not there.
                    std::fs::remove_file(directory.join(format!("{name}.{end}"))).ok();
                }
            }
        }
        self.database(name).await
    }
}

/// Reads the instant from a file, or takes the present one and writes it there.
fn kept_now(path: &Path) -> i64 {
    if let Ok(text) = std::fs::read_to_string(path) {
        return text.trim().parse().expect("the file holds microseconds");
    }
    let now = traffic::now();
    std::fs::write(path, now.to_string()).expect("the directory can be written to");
    now
}
