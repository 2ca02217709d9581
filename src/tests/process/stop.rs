//! SIGTERM while the database is down. Stops under load are a plan of the fault harness.

use crate::support::ledger::{assert_stored_once, bulk_of};
use crate::support::postgres::{Cluster, StopMode};
use crate::support::process::stored::Database;
use crate::support::process::{Launch, run};

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
    // Both `health` and the log say how many events wait.
    let health = run(&["health", "--url", &server.url()]);
    assert_eq!(health.code(), 0, "{health:?}");
    assert!(
        health.stdout.contains("; 500 events not in the database yet"),
        "{health:?}"
    );
    server.terminate();
    server.wait_for_log("SIGTERM: draining");
    server.wait_for_log("flushing what the log holds, for at most 600s: 500 events");
    server.terminate();
    // Without the second signal the test would wait here for the ten minutes of the drain, and fail.
    let ended = server.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped; 500 events left"), "{}", ended.stderr);
    let dir_flag = dir.path().to_str().unwrap();
    let inspected = run(&["wal", "inspect", "--data-dir", dir_flag]);
    assert_eq!(inspected.code(), 0, "{inspected:?}");

    cluster.start_again();
    let server = launch.start();
    server.wait_for_log("recovered through sequence 500, 500 events to be flushed");
    server.wait_until_flushed();
    server.stop();
    assert_stored_once(&database.events(), &users);
}

#[test]
fn where_nothing_is_left_to_be_flushed_nobody_waits_for_the_database() {
    let cluster = Cluster::start();
    let database = Database::migrated(&cluster);
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::new(dir.path(), &database).with("--drain-timeout", "10min");
    let server = launch.start();
    let answer = server.request("POST", "/events/bulk", &bulk_of(&["user".to_owned()]));
    assert_eq!(answer.status, 202, "{answer:?}");
    server.wait_until_flushed();
    cluster.stop(StopMode::Immediate);
    // The stops must not wait for the database, whether the server has noticed its loss or not, or is just starting:
    // the test would take ten minutes, and fail.
    server.stop();
    let server = launch.start();
    server.wait_for_health("without its database", |health| health["flush"]["state"] == "retrying");
    server.stop();
    launch.start().stop();
}
