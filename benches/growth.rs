//! The load test of growth: what storing an event costs when the database already holds a million, ten million and
//! fifty million.
//!
//! One PostgreSQL is filled through the server. At each size, a million further events are stored several times, and
//! the median counts; meanwhile autovacuum is off for the events. Autovacuum runs whenever a table has grown by a
//! fifth, so its cost per event does not grow, but a short measurement meets it only by chance. The cost of filling is
//! reported with autovacuum on.
//!
//! CPU time is not constant: it rises when neighbours use the same caches. So the largest size is compared with a
//! second server on a database of the smallest size, which takes turns with it, and not with what was measured minutes
//! before.
//!
//! A full run takes about 6 GB: 5 GB of events and 1 GB of the database's own log, where `TMPDIR` points.

use std::time::Duration;

use crate::end_to_end::Loaded;
use crate::support::database::{Postgres, settle};
use crate::support::series::{Chart, Series};
use crate::support::servers::{Data, Server};
use crate::support::table::{Row, Table, Target};
use crate::support::{median, process, sizes};

/// Rows stored at which to measure.
const SIZES: [f64; 3] = [1e6, 1e7, 5e7];
const SIZES_VARIABLE: &str = "FAST_INGEST_BENCH_GROWTH";
/// Events of one measure.
const WINDOW_EVENTS: u64 = 1_000_000;
const WINDOWS: usize = 5;
/// The server gets at most this many events ahead of the database, so that the log stays small.
const CHUNK_EVENTS: u64 = 5_000_000;
const SET_AUTOVACUUM: &str = "SELECT format('ALTER TABLE %s SET (autovacuum_enabled = STATE)', relid) FROM pg_partition_tree('events') WHERE isleaf";

/// Measures all sizes. Returns CPU against rows.
pub(crate) fn run(table: &mut Table) -> Vec<Series> {
    let postgres = Postgres::start();
    let mut growing = Growing::start(&postgres);
    let sizes = sizes(SIZES_VARIABLE, &SIZES);
    let fewest = sizes.first().copied().unwrap_or_default();
    let mut points = Vec::new();
    for (index, &size) in sizes.iter().enumerate() {
        let filling = growing.fill(size as u64);
        let is_last = index + 1 == sizes.len();
        let mut small = is_last.then(|| Growing::start(&postgres));
        if let Some(small) = &mut small {
            small.fill(fewest as u64);
        }
        let (window, small_window) = measure(&mut growing, small.as_mut());
        let mut add = |what: &str, unit, ours| {
            table.add(Row {
                layer: "growth".to_owned(),
                what: format!("{} million rows: {what}", size / 1e6),
                unit,
                ours,
                limit: None,
                target: Target::None,
            });
        };
        add("events stored a second", "/s", window.rate);
        add("CPU a stored event, server", "µs", window.server_micros);
        add("CPU a stored event, database", "µs", window.database_micros);
        add("CPU a stored event, both", "µs", window.micros());
        if let Some(filling) = filling {
            add("CPU a stored event while filling, both", "µs", filling.micros());
        }
        points.push((size, window.micros()));
        if let Some(small_window) = small_window {
            table.add(Row {
                layer: "growth".to_owned(),
                what: "CPU a stored event at the most rows, over that at the fewest".to_owned(),
                unit: "µs",
                ours: window.micros(),
                limit: Some(small_window.micros()),
                target: Target::RatioAtMost(1.1),
            });
        }
    }
    assert_eq!(
        postgres.count_events(&growing.url),
        growing.loaded.acknowledged,
        "as many rows as were acknowledged"
    );
    vec![Series {
        chart: Chart::Growth,
        name: "server and database",
        points,
    }]
}

/// A database that grows.
struct Growing<'p> {
    postgres: &'p Postgres,
    url: String,
    loaded: Loaded,
}

/// What storing cost.
struct Cost {
    rate: f64,
    server_micros: f64,
    database_micros: f64,
}

impl Cost {
    /// CPU for an event, in microseconds.
    fn micros(&self) -> f64 {
        self.server_micros + self.database_micros
    }

    fn median(costs: &[Self]) -> Self {
        let middle = |value: fn(&Self) -> f64| median(costs.iter().map(value).collect());
        Self {
            rate: middle(|cost| cost.rate),
            server_micros: middle(|cost| cost.server_micros),
            database_micros: middle(|cost| cost.database_micros),
        }
    }
}

/// Measures one database or two in turns.
fn measure(one: &mut Growing<'_>, mut other: Option<&mut Growing<'_>>) -> (Cost, Option<Cost>) {
    let set_autovacuum = |state, one: &Growing<'_>, other: Option<&Growing<'_>>| {
        one.set_autovacuum(state);
        if let Some(other) = other {
            other.set_autovacuum(state);
        }
    };
    set_autovacuum("off", one, other.as_deref());
    let (mut costs, mut other_costs) = (Vec::new(), Vec::new());
    for _ in 0..WINDOWS {
        costs.push(one.store(WINDOW_EVENTS));
        other_costs.extend(other.as_mut().map(|other| other.store(WINDOW_EVENTS)));
    }
    set_autovacuum("on", one, other.as_deref());
    (Cost::median(&costs), other.map(|_| Cost::median(&other_costs)))
}

impl<'p> Growing<'p> {
    /// An empty database.
    fn start(postgres: &'p Postgres) -> Self {
        let url = postgres.fresh_database();
        let loaded = Loaded::new(Server::ours(Data::fresh(), Some(&url), &[]));
        Self { postgres, url, loaded }
    }

    /// Stores events until the database has this many rows; returns the cost if there was anything to store.
    fn fill(&mut self, rows: u64) -> Option<Cost> {
        let missing = rows.saturating_sub(self.loaded.acknowledged);
        (missing > 0).then(|| self.store(missing))
    }

    fn set_autovacuum(&self, state: &str) {
        let statements = SET_AUTOVACUUM.replace("STATE", state);
        self.postgres.execute_each(&self.url, &statements);
    }

    fn store(&mut self, events: u64) -> Cost {
        let pid = self.loaded.server.pid();
        let (server, database) = (process::cpu(pid), self.postgres.cpu());
        let (mut seconds, mut left) = (0.0, events);
        while left > 0 {
            let chunk = left.min(CHUNK_EVENTS);
            seconds += self.loaded.store(chunk).as_secs_f64();
            left -= chunk;
        }
        settle(|| process::cpu(pid) + self.postgres.cpu());
        let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / events as f64;
        Cost {
            rate: events as f64 / seconds,
            server_micros: micros(process::cpu(pid) - server),
            database_micros: micros(self.postgres.cpu() - database),
        }
    }
}
