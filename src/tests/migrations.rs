//! `fast-ingest migrate`: up, down to nothing, up to the very same, by one process or two at once; what it leaves on disk, how it
//! fails.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use crate::postgres::Cluster;
use crate::process::stored::Database;
use crate::process::{Ended, run};

const FIRST: &str = "2026-01-01-000000_events";
/// Whatever defines tables and indexes, as text. Partitions and the table of versions are not migrations' work.
const POSTGRES_SCHEMA: &str = "
    SELECT table_name, column_name, data_type, is_nullable, column_default
      FROM information_schema.columns
     WHERE table_schema = 'public' AND table_name <> '__diesel_schema_migrations'
    UNION ALL
    SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes
     WHERE schemaname = 'public' AND tablename <> '__diesel_schema_migrations'
    ORDER BY 1, 2";
const SQLITE_SCHEMA: &str = "
    SELECT name, sql FROM sqlite_schema
     WHERE tbl_name NOT LIKE '%diesel%' ORDER BY name";

#[test]
fn up_then_down_then_up_is_up_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let database = Database::embedded(&data_dir);
    assert_status(&database, 78, "pending");
    assert!(!data_dir.exists(), "asking makes nothing");
    up_then_down_then_up_is_up(&database, SQLITE_SCHEMA);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data_dir.join("events.db")), 0o600);
    assert_eq!(mode(&data_dir), 0o700);
}

#[test]
fn up_then_down_then_up_is_up_on_postgresql() {
    up_then_down_then_up_is_up(&Database::empty(Cluster::shared()), POSTGRES_SCHEMA);
}

fn up_then_down_then_up_is_up(database: &Database, schema: &str) {
    assert_status(database, 78, "pending");
    assert_said(&migrate(database, &["up"]), "applied");
    assert_status(database, 0, "applied");
    let first = database.rows(schema);
    for part in ["events_event_id", "wal_checkpoints", "quarantine"] {
        let is_there = first.iter().any(|row| row.contains(part));
        assert!(is_there, "no {part} in {first:#?}");
    }
    let again = migrate(database, &["up"]);
    assert!(again.stdout.starts_with("nothing to apply"), "{again:?}");

    assert_said(&migrate(database, &["down", "--all"]), "reverted");
    assert_status(database, 78, "pending");
    assert_eq!(database.rows(schema), [""; 0], "down leaves nothing behind");
    let again = migrate(database, &["down", "--all"]);
    assert!(again.stdout.starts_with("nothing to revert"), "{again:?}");

    assert_said(&migrate(database, &["up"]), "applied");
    assert_eq!(database.rows(schema), first);
    assert_said(&migrate(database, &["down"]), "reverted");
}

#[test]
fn two_at_once_apply_each_migration_once_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    two_at_once_apply_each_migration_once(&Database::embedded(dir.path()));
}

#[test]
fn two_at_once_apply_each_migration_once_on_postgresql() {
    two_at_once_apply_each_migration_once(&Database::empty(Cluster::shared()));
}

fn two_at_once_apply_each_migration_once(database: &Database) {
    let outputs: Vec<_> = thread::scope(|scope| {
        let start = |_| scope.spawn(|| migrate(database, &["up"]).stdout);
        let running: Vec<_> = (0..2).map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
        running.into_iter().map(join).collect()
    });
    let applied = outputs.concat().matches(FIRST).count();
    assert_eq!(applied, 1, "{outputs:?}");
    assert_status(database, 0, "applied");
}

#[test]
fn a_database_that_does_not_answer_is_one_line_without_the_password() {
    let nobody = "postgres://user:secret@127.0.0.1:1/db";
    let ended = run(&["migrate", "up", "--database-url", nobody]);
    ended.assert_refusal(69, &["127.0.0.1:1"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(!ended.stderr.contains("secret"), "{ended:?}");
}

#[test]
fn a_url_that_cannot_be_read_is_a_wrong_setting() {
    let wrong = "postgres://user:secret@host:port/db";
    let ended = run(&["migrate", "up", "--database-url", wrong]);
    assert_eq!(ended.code(), 78, "{ended:?}");
    assert!(!ended.stderr.contains("secret"), "{ended:?}");
}

#[test]
fn a_directory_that_cannot_be_made_is_an_io_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = file.path().join("data");
    let ended = run(&[
        "migrate",
        "up",
        "--data-dir",
        below_a_file.to_str().unwrap(),
    ]);
    assert_eq!(ended.code(), 74, "{ended:?}");
}

fn migrate(database: &Database, verb: &[&str]) -> Ended {
    let ended = run(&[&["migrate"], verb, &database.flags()].concat());
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended
}

fn assert_said(ended: &Ended, verb: &str) {
    let line = format!("{verb} {FIRST}\n");
    assert!(ended.stdout.starts_with(&line), "{ended:?}");
}

/// `migrate status` knows every migration as `state`.
fn assert_status(database: &Database, code: i32, state: &str) {
    let ended = run(&[&["migrate", "status"][..], &database.flags()].concat());
    assert_eq!(ended.code(), code, "{ended:?}");
    let mut lines = ended.stdout.lines();
    assert!(lines.all(|line| line.starts_with(state)), "{ended:?}");
    let first = format!("{state}  {FIRST}\n");
    assert!(ended.stdout.starts_with(&first), "{ended:?}");
    let remedy = ended.stderr.contains("fast-ingest migrate up");
    assert_eq!(remedy, code != 0, "{ended:?}");
}
