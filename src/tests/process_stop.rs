//! SIGTERM: everybody who was taken in is answered, the log is whole, the exit is clean.

use std::path::Path;
use std::time::Instant;

use crate::ledger::{Entry, Load, Outcome, assert_stored_once, bulk_of};
use crate::postgres::{Cluster, StopMode};
use crate::process::stored::Database;
use crate::process::{Launch, run};

const STOPS: usize = 4;
const CLIENTS: u32 = 6;

#[test]
fn sigterm_under_load_leaves_no_answer_open_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    survives_stops(dir.path(), &Database::embedded(dir.path()));
}

#[test]
fn sigterm_under_load_leaves_no_answer_open_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    survives_stops(dir.path(), &Database::migrated(Cluster::shared()));
}

fn survives_stops(data_dir: &Path, database: &Database) {
    let launch = Launch::new(data_dir, database).with("--wal-segment-bytes", "256KiB");
    let mut server = launch.start();
    let load = Load::start(server.address(), CLIENTS);
    let mut running = Vec::new();
    for _ in 0..STOPS {
        let since = Instant::now();
        load.wait_for_acks(100);
        running.push(since..Instant::now());
        server.terminate();
        let ended = server.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        // The flush had time enough, so a stop under load leaves nothing behind.
        assert!(ended.stderr.contains("left_in_log=0"), "{}", ended.stderr);
        server = launch.start();
        load.go_on_at(server.address());
    }
    load.wait_for_acks(100);
    let ledger = load.finish();
    server.wait_until_flushed();
    server.stop();

    // What the server took in, it answered: no client is left in doubt about something that was stored.
    let unknown_stored = ledger.verify(&database.events());
    assert_eq!(unknown_stored, 0, "stored without an answer");
    // And what had been sent before the signal was taken in.
    let sent_before_the_signal =
        |entry: &Entry| running.iter().any(|time| time.contains(&entry.sent_at));
    let unknown = |entry: &Entry| entry.outcome == Outcome::Unknown;
    let left_open = ledger.count(|entry| unknown(entry) && sent_before_the_signal(entry));
    assert_eq!(left_open, 0, "sent before the signal, never answered");
    eprintln!("{} requests came too late", ledger.count(unknown));
    let acks = ledger.count(|entry| entry.outcome == Outcome::Ack);
    assert!(acks >= 100 * (STOPS + 1), "{acks}");
}

#[test]
fn a_second_sigterm_skips_the_flush_and_the_next_start_makes_up_for_it() {
    let cluster = Cluster::start();
    let database = Database::migrated(&cluster);
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::new(dir.path(), &database).with("--drain-timeout", "10min");
    cluster.stop(StopMode::Fast);

    let server = launch.start();
    let users: Vec<_> = (0..500).map(|number| format!("user-{number}")).collect();
    let answer = server.request("POST", "/events/bulk", &bulk_of(&users));
    assert_eq!(answer.status, 202, "{answer:?}");
    server.terminate();
    server.wait_for_log("SIGTERM: draining");
    server.terminate();
    // Without the second signal the test would wait here for the ten minutes of the drain, and fail.
    let ended = server.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("left_in_log=500"), "{}", ended.stderr);
    let dir_flag = dir.path().to_str().unwrap();
    let inspected = run(&["wal", "inspect", "--data-dir", dir_flag]);
    assert_eq!(inspected.code(), 0, "{inspected:?}");

    cluster.start_again();
    let server = launch.start();
    server.wait_until_flushed();
    server.stop();
    assert_stored_once(&database.events(), &users);
}
