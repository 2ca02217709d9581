//! The rollup keeper is killed, cut off and left without a database, in the middle of its work: the rollups still agree
//! with the events, and `fast-ingest verify` says so.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::ErrorCode;

use crate::support::ledger::{Load, assert_stored_once, bulk_of};
use crate::support::postgres::{Cluster, StopMode};
use crate::support::process::stored::{Database, Held};
use crate::support::process::{Launch, Server};
use crate::support::random::Random;

const KILLS: u64 = 7;
/// Flags that keep the rollup keeper at work nearly all the time.
const RESTLESS: [(&str, &str); 3] = [
    ("--rollup-interval", "1ms"),
    ("--flush-interval", "5ms"),
    ("--flush-rows-max", "200"),
];

#[test]
fn rollups_agree_with_the_events_after_kill_9_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    survive_kills(dir.path(), &Database::embedded(dir.path()));
}

#[test]
fn rollups_agree_with_the_events_after_kill_9_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    survive_kills(dir.path(), &Database::migrated(Cluster::shared()));
}

fn launch(data_dir: &Path, database: &Database) -> Launch {
    let launch = Launch::new(data_dir, database);
    RESTLESS
        .iter()
        .fold(launch, |launch, (flag, value)| launch.with(flag, value))
}

fn survive_kills(data_dir: &Path, database: &Database) {
    let mut random = Random::from_environment();
    let launch = launch(data_dir, database);
    let server = launch.start();
    let load = Load::start(server.address(), 3);
    let mut server = Some(server);
    for kill in 0..KILLS {
        load.wait_for_acks(1 + random.below(40));
        post_fresh(server.as_ref().unwrap(), &format!("fresh-{kill}"));
        // No wait for a condition: it moves the kill away from the last answer.
        thread::sleep(Duration::from_micros(random.below(30_000)));
        server.take().unwrap().kill();
        if kill % 3 == 0 {
            database.assert_rollups_are_right();
        }
        let restarted = server.insert(launch.start());
        load.go_on_at(restarted.address());
        if kill % 4 == 0 {
            // Under load: flushes and compactions go on meanwhile.
            database.assert_rollups_are_right();
        }
    }
    let ledger = load.finish();
    let server = server.unwrap();
    server.wait_until_flushed();
    database.assert_rollups_are_right();
    database.wait_until_compacted();
    server.stop();
    database.assert_rollups_are_right();
    let mut stored = database.events();
    stored.retain(|event| event.event_name != FRESH);
    ledger.verify(&stored);
    let fresh = database.rows(&format!("SELECT count(*) FROM events WHERE event_name = '{FRESH}'"));
    assert_eq!(fresh, [(KILLS * FRESH_EVENTS).to_string()]);
}

const FRESH: &str = "fresh";
const FRESH_EVENTS: u64 = 40;

/// Posts events of the last four hours, some of which are kept by the minute.
fn post_fresh(server: &Server, prefix: &str) {
    let now = jiff::Timestamp::now().as_second();
    let bodies: Vec<_> = (0..FRESH_EVENTS)
        .map(|n| {
            let second = now - i64::try_from(n).unwrap() * 360;
            format!(r#"{{"event_name":"{FRESH}","channel":"web","user_id":"{prefix}-{n}","timestamp":{second}}}"#)
        })
        .collect();
    let body = format!("[{}]", bodies.join(","));
    assert_eq!(server.request("POST", "/events/bulk", &body).status, 202);
}

fn users(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

fn post(server: &Server, users: &[String]) {
    let answer = server.request("POST", "/events/bulk", &bulk_of(users));
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// Number of all events that the server answers.
fn told(server: &Server) -> u64 {
    let path = "/metrics?event_name=*&from=0&to=4000000000";
    let answer = server.request("GET", path, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let report = answer.json();
    assert_eq!(report["source"], "rollups");
    report["total_events"].as_u64().unwrap()
}

#[test]
fn a_server_killed_in_the_middle_of_a_compaction_leaves_it_undone_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    let launch = launch(dir.path(), &database);
    let server = launch.start();
    let mut sent = users("before", 100);
    post(&server, &sent);
    server.wait_until_flushed();
    database.wait_until_compacted();
    // From here on the first part that a compaction writes blocks for ever.
    database.execute(
        "CREATE VIEW forever AS
           WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT n FROM n;
         CREATE TRIGGER stuck BEFORE INSERT ON rollups BEGIN SELECT count(*) FROM forever; END",
    );
    let more = users("meanwhile", 100);
    post(&server, &more);
    sent.extend(more);
    server.wait_until_flushed();
    wait_for_a_lasting_writer(&dir.path().join("events.db"));
    assert_eq!(told(&server), sent.len() as u64);
    server.kill();
    let deltas = database.rows("SELECT count(*) > 0 FROM rollup_deltas");
    assert_eq!(deltas, ["1"], "what the compaction took is back");
    database.assert_rollups_are_right();

    database.execute("DROP TRIGGER stuck; DROP VIEW forever");
    goes_on(&launch.start(), &database, sent);
}

/// Waits until the lock is held this many looks in a row: only a compaction that is stuck holds it so long.
fn wait_for_a_lasting_writer(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    let mut busy = 0;
    while busy < 100 {
        match connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
            Ok(()) => busy = 0,
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => busy += 1,
            Err(error) => panic!("{error}"),
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// After a fault, a server has all events, and compacts and counts new ones.
fn goes_on(server: &Server, database: &Database, mut sent: Vec<String>) {
    let after = users("after", 100);
    post(server, &after);
    sent.extend(after);
    server.wait_until_flushed();
    database.wait_until_compacted();
    assert_eq!(told(server), sent.len() as u64);
    database.assert_rollups_are_right();
    assert_stored_once(&database.events(), &sent);
}

/// Sessions stuck in the middle of a compaction: they hold the rollup lock and wait for a table.
const STUCK: &str = "SELECT stuck.pid FROM pg_stat_activity stuck JOIN pg_locks held USING (pid)
     WHERE stuck.datname = current_database() AND stuck.wait_event_type = 'Lock'
       AND held.locktype = 'advisory' AND held.granted";

#[test]
fn a_server_killed_in_the_middle_of_a_compaction_leaves_it_undone_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::migrated(Cluster::shared());
    let launch = launch(dir.path(), &database);
    let server = launch.start();
    let (sent, held) = stuck_compaction(&server, &database);
    server.kill();
    database.assert_rollups_are_right();
    drop(held);
    goes_on(&launch.start(), &database, sent);
}

#[test]
fn a_rollup_session_that_is_terminated_in_the_middle_of_a_compaction_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::migrated(Cluster::shared());
    let server = launch(dir.path(), &database).start();
    let (sent, held) = stuck_compaction(&server, &database);
    let terminated = database.rows(&format!("SELECT pg_terminate_backend(pid) FROM ({STUCK}) stuck"));
    assert_eq!(terminated, ["t"]);
    server.wait_for_log("cannot keep the rollups, trying again");
    database.assert_rollups_are_right();
    assert_ne!(database.rows(DELTAS), ["0"], "nothing was compacted");
    drop(held);
    goes_on(&server, &database, sent);
    server.wait_for_log("rollups are kept again");
    server.stop();
    database.assert_rollups_are_right();
}

/// Lets a compaction take deltas and blocks it while the guard lives. Returns the users whose events were sent.
fn stuck_compaction(server: &Server, database: &Database) -> (Vec<String>, Held) {
    let mut sent = users("before", 100);
    post(server, &sent);
    server.wait_until_flushed();
    database.wait_until_compacted();
    // A compaction marks days last, and only if it has taken deltas.
    let held = database.hold("LOCK TABLE rollup_days IN SHARE MODE");
    let more = users("meanwhile", 100);
    post(server, &more);
    sent.extend(more);
    server.wait_until_flushed();
    database.wait_for("stuck", |database| !database.rows(STUCK).is_empty());
    assert_eq!(told(server), sent.len() as u64);
    assert_ne!(database.rows(DELTAS), ["0"], "nothing is compacted");
    (sent, held)
}

const DELTAS: &str = "SELECT count(*) FROM rollup_deltas";

#[test]
fn a_database_that_crashes_under_load_keeps_its_rollups_right() {
    let cluster = Cluster::start();
    let database = Database::migrated(&cluster);
    let dir = tempfile::tempdir().unwrap();
    let server = launch(dir.path(), &database).start();
    let load = Load::start(server.address(), 2);
    load.wait_for_acks(60);
    // The keeper has compacted.
    database.wait_for("compacted", |database| {
        database.rows("SELECT count(*) > 0 FROM rollups") == ["t"]
    });
    cluster.stop(StopMode::Immediate);
    load.wait_for_acks(20);
    server.wait_for_log("cannot keep the rollups, trying again");
    cluster.start_again();
    database.assert_rollups_are_right();
    load.wait_for_acks(20);
    let ledger = load.finish();
    server.wait_until_flushed();
    server.wait_for_log("rollups are kept again");
    database.wait_until_compacted();
    database.assert_rollups_are_right();
    server.stop();
    ledger.verify(&database.events());
}
