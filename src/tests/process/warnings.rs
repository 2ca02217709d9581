//! What a server says of its settings and of its disk while it runs.

use std::io::ErrorKind;

use crate::support::ledger::bulk_of;
use crate::support::process::Launch;
use crate::support::process::client::Connection;
use crate::support::process::stored::Database;

fn bulk() -> String {
    bulk_of(&["ann".to_owned()])
}

#[test]
fn a_variable_that_no_command_reads_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::new(dir.path(), &Database::embedded(dir.path()));
    let server = launch
        .under(["env", "FAST_INGEST_PROT=1", "FAST_INGEST_DATA_DIRS=x"])
        .start();
    server.wait_for_log("perhaps misspelt: FAST_INGEST_DATA_DIRS, FAST_INGEST_PROT");
    server.stop();
}

#[test]
fn a_disk_below_its_floor_is_named_and_refuses_events() {
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::new(dir.path(), &Database::embedded(dir.path()));
    let server = launch.with("--disk-free-min", "1000TiB").start();
    server.wait_for_log("less than --disk-free-min (1099511627776000)");
    let refused = server.request("POST", "/events/bulk", &bulk());
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (503, &"log_full".into()),
        "{refused:?}"
    );
    server.stop();
}

/// A restart may find the disk mended, unlike one that could never be written to, which ends a start with 78.
#[test]
fn a_disk_that_turns_read_only_under_a_server_ends_it_as_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let launch = Launch::new(dir.path(), &Database::embedded(dir.path()));
    // The first syncs of a thread belong to the start.
    let server = launch
        .traced(&trace, &["trace=fdatasync", "inject=fdatasync:error=EROFS:when=20+"])
        .start();
    let mut connection = Connection::open(server.address()).unwrap();
    let failed = (0..100).find_map(|_| {
        let answer = connection.request("POST", "/events/bulk", bulk().as_bytes());
        answer
            .as_ref()
            .map_or(true, |answer| answer.status != 202)
            .then_some(answer)
    });
    match failed.expect("a sync fails before the hundredth request") {
        Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
        Err(error) => assert_ne!(error.kind(), ErrorKind::TimedOut, "{error}"),
    }
    server.wait().assert_refusal(74, &["Read-only file system"]);
}
