//! Sessions that end by themselves: closed by PostgreSQL or a pooler because they are idle, or ended by an
//! administrator, also in the middle of a read. Under light load, beside a dashboard all of whose questions must be
//! answered 200.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::ledger::Load;
use crate::support::pooler::Pooler;
use crate::support::postgres::Cluster;
use crate::support::process::client::Connection;
use crate::support::process::stored::Database;
use crate::support::process::{LOOK_AGAIN, Server};
use crate::support::random::Random;
use crate::torture::plans::legs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Faults before an audit; the next leg begins with an empty database and the other way to reach it.
const FAULTS_A_LEG: u32 = 6;
/// PostgreSQL closes a session after this idle time. No step of the server takes nearly as long.
const CLOSE_IDLE: &str =
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = ''300ms''', current_database()); END $$";
/// Appended to the URL for sessions that inspect the database, which must not be closed.
const NEVER_IDLE: &str = "?options=-c%20idle_session_timeout%3D0";
/// Pause between two questions of the dashboard: long enough for its session to be closed, or not.
const SLOWLY: Duration = Duration::from_millis(600);
const QUICKLY: Duration = Duration::from_millis(5);
/// Most requests between two faults, and questions that must be answered.
const REQUESTS_MAX: u64 = 5;
const READS_BETWEEN: u64 = 2;
const QUESTION: &str = "/metrics?event_name=*&from=2020-01-01T00:00:00Z&to=2030-01-01T00:00:00Z&group_by=channel";
/// The server's sessions, as PostgreSQL sees them.
const SESSIONS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fast-ingest'";

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    for (number, faults) in legs(cycles, FAULTS_A_LEG).enumerate() {
        let way = Database::migrated(Cluster::shared());
        way.execute(CLOSE_IDLE);
        let Database::Postgres(url) = &way else {
            unreachable!("the database is PostgreSQL")
        };
        let database = Database::Postgres(format!("{url}{NEVER_IDLE}"));
        // By turns, where there is a pooler. It passes on what happens to its sessions with the server.
        let pooler = (number % 2 == 1).then(|| Pooler::before(&way, "session"));
        match pooler.flatten() {
            Some(pooler) => {
                let closed = "closed idle behind a pooler";
                leg(faults, pooler.database(), closed, &database, random, report);
            }
            None => leg(faults, &way, "closed idle", &database, random, report),
        }
    }
}

/// `way` is the URL by which the server reaches the database, whose idle sessions are closed.
fn leg(
    faults: Range<u32>,
    way: &Database,
    closed: &'static str,
    database: &Database,
    random: &mut Random,
    report: &mut Report,
) {
    let dir = tempfile::tempdir().unwrap();
    let launch = Rig::busy(dir.path(), way).with("--rollup-interval", "700ms");
    let server = launch.start();
    // Without clients: the plan sends every request itself, so that sessions have time to be idle.
    let load = Load::start(server.address(), 0);
    let rig = Rig::around(dir.path(), database, launch, server, load);
    let dashboard = Dashboard::open(rig.server());
    for fault in faults {
        dashboard.set_pace(if random.chance(50) { SLOWLY } else { QUICKLY });
        // Requests on their way to the database when the fault comes.
        for _ in 0..random.below(REQUESTS_MAX) {
            rig.load().probe("").unwrap();
        }
        report.fired(match fault % 3 {
            0 => {
                dashboard.set_pace(SLOWLY);
                wait_until_closed(database);
                closed
            }
            1 => {
                end_all(database);
                "sessions ended"
            }
            _ => {
                end_a_read(database);
                "read ended"
            }
        });
        rig.load().probe("?wait=applied").unwrap();
        dashboard.wait_for_answers(READS_BETWEEN);
    }
    report.add_amount("reads answered", dashboard.close());
    rig.finish(report).assert_all_acknowledged();
}

/// Waits until each present session has been closed because it was idle. New ones may have come.
fn wait_until_closed(database: &Database) {
    let list = format!("SELECT pid || ' ' || backend_start {SESSIONS}");
    let before = database.rows(&list);
    database.wait_for("closed", |database| {
        let now = database.rows(&list);
        !now.iter().any(|session| before.contains(session))
    });
}

/// Ends all sessions, and at least one.
fn end_all(database: &Database) {
    let end = format!("SELECT pg_terminate_backend(pid) {SESSIONS}");
    database.wait_for("ended", |database| !database.rows(&end).is_empty());
}

/// Makes a read wait for a lock, and ends its session.
fn end_a_read(database: &Database) {
    let held = database.hold("LOCK TABLE rollup_overflow IN ACCESS EXCLUSIVE MODE");
    let end = format!(
        "SELECT pg_terminate_backend(pid) {SESSIONS} AND wait_event_type = 'Lock' AND query LIKE 'SELECT day, NULL AS user_key FROM rollup_overflow%'"
    );
    database.wait_for("ended", |database| !database.rows(&end).is_empty());
    drop(held);
}

/// Asks the same question again and again.
struct Dashboard {
    shared: Arc<Shared>,
    asking: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    is_closed: AtomicBool,
    pace_ms: AtomicU64,
    answers: AtomicU64,
}

impl Dashboard {
    fn open(server: &Server) -> Self {
        let shared = Arc::new(Shared::default());
        let asking = thread::spawn({
            let (shared, address) = (Arc::clone(&shared), server.address());
            move || {
                while !shared.is_closed.load(Ordering::Relaxed) {
                    let mut connection = Connection::open(address).unwrap();
                    let answer = connection.request("GET", QUESTION, b"").unwrap();
                    assert_eq!(answer.status, 200, "a read failed: {answer:?}");
                    shared.answers.fetch_add(1, Ordering::Relaxed);
                    let pace = shared.pace_ms.load(Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(pace));
                }
            }
        });
        Self { shared, asking }
    }

    fn set_pace(&self, pace: Duration) {
        let pace = u64::try_from(pace.as_millis()).unwrap();
        self.shared.pace_ms.store(pace, Ordering::Relaxed);
    }

    fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    fn wait_for_answers(&self, more: u64) {
        let wanted = self.answers() + more;
        while self.answers() < wanted {
            assert!(!self.asking.is_finished(), "a read failed, for the reason above");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Number of answers, all of which were 200.
    fn close(self) -> u64 {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        let Self { shared, asking } = self;
        asking.join().expect("every read is answered 200");
        shared.answers.load(Ordering::Relaxed)
    }
}
