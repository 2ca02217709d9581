//! A server under load for the plans, and the audits at the end.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ledger::{Ledger, Load};
use crate::support::process::stored::Database;
use crate::support::process::{LOOK_AGAIN, Launch, Server, run};
use crate::torture::report::{Footprint, Report};

const CLIENTS: u32 = 4;
/// Rest of a paced client between an answer and its next request.
const PACE: Duration = Duration::from_millis(10);
/// Requests that must be acknowledged before the first fault and after the last one.
const ACKS_AROUND: u64 = 30;
/// Within this time, a recovered server must accept and store a fresh event.
const LIVENESS: Duration = Duration::from_secs(60);
/// Bounds for a server with few clients and small settings: far above normal use, far below that of a leak.
const FOOTPRINT_MAX: Footprint = Footprint {
    rss_kib: 192 * 1024,
    threads: 64,
    files: 256,
};

/// A server with its clients and its database.
pub(crate) struct Rig {
    data_dir: PathBuf,
    /// Reached directly, not through what the plan breaks.
    database: Database,
    launch: Launch,
    server: Option<Server>,
    load: Load,
    dark: Vec<Range<Instant>>,
}

impl Rig {
    /// Starts a server with these settings under load, and waits until both work. `database` is the direct way to the
    /// database, which may differ from the server's.
    pub(crate) fn start(data_dir: &Path, database: &Database, launch: Launch) -> Self {
        let server = launch.start();
        let load = Load::start(server.address(), CLIENTS);
        load.wait_for_acks(ACKS_AROUND);
        Self::around(data_dir, database, launch, server, load)
    }

    /// Starts a server under less load: events that gather while the database is down must not take minutes to store.
    pub(crate) fn start_paced(data_dir: &Path, database: &Database, launch: Launch) -> Self {
        let server = launch.start();
        let load = Load::start_paced(server.address(), CLIENTS, PACE);
        load.wait_for_acks(ACKS_AROUND);
        Self::around(data_dir, database, launch, server, load)
    }

    /// Starts a server under light load, for faults that take long compared with their subject.
    pub(crate) fn start_lightly(data_dir: &Path, database: &Database, launch: Launch) -> Self {
        let server = launch.start();
        let load = Load::start_paced(server.address(), CLIENTS / 2, PACE * 2);
        load.wait_for_acks(ACKS_AROUND);
        Self::around(data_dir, database, launch, server, load)
    }

    /// A rig of a server and clients that the plan has started itself.
    pub(crate) fn around(data_dir: &Path, database: &Database, launch: Launch, server: Server, load: Load) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            database: database.clone(),
            launch,
            server: Some(server),
            load,
            dark: Vec::new(),
        }
    }

    /// Small segments and batches: faults meet rotations, removals and many transactions. Flushed segments are not
    /// kept.
    pub(crate) fn busy(data_dir: &Path, database: &Database) -> Launch {
        Self::keeping(data_dir, database).with("--wal-keep", "0")
    }

    /// Small segments and batches; all flushed segments are kept.
    pub(crate) fn keeping(data_dir: &Path, database: &Database) -> Launch {
        Launch::new(data_dir, database)
            .with("--wal-segment-bytes", "64KiB")
            .with("--flush-rows-max", "200")
            .with("--flush-interval", "5ms")
    }

    /// Segments for a handful of requests, so that few system calls lead through a whole rotation. PostgreSQL only: in
    /// the trace, calls of an embedded database would look like the log's. Flushed segments are not kept, so that
    /// segments are removed.
    pub(crate) fn tiny(data_dir: &Path, database: &Database) -> Launch {
        Launch::new(data_dir, database)
            .with("--body-bytes-max", "16KiB")
            .with("--event-bytes-max", "16KiB")
            .with("--wal-segment-bytes", "16KiB")
            .with("--wal-keep", "0")
            .with("--flush-rows-max", "100")
            .with("--flush-interval", "5ms")
    }

    /// For long outages: the flush gives up soon, and stores large batches afterwards.
    pub(crate) fn patient(data_dir: &Path, database: &Database) -> Launch {
        Launch::new(data_dir, database)
            .with("--wal-segment-bytes", "256KiB")
            .with("--flush-rows-max", "1000")
            .with("--flush-interval", "5ms")
            .with("--flush-timeout", "1s")
    }

    pub(crate) fn is_running(&self) -> bool {
        self.server.is_some()
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    pub(crate) fn launch(&self) -> &Launch {
        &self.launch
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The database, reached directly.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// The running server; the plan ends it in its own way.
    pub(crate) fn take_server(&mut self, report: &mut Report) -> Server {
        let server = self.server.take().expect("it runs");
        report.note_footprint(footprint(server.pid()));
        server
    }

    /// Waits until the server has recovered from a fault of its database.
    #[track_caller]
    pub(crate) fn wait_until_well(&self) {
        self.server().wait_for_health("well again", |health| {
            health["status"] == "ok" && health["flush"]["state"] == "running"
        });
    }

    /// Declares that no answer can have been sent in this time: the outcome of any request answered in it is unknown.
    pub(crate) fn note_dark(&mut self, time: Range<Instant>) {
        self.dark.push(time);
    }

    /// Starts a server again and sends the clients there.
    pub(crate) fn restart(&mut self) {
        self.go_on_with(self.launch.start());
    }

    /// Sends the clients to a server that the plan has started itself.
    pub(crate) fn go_on_with(&mut self, server: Server) {
        self.load.go_on_at(server.address());
        self.server = Some(server);
    }

    /// Ends the load, and the server once all is stored, while other rigs go on. Returns the ledger.
    #[track_caller]
    pub(crate) fn retire(mut self, report: &mut Report) -> Ledger {
        let server = self.take_server(report);
        let ledger = self.load.finish();
        server.wait_until_flushed();
        server.stop();
        ledger
    }

    /// Ends the load and the server, whose log is refused. Returns the ledger.
    #[track_caller]
    pub(crate) fn give_up(mut self, report: &mut Report) -> Ledger {
        let server = self.take_server(report);
        let ledger = self.load.finish();
        server.stop();
        ledger
    }

    /// Asserts that `fast-ingest wal inspect` finds nothing wrong with the log of a stopped server.
    #[track_caller]
    pub(crate) fn assert_log_is_sound(&self) {
        let data_dir = self.data_dir.to_str().expect("a plain path");
        match &self.database {
            Database::Postgres(url) => assert_log_is_sound(data_dir, &["--database-url", url]),
            Database::Sqlite(_) => assert_log_is_sound(data_dir, &[]),
        }
    }

    /// Asserts that the server accepts and stores events again, ends the load, stops the server, and compares the
    /// database with every answer. Returns the ledger.
    #[track_caller]
    pub(crate) fn finish(self, report: &mut Report) -> Ledger {
        let (ledger, database) = self.finish_unchecked(report);
        let stored = database.events();
        report.add(ledger.audit(&stored));
        let quarantined = database.rows("SELECT count(*) FROM quarantine");
        assert_eq!(quarantined, ["0"], "events were set aside");
        // Sequences have no gaps, so the checkpoint counts the events of the database's only log.
        let checkpoints = database.rows("SELECT flushed_through FROM wal_checkpoints");
        assert_eq!(
            checkpoints,
            [stored.len().to_string()],
            "the checkpoint and the rows disagree"
        );
        ledger
    }

    /// Ends like [`Self::finish`] without looking at the rows: for plans that expect several logs, or quarantined
    /// events.
    #[track_caller]
    pub(crate) fn finish_unchecked(mut self, report: &mut Report) -> (Ledger, Database) {
        if self.load.has_clients() {
            self.load.wait_for_acks(ACKS_AROUND);
        }
        self.assert_is_alive();
        let server = self.take_server(report);
        let mut ledger = self.load.finish();
        for time in &self.dark {
            ledger.forget_answers_in(time);
        }
        server.wait_until_flushed();
        assert_counts_are_right(&server, &self.database);
        let health = server.health();
        assert_eq!(health["status"], "ok", "{health}");
        assert_all_is_accounted_for(&health, &self.database);
        server.stop();
        let data_dir = self.data_dir.to_str().expect("a plain path");
        assert_log_is_sound(data_dir, &[]);
        self.database.assert_rollups_are_right();
        (ledger, self.database)
    }

    /// Asserts that a fresh event is accepted and soon seen in the database.
    #[track_caller]
    fn assert_is_alive(&self) {
        let deadline = Instant::now() + LIVENESS;
        loop {
            let answer = self.load.probe("?wait=applied");
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return;
            }
            assert!(Instant::now() < deadline, "no event is stored: {answer:?}");
            thread::sleep(LOOK_AGAIN);
        }
    }
}

#[track_caller]
fn assert_log_is_sound(data_dir: &str, flags: &[&str]) {
    let inspect = ["wal", "inspect", "--data-dir", data_dir];
    let inspected = run(&[&inspect, flags].concat());
    assert_eq!(inspected.code(), 0, "{inspected:?}");
}

/// Asserts that every accepted event is a row, a duplicate, in quarantine, or waits. With one log in the database its
/// rows must agree, unless a person has decided: then events counted as skipped may be rows as well.
#[track_caller]
fn assert_all_is_accounted_for(health: &serde_json::Value, database: &Database) {
    let events = &health["events"];
    let count = |name: &str| {
        let count = events[name].as_u64();
        count.unwrap_or_else(|| panic!("no {name} in {health}"))
    };
    let known = ["applied", "duplicates", "quarantined", "skipped", "pending"];
    let known: u64 = known.into_iter().map(count).sum();
    assert_eq!(count("accepted"), known, "{health}");
    assert_eq!(events["unaccounted"], 0, "{health}");
    let logs_and_gaps = database.rows("SELECT (SELECT count(*) FROM wal_checkpoints), (SELECT count(*) FROM wal_gaps)");
    if logs_and_gaps == ["1|0"] {
        let rows = database.rows("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quarantine)");
        let told = format!("{}|{}", count("applied"), count("quarantined"));
        assert_eq!(rows, [told], "{health}");
    }
}

/// Asserts that metrics agree with the stored events.
#[track_caller]
fn assert_counts_are_right(server: &Server, database: &Database) {
    let query = "/metrics?event_name=*&from=1970-01-01T00:00:00Z&to=2027-01-01T00:00:00Z";
    let answer = server.request("GET", query, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let stored = database.rows("SELECT count(*) FROM events");
    assert_eq!([answer.json()["total_events"].to_string()], stored[..]);
}

/// Reads the resources that a process uses; panics if they exceed the bounds.
#[track_caller]
pub(crate) fn footprint(pid: u32) -> Footprint {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.map_or(0, |number| number.parse().unwrap())
    };
    let footprint = Footprint {
        rss_kib: field("VmHWM:"),
        threads: field("Threads:"),
        files: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64),
    };
    let is_bounded = footprint.rss_kib <= FOOTPRINT_MAX.rss_kib
        && footprint.threads <= FOOTPRINT_MAX.threads
        && footprint.files <= FOOTPRINT_MAX.files;
    assert!(is_bounded, "{footprint:?} is beyond {FOOTPRINT_MAX:?}");
    footprint
}
