//! The database is down at the start, loses its schema, refuses an event: clients notice none of this, and all events
//! are stored once. Faults under load are plans of the fault harness.

use std::io::Write as _;

use crate::support::ledger::{Load, assert_stored_once, body_of, bulk_of};
use crate::support::postgres::{Cluster, StopMode};
use crate::support::process::client::Connection;
use crate::support::process::stored::Database;
use crate::support::process::{Launch, Server, run};
use crate::torture::plans::syscalls::strace_works;

fn users(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

#[track_caller]
fn post(server: &Server, users: &[String]) {
    let answer = server.request("POST", "/events/bulk", &bulk_of(users));
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[test]
fn a_database_that_is_down_at_the_start_is_made_up_for() {
    let cluster = Cluster::start();
    let database = Database::migrated(&cluster);
    cluster.stop(StopMode::Fast);
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path(), &database).start();
    let load = Load::start(server.address(), 3);
    load.wait_for_acks(200);
    server.wait_for_health("degraded", |health| {
        health["status"] == "degraded" && health["flush"]["state"] == "retrying"
    });
    let health = server.request("GET", "/health", "");
    assert_eq!(health.status, 200, "it can accept events: {health:?}");
    assert_eq!(health.json()["flush"]["flushed_through"], 0);

    cluster.start_again();
    load.wait_for_acks(200);
    server.wait_for_health("back", |health| health["status"] == "ok");
    load.wait_for_acks(50);
    let ledger = load.finish();
    server.wait_until_flushed();
    server.stop();
    ledger.verify(&database.events());
    ledger.assert_all_acknowledged();
}

#[test]
fn an_event_that_postgresql_refuses_is_set_aside_and_its_neighbours_are_stored() {
    let database = Database::migrated(Cluster::shared());
    database.execute("ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')");
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path(), &database).start();
    let mut sent = users("neighbour", 100);
    sent.insert(37, "poison".to_owned());
    post(&server, &sent);
    let later = users("later", 100);
    post(&server, &later);
    server.wait_until_flushed();
    assert_eq!(server.health()["status"], "ok");
    server.stop();

    sent.retain(|user| user != "poison");
    sent.extend(later);
    assert_stored_once(&database.events(), &sent);
    assert_eq!(
        database.rows("SELECT sequence, code, readable::jsonb->>'user_id' FROM quarantine"),
        ["38|23514|poison"]
    );
    assert_eq!(database.rows("SELECT flushed_through FROM wal_checkpoints"), ["201"]);
}

#[test]
fn what_a_trigger_says_of_each_event_is_no_line_of_the_log() {
    let database = Database::migrated(Cluster::shared());
    database.execute(
        "CREATE FUNCTION talk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'much to say'; RETURN NEW; END $$;
         CREATE TRIGGER talk BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION talk()",
    );
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path(), &database).start();
    post(&server, &users("talked-of", 10));
    server.wait_until_flushed();
    server.terminate();
    let ended = server.wait();
    for words in ["much to say", "NOTICE", "tokio-postgres"] {
        assert!(!ended.stderr.contains(words), "{}", ended.stderr);
    }
}

#[test]
fn a_schema_dropped_under_a_running_server_stops_the_flush_and_nothing_else() {
    let database = Database::migrated(Cluster::shared());
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path(), &database).start();
    let mut sent = users("before", 50);
    post(&server, &sent);
    server.wait_until_flushed();

    database.migrate(&["down", "--all", "--yes"]);
    let meanwhile = users("meanwhile", 50);
    post(&server, &meanwhile);
    server.wait_for_health("stopped", |health| health["flush"]["state"] == "stopped");
    let health = server.request("GET", "/health", "");
    assert_eq!(health.status, 200, "{health:?}");
    assert_eq!(health.json()["status"], "degraded");
    sent.extend(meanwhile);
    let still = users("still", 50);
    post(&server, &still);
    sent.extend(still);

    database.migrate(&["up"]);
    // The database is a new one now, without the earlier events. The log has kept them.
    server.wait_for_health("asked", |health| {
        let reason = health["reason"].as_str().unwrap_or_default();
        reason.contains("through sequence 50 are in database")
    });
    let data_dir = dir.path().to_str().unwrap();
    let adopt = ["wal", "adopt", "--from", "1", "--yes", "--data-dir", data_dir];
    let adopted = run(&[&adopt[..], &database.flags()].concat());
    assert_eq!(adopted.code(), 0, "{adopted:?}");
    server.wait_until_flushed();
    server.stop();
    assert_stored_once(&database.events(), &sent);
}

#[test]
fn a_log_at_its_cap_refuses_before_the_body_and_opens_again() {
    let cluster = Cluster::start();
    let database = Database::migrated(&cluster);
    cluster.stop(StopMode::Immediate);
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path(), &database)
        .with("--body-bytes-max", "64KiB")
        .with("--event-bytes-max", "64KiB")
        .with("--wal-segment-bytes", "16KiB")
        .with("--wal-bytes-max", "256KiB")
        .start();
    let mut connection = Connection::open(server.address()).unwrap();
    let mut stored = Vec::new();
    let mut bulks = 0;
    let refusal = loop {
        let bulk = users(&format!("bulk{bulks}"), 20);
        let answer = connection.request("POST", "/events/bulk", bulk_of(&bulk).as_bytes());
        let answer = answer.unwrap();
        if answer.status != 202 {
            break answer;
        }
        stored.extend(bulk);
        bulks += 1;
    };
    assert!(bulks >= 20, "the cap is met, not the first request: {bulks}");
    assert_eq!(refusal.status, 503, "{refusal:?}");
    let wait = refusal.header("retry-after").map(str::parse::<u32>);
    assert!(matches!(wait, Some(Ok(1..))), "{refusal:?}");
    assert!(log_bytes(dir.path()) <= 256 * 1024 + 1024);

    // `FLUSHED` has its full size already, as the format document says, although no database was there.
    let flushed = std::fs::metadata(dir.path().join("wal/FLUSHED")).unwrap();
    assert_eq!(flushed.len(), 262_656);

    // The next client is refused before it has sent a body.
    let mut patient = Connection::open(server.address()).unwrap();
    let body = body_of("refused");
    patient.send_head("POST", "/events", body.len()).unwrap();
    assert_eq!(patient.receive().unwrap().status, 503);
    let health = server.request("GET", "/health", "");
    assert_eq!(health.status, 503, "{health:?}");
    assert_eq!(health.json()["status"], "unavailable");

    cluster.start_again();
    server.wait_for_health("open again", |health| health["status"] == "ok");
    let after = users("after", 20);
    post(&server, &after);
    stored.extend(after);
    server.wait_until_flushed();
    server.stop();
    assert_stored_once(&database.events(), &stored);
}

/// Bytes of segments; the other files beside them have a fixed size.
fn log_bytes(data_dir: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(data_dir.join("wal")).unwrap();
    let segments = files
        .map(|file| file.unwrap())
        .filter(|file| file.path().extension().is_some_and(|name| name == "wal"));
    segments.map(|file| file.metadata().unwrap().len()).sum()
}

/// After a failed sync the page cache may hold a commit that the device lacks; a start that believed it would give up
/// the log's copy. No test can make a device forget here, so this one checks what the server does before it reads.
#[test]
fn a_start_asks_the_device_and_not_the_page_cache_how_far_sqlite_is() {
    if let Err(reason) = strace_works() {
        writeln!(std::io::stderr(), "sqlite-cache: skipped, {reason}").unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::new(dir.path(), &Database::embedded(dir.path()));
    let server = launch.start();
    post(&server, &users("user", 10));
    server.wait_until_flushed();
    server.kill();
    let trace = dir.path().join("trace");
    let traced = launch.traced(&trace, &["trace=fadvise64,pread64"]);
    traced.start().kill();
    let trace = std::fs::read_to_string(&trace).unwrap();
    let of_side_file = |line: &&str| line.contains("/events.db-wal>");
    let calls: Vec<&str> = trace.lines().filter(of_side_file).collect();
    assert!(calls.iter().any(|call| call.contains("pread64(")), "{trace}");
    let first = calls[0];
    assert!(first.contains("fadvise64(") && first.contains("DONTNEED"), "{first}");
}
