//! Faults of PostgreSQL itself: it stops, crashes, loses sessions, turns read-only, fills up, loses a column, holds a
//! lock, freezes. Clients must notice none of this: every answer is a 202.

use std::ops::Range;
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::postgres::{Cluster, StopMode};
use crate::support::process::stored::Database;
use crate::support::process::{LOOK_AGAIN, PATIENCE};
use crate::support::random::Random;
use crate::torture::plans::legs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Faults before an audit; the next leg begins with an empty database.
const FAULTS_A_LEG: u32 = 24;
/// Requests that must be acknowledged while the database is broken, and between two faults.
const ACKS_MEANWHILE: u64 = 20;
/// Every session of this database except the asking one.
const OTHERS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// A fault of the database.
#[derive(Debug, Clone, Copy)]
enum Fault {
    FastStop,
    ImmediateStop,
    /// An administrator ends its sessions.
    EndSessions,
    /// One of its server processes is killed, upon which PostgreSQL ends all others and recovers.
    KillBackend,
    ReadOnly,
    /// SQLSTATE 53100, raised by a trigger, so that it needs no root.
    Full,
    /// A column is renamed.
    SchemaDrift,
    /// Another transaction locks the checkpoint's row.
    Locked,
    /// Its server processes are stopped by SIGSTOP; the transaction of one may commit when they continue.
    Frozen,
}

const FAULTS: [(Fault, &str); 9] = [
    (Fault::FastStop, "stopped"),
    (Fault::ImmediateStop, "crashed"),
    (Fault::EndSessions, "sessions ended"),
    (Fault::KillBackend, "backend killed"),
    (Fault::ReadOnly, "read-only"),
    (Fault::Full, "full"),
    (Fault::SchemaDrift, "column renamed"),
    (Fault::Locked, "checkpoint locked"),
    (Fault::Frozen, "frozen"),
];

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    let mut rounds = Rounds::default();
    for faults in legs(cycles, FAULTS_A_LEG) {
        leg(faults, &mut rounds, random, report);
    }
}

/// Every fault once in each round, in an order of its own.
#[derive(Default)]
struct Rounds {
    left: Vec<(Fault, &'static str)>,
}

impl Rounds {
    fn next(&mut self, random: &mut Random) -> (Fault, &'static str) {
        if self.left.is_empty() {
            self.left = FAULTS.to_vec();
        }
        let index = random.below(self.left.len() as u64);
        self.left.swap_remove(usize::try_from(index).unwrap())
    }
}

fn leg(faults: Range<u32>, rounds: &mut Rounds, random: &mut Random, report: &mut Report) {
    let cluster = Cluster::start();
    let database = Database::migrated(&cluster);
    let dir = tempfile::tempdir().unwrap();
    let launch = Rig::patient(dir.path(), &database);
    let rig = Rig::start_paced(dir.path(), &database, launch);
    for _ in faults {
        rig.load().wait_for_acks(1 + random.below(ACKS_MEANWHILE));
        let (fault, name) = rounds.next(random);
        break_and_mend(fault, &cluster, &database, &rig);
        report.fired(name);
        rig.wait_until_well();
    }
    let ledger = rig.finish(report);
    ledger.assert_all_acknowledged();
}

/// Breaks the database, waits until the server has noticed while clients are served, and repairs it.
fn break_and_mend(fault: Fault, cluster: &Cluster, database: &Database, rig: &Rig) {
    match fault {
        Fault::FastStop | Fault::ImmediateStop => {
            cluster.stop(match fault {
                Fault::FastStop => StopMode::Fast,
                _ => StopMode::Immediate,
            });
            wait_until_noticed(rig, "retrying");
            cluster.start_again();
        }
        Fault::EndSessions => {
            let ended = database.rows(&format!("SELECT pg_terminate_backend(pid) {OTHERS}"));
            assert!(ended.contains(&"t".to_owned()), "{ended:?}");
            rig.load().wait_for_acks(ACKS_MEANWHILE);
        }
        Fault::KillBackend => {
            let killed = sessions(database);
            for pid in &killed {
                signal(pid, Signal::KILL);
            }
            rig.load().wait_for_acks(ACKS_MEANWHILE);
            wait_until_recovered(database, &killed);
        }
        Fault::ReadOnly => {
            let end = format!("SELECT pg_terminate_backend(pid) {OTHERS}");
            database.execute(&format!("{}; {end}", on_all("SET default_transaction_read_only = on")));
            wait_until_noticed(rig, "retrying");
            database.execute(&format!(
                "SET TRANSACTION READ WRITE; {}; {end}",
                on_all("RESET default_transaction_read_only")
            ));
        }
        Fault::Full => {
            database.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE 'no space' USING ERRCODE = '53100'; END $$;
                 CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
            );
            wait_until_noticed(rig, "retrying");
            database.execute("DROP TRIGGER refuse ON events; DROP FUNCTION refuse()");
        }
        Fault::SchemaDrift => {
            database.execute("ALTER TABLE events RENAME COLUMN user_id TO customer_id");
            wait_until_noticed(rig, "stopped");
            database.execute("ALTER TABLE events RENAME COLUMN customer_id TO user_id");
        }
        Fault::Locked => {
            let held = database.hold("SELECT * FROM wal_checkpoints FOR UPDATE");
            wait_until_noticed(rig, "retrying");
            drop(held);
        }
        Fault::Frozen => {
            let frozen = sessions(database);
            for pid in &frozen {
                signal(pid, Signal::STOP);
            }
            wait_until_noticed(rig, "retrying");
            for pid in &frozen {
                signal(pid, Signal::CONT);
            }
        }
    }
}

/// The statement for a setting of the database, which applies to new sessions.
fn on_all(verb: &str) -> String {
    format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {verb}', current_database()); END $$")
}

fn wait_until_noticed(rig: &Rig, state: &str) {
    rig.server()
        .wait_for_health(state, |health| health["flush"]["state"] == state);
    rig.load().wait_for_acks(ACKS_MEANWHILE);
    let health = rig.server().request("GET", "/health", "");
    assert_eq!(health.status, 200, "it can accept events: {health:?}");
}

/// Processes that serve other sessions than the asking one; there is at least one.
fn sessions(database: &Database) -> Vec<String> {
    let mut pids = Vec::new();
    // Between two connections of the server there may be none.
    database.wait_for("connected", |database| {
        !database.rows(&format!("SELECT pid {OTHERS}")).is_empty()
    });
    pids.extend(database.rows(&format!("SELECT pid {OTHERS}")));
    pids
}

/// Waits until PostgreSQL has noticed that it lost these processes, and serves again.
fn wait_until_recovered(database: &Database, killed: &[String]) {
    let pids = killed.join(",");
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid IN ({pids})");
    let deadline = Instant::now() + PATIENCE;
    while database.try_rows(&left).as_deref() != Some(&["0".to_owned()]) {
        assert!(Instant::now() < deadline, "PostgreSQL does not recover");
        thread::sleep(LOOK_AGAIN);
    }
}

/// Sends a signal to a server process of PostgreSQL.
pub(super) fn signal(pid: &str, signal: Signal) {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    // The process may have ended since it was listed.
    kill_process(pid, signal).ok();
}
