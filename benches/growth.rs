//! The load test of growth: what storing an event costs when the database holds a million, ten million and fifty million already.
//!
//! One PostgreSQL is filled through the server. At each size, a million further events are stored three times, and the middle one counts;
//! during that, autovacuum leaves the events alone. It comes by whenever a table has grown by a fifth, so its cost an event does not
//! grow, but a short measure meets it or not by chance. What filling cost is told with autovacuum as it comes.
//!
//! A full run takes about 6 GB: 5 GB of events and 1 GB of the database's own log, where `TMPDIR` points.

use crate::end_to_end::Loaded;
use crate::support::database::{Postgres, settle};
use crate::support::series::Series;
use crate::support::servers::{Data, Server};
use crate::support::table::{Row, Table, Target};
use crate::support::{median, process, sizes};

/// Rows stored at which to measure.
const SIZES: [f64; 3] = [1e6, 1e7, 5e7];
const SIZES_VARIABLE: &str = "FAST_INGEST_BENCH_GROWTH";
/// Events of one measure.
const WINDOW_EVENTS: u64 = 1_000_000;
const WINDOWS: usize = 3;
/// The server is sent no more than this ahead of the database, so that the log stays small.
const CHUNK_EVENTS: u64 = 5_000_000;
const SET_AUTOVACUUM: &str = "SELECT format('ALTER TABLE %s SET (autovacuum_enabled = STATE)', relid) FROM pg_partition_tree('events') WHERE isleaf";

/// Measures all sizes. Returns CPU against rows.
pub(crate) fn run(table: &mut Table) -> Vec<Series> {
    let postgres = Postgres::start();
    let url = postgres.fresh_database();
    let loaded = Loaded::new(Server::ours(Data::fresh(), Some(&url), &[]));
    let mut growing = Growing {
        postgres,
        url,
        loaded,
    };
    let mut points = Vec::new();
    for size in sizes(SIZES_VARIABLE, &SIZES) {
        let filling = growing.fill(size as u64);
        let window = growing.measure();
        let mut add = |what: &str, unit, ours| {
            table.add(Row {
                layer: "growth".to_owned(),
                what: format!("{} rows: {what}", readable(size)),
                unit,
                ours,
                limit: None,
                target: Target::None,
            });
        };
        add("events stored a second", "/s", window.rate);
        add(
            "CPU a stored event, server and database",
            "µs",
            window.cpu_micros,
        );
        if let Some(filling) = filling {
            add("CPU a stored event while filling", "µs", filling.cpu_micros);
        }
        points.push((size, window.cpu_micros));
    }
    let (postgres, loaded) = (&growing.postgres, &growing.loaded);
    assert_eq!(
        postgres.count_events(&growing.url),
        loaded.acknowledged,
        "as many rows as were acknowledged"
    );
    if let [(_, fewest), .., (_, most)] = points[..] {
        table.add(Row {
            layer: "growth".to_owned(),
            what: "CPU a stored event at the most rows, over that at the fewest".to_owned(),
            unit: "µs",
            ours: most,
            limit: Some(fewest),
            target: Target::RatioAtMost(1.1),
        });
    }
    vec![Series {
        name: "CPU of server and database a stored event (µs), by rows stored".to_owned(),
        points,
    }]
}

/// A database that grows.
struct Growing {
    postgres: Postgres,
    url: String,
    loaded: Loaded,
}

/// What storing cost.
struct Cost {
    rate: f64,
    cpu_micros: f64,
}

impl Growing {
    /// Stores events until there are so many rows; tells the cost if there was anything to store.
    fn fill(&mut self, rows: u64) -> Option<Cost> {
        let missing = rows.saturating_sub(self.loaded.acknowledged);
        (missing > 0).then(|| self.store(missing))
    }

    fn measure(&mut self) -> Cost {
        let set = |state| SET_AUTOVACUUM.replace("STATE", state);
        self.postgres.execute_each(&self.url, &set("off"));
        let windows: Vec<_> = (0..WINDOWS).map(|_| self.store(WINDOW_EVENTS)).collect();
        self.postgres.execute_each(&self.url, &set("on"));
        let middle = |value: fn(&Cost) -> f64| median(windows.iter().map(value).collect());
        Cost {
            rate: middle(|cost| cost.rate),
            cpu_micros: middle(|cost| cost.cpu_micros),
        }
    }

    fn store(&mut self, events: u64) -> Cost {
        let pid = self.loaded.server.pid();
        let cpu = |postgres: &Postgres| process::cpu(pid) + postgres.cpu();
        let before = cpu(&self.postgres);
        let (mut seconds, mut left) = (0.0, events);
        while left > 0 {
            let chunk = left.min(CHUNK_EVENTS);
            seconds += self.loaded.store(chunk).as_secs_f64();
            left -= chunk;
        }
        settle(|| cpu(&self.postgres));
        let cpu = cpu(&self.postgres) - before;
        Cost {
            rate: events as f64 / seconds,
            cpu_micros: cpu.as_secs_f64() * 1e6 / events as f64,
        }
    }
}

fn readable(rows: f64) -> String {
    format!("{} million", rows / 1e6)
}
