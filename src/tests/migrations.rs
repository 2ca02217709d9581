//! The schema through the binary: up, down to nothing, up to the very same, by one process or two at once.

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
    up_then_down_then_up_is_up(&Database::embedded(dir.path()), SQLITE_SCHEMA);
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
    assert!(ended.stdout.contains(FIRST), "{ended:?}");
}
