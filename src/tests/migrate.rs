//! `fast-ingest migrate`: what it prints, its exit statuses, what it leaves on disk.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use crate::postgres::Cluster;

fn migrate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fast-ingest"))
        .arg("migrate")
        .args(arguments)
        .env_remove("DATABASE_URL")
        .output()
        .expect("the binary starts")
}

fn stdout(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The whole life of a schema through the command line.
fn goes_up_and_down(database: &[&str]) {
    let with = |verb: &[&'static str]| migrate(&[verb, database].concat());
    let before = with(&["status"]);
    assert_eq!(before.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&before.stderr).contains("fast-ingest migrate up"));
    let pending = stdout(&before);
    assert!(
        !pending.is_empty() && pending.iter().all(|line| line.starts_with("pending  ")),
        "{pending:?}"
    );

    let up = with(&["up"]);
    assert_eq!(
        up.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&up.stderr)
    );
    let expected: Vec<_> = pending
        .iter()
        .map(|line| line.replace("pending  ", "applied "))
        .collect();
    assert_eq!(stdout(&up), expected);
    assert_eq!(
        stdout(&with(&["up"])),
        ["nothing to apply: the schema is up to date"]
    );
    let status = with(&["status"]);
    assert_eq!(status.status.code(), Some(0));
    assert!(
        stdout(&status)
            .iter()
            .all(|line| line.starts_with("applied  "))
    );

    let down = stdout(&with(&["down"]));
    assert!(
        down.len() == 1 && down[0].starts_with("reverted "),
        "{down:?}"
    );
    assert_eq!(with(&["down", "--all"]).status.code(), Some(0));
    assert_eq!(
        stdout(&with(&["down"])),
        ["nothing to revert: no migration is applied"]
    );
    assert_eq!(stdout(&with(&["status"])), pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_goes_up_and_down_on_postgres() {
    let cluster = tokio::task::spawn_blocking(Cluster::shared).await.unwrap();
    let url = cluster.create_database().await;
    tokio::task::block_in_place(|| goes_up_and_down(&["--database-url", &url]));
}

#[test]
fn the_schema_goes_up_and_down_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    // Asking makes nothing.
    assert_eq!(
        migrate(&["status", "--data-dir", data_dir.to_str().unwrap()])
            .status
            .code(),
        Some(78)
    );
    assert!(!data_dir.exists());
    goes_up_and_down(&["--data-dir", data_dir.to_str().unwrap()]);
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data_dir.join("events.db")), 0o600);
    assert_eq!(mode(&data_dir), 0o700);
}

#[test]
fn a_database_that_does_not_answer_is_one_line_without_the_password() {
    let output = migrate(&[
        "up",
        "--database-url",
        "postgres://user:secret@127.0.0.1:1/db",
    ]);
    assert_eq!(output.status.code(), Some(69));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("127.0.0.1:1") && !stderr.contains("secret"),
        "{stderr}"
    );
}

#[test]
fn a_url_that_cannot_be_read_is_a_wrong_setting() {
    let output = migrate(&[
        "up",
        "--database-url",
        "postgres://user:secret@host:port/db",
    ]);
    assert_eq!(output.status.code(), Some(78));
    assert!(!String::from_utf8(output.stderr).unwrap().contains("secret"));
}

#[test]
fn a_directory_that_cannot_be_made_is_an_io_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = file.path().join("data");
    assert_eq!(
        migrate(&["up", "--data-dir", below_a_file.to_str().unwrap()])
            .status
            .code(),
        Some(74)
    );
}
