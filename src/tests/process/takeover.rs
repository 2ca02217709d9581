//! This release takes over from the one before: its log, with events that it has not flushed, and its database.

use std::fs;
use std::path::Path;

use crate::support::ledger::bulk_of;
use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::process::{Launch, run};

/// A log of the release before, from which `user-1` to `user-3` are flushed and retired; these two events remain.
const SEGMENT: &[u8] = include_bytes!("../fixtures/log-version-1/00000000000000000004.wal");
const WAL_ID: &str = "e3cc2e0e-6937-460e-aed8-a5053c50dcb9";

/// Brings the schema to that of the release before, with events that it stored, and then to that of this one.
fn migrate_from_before(dir: &Path, database: &Database) {
    let migrate = |verb: &str| {
        let data_dir = dir.to_str().unwrap();
        let mut arguments = vec!["migrate", verb, "--data-dir", data_dir];
        arguments.extend((verb == "down").then_some("--yes"));
        if matches!(database, Database::Postgres(_)) {
            arguments.extend(database.flags());
        }
        let ended = run(&arguments);
        assert_eq!(ended.code(), 0, "{ended:?}");
    };
    migrate("up");
    // The log is of a release that did not know lives.
    migrate("down");
    migrate("down");
    database.execute(&format!(
        "INSERT INTO wal_checkpoints (wal_id, flushed_through, moved_at) VALUES ('{WAL_ID}', 3, CURRENT_TIMESTAMP)"
    ));
    migrate("up");
}

fn is_taken_over(dir: &Path, database: &Database) {
    migrate_from_before(dir, database);
    let wal = dir.join("wal");
    fs::create_dir(&wal).unwrap();
    fs::write(wal.join("00000000000000000004.wal"), SEGMENT).unwrap();
    let launch = Launch::new(dir, database);
    for (number, user) in (1_u64..).zip(["user-6", "user-7"]) {
        let server = launch.start();
        let answer = server.request("POST", "/events/bulk", &bulk_of(&[user.to_owned()]));
        assert_eq!(answer.status, 202, "{answer:?}");
        server.wait_until_flushed();
        let health = server.health();
        let events = &health["events"];
        let counts = ["accepted", "applied", "unaccounted"].map(|name| &events[name]);
        let accepted = 5 + number;
        assert_eq!(counts, [accepted, accepted, 0], "{health}");
        server.stop();
    }
    let stored = database.rows("SELECT user_id FROM events ORDER BY user_id");
    assert_eq!(stored, ["user-4", "user-5", "user-6", "user-7"]);
    let row = "SELECT wal_id, flushed_through, applied FROM wal_checkpoints";
    assert_eq!(database.rows(row), [format!("{WAL_ID}|7|7")]);
}

#[test]
fn a_log_of_the_release_before_is_taken_over_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    is_taken_over(dir.path(), &Database::migrated(Cluster::shared()));
}

#[test]
fn a_log_of_the_release_before_is_taken_over_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    is_taken_over(dir.path(), &Database::embedded(dir.path()));
}
