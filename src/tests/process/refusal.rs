//! A server with `--when-refused wait` that only a person can help: it waits, and blocks nothing, until it is stopped.

use std::fs;

use crate::support::process::Launch;
use crate::support::process::command::run_with;
use crate::support::process::stored::Database;

const WAITS: &str = "waiting to be stopped";

#[test]
fn a_refusal_waits_to_be_stopped_and_keeps_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    let launch = Launch::new(dir.path(), &database);
    launch.start().stop();
    let wal = dir.path().join("wal");
    let damaged = tempfile::tempdir().unwrap();
    fs::create_dir(damaged.path().join("wal")).unwrap();
    for file in fs::read_dir(&wal).unwrap() {
        let file = file.unwrap();
        if file.path().extension().is_none_or(|end| end != "wal") {
            fs::copy(file.path(), damaged.path().join("wal").join(file.file_name())).unwrap();
        }
    }

    for (launch, status, words) in [
        (launch.clone().with("--ring-slots", "many"), 2, "--ring-slots"),
        (launch.in_directory(damaged.path()), 65, "missing"),
        (launch.clone().with("--ring-slots", "0"), 78, "--ring-slots"),
        (launch.clone().with("--log", "fast_ingest=lots"), 78, "fast_ingest=lots"),
    ] {
        let script = r#"FAST_INGEST_WHEN_REFUSED=wait exec "$@""#;
        let server = launch.clone().through_shell(script).spawn();
        server.wait_for_log(WAITS);
        // The first error again, and not "another process uses the data directory".
        launch.run_to_end().assert_refusal(status, &[words]);
        server.terminate();
        let ended = server.wait();
        ended.assert_refusal(status, &[words]);
    }
}

#[test]
fn what_a_restart_may_mend_and_other_commands_end_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    let script = r#"FAST_INGEST_WHEN_REFUSED=wait exec "$@""#;
    let launch = Launch::new(dir.path(), &database).through_shell(script);
    let server = launch.start();
    let second = launch.run_to_end();
    second.assert_refusal(75, &["another fast-ingest process"]);
    server.stop();

    let variable = [("FAST_INGEST_WHEN_REFUSED", "wait")];
    let other = run_with(&["health", "--no-such-flag"], &variable);
    other.assert_refusal(2, &["--no-such-flag"]);
}
