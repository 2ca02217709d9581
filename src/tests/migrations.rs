//! `fast-ingest migrate`: up, down to nothing, up to the same schema, by one process or two at once; what it leaves on
//! disk, how it waits, how it fails.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use fast_ingest::event::Timestamp;
use fast_ingest::intake::clock::RELEASED_AFTER;

use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::process::{Ended, run};

const FIRST: &str = "2026-01-01-000000_events";
const ROLLUPS: &str = "2026-11-23-000000_rollups";
const LINEAGE: &str = "2026-11-28-000000_lineage";
const NEWEST: &str = "2026-11-29-000000_user_key";
/// Definitions of all tables and indexes, as text. Partitions and the table of versions are not made by migrations.
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

/// A correct clock is never before the newest migration's day, and the program believes no earlier one.
#[test]
fn the_program_knows_that_it_is_as_young_as_its_newest_migration() {
    let made = Timestamp::parse_rfc3339(&format!("{}T00:00:00Z", &NEWEST[..10])).unwrap();
    let day_micros = 86_400_000_000;
    assert!(RELEASED_AFTER.as_micros() >= made.as_micros() - day_micros);
}

#[test]
fn up_then_down_then_up_is_up_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let database = Database::embedded(&data_dir);
    assert_status(&database, 78, "pending");
    assert!(!data_dir.exists(), "the command made a directory");
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
    assert_said(
        &migrate(database, &["up"]),
        "applied",
        &[FIRST, ROLLUPS, LINEAGE, NEWEST],
    );
    assert_status(database, 0, "applied");
    let first = database.rows(schema);
    for part in [
        "events_event_id",
        "wal_checkpoints",
        "quarantine",
        "database_identity",
        "rollup_state",
    ] {
        let is_there = first.iter().any(|row| row.contains(part));
        assert!(is_there, "no {part} in {first:#?}");
    }
    let again = migrate(database, &["up"]);
    assert!(again.stdout.starts_with("nothing to apply"), "{again:?}");

    let unconfirmed = ask_to_migrate(database, &["down", "--all"]);
    unconfirmed.assert_refusal(78, &["drops the tables events", FIRST, "--yes"]);
    assert_eq!(database.rows(schema), first);
    let all_down = migrate(database, &["down", "--all", "--yes"]);
    assert_said(&all_down, "reverted", &[NEWEST, LINEAGE, ROLLUPS, FIRST]);
    assert_status(database, 78, "pending");
    assert_eq!(database.rows(schema), [""; 0], "down leaves nothing behind");
    let again = migrate(database, &["down", "--all"]);
    assert!(again.stdout.starts_with("nothing to revert"), "{again:?}");

    assert_said(
        &migrate(database, &["up"]),
        "applied",
        &[FIRST, ROLLUPS, LINEAGE, NEWEST],
    );
    assert_eq!(database.rows(schema), first);
    let unconfirmed = ask_to_migrate(database, &["down"]);
    unconfirmed.assert_refusal(78, &["drops the secret", NEWEST, "--yes"]);
    assert_eq!(database.rows(schema), first);
    assert_said(&migrate(database, &["down", "--yes"]), "reverted", &[NEWEST]);
    assert_said(&migrate(database, &["down", "--yes"]), "reverted", &[LINEAGE]);
    assert_said(&migrate(database, &["down", "--yes"]), "reverted", &[ROLLUPS]);
    let unconfirmed = ask_to_migrate(database, &["down"]);
    unconfirmed.assert_refusal(78, &["drops the tables events", "--yes"]);
    assert_said(&migrate(database, &["up"]), "applied", &[ROLLUPS, LINEAGE, NEWEST]);
    assert_eq!(database.rows(schema), first);
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
fn up_waits_for_a_server_that_is_still_starting() {
    let database = Database::empty(Cluster::shared());
    let [flag, url] = database.flags();
    let port = front_of_a_starting_server(Cluster::shared().port(), "57P03", 3);
    let url = url.replace(&format!(":{}/", Cluster::shared().port()), &format!(":{port}/"));
    let command = ["migrate", "up", flag, &format!("{url}?sslmode=disable")];
    // At a prompt, without `--wait`, the refusal comes at once.
    run(&command).assert_refusal(69, &["57P03"]);
    let ended = run(&[&command[..], &["--wait", "1m"]].concat());
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_said(&ended, "applied", &[FIRST, ROLLUPS, LINEAGE, NEWEST]);
    assert_eq!(ended.stderr.matches("waiting up to").count(), 1, "{ended:?}");
}

#[test]
fn up_waits_only_so_long_and_only_for_what_passes() {
    let nobody = "postgres://user:secret@127.0.0.1:1/db";
    let ended = run(&["migrate", "up", "--database-url", nobody, "--wait", "1s"]);
    ended.assert_refusal(69, &["waiting up to 1s", "cannot connect to 127.0.0.1:1"]);
    assert!(!ended.stderr.contains("secret"), "{ended:?}");

    let port = front_of_a_starting_server(1, "28P01", 1);
    let wrong_password = format!("postgres://user:secret@127.0.0.1:{port}/db?sslmode=disable");
    let ended = run(&["migrate", "up", "--database-url", &wrong_password, "--wait", "1m"]);
    assert_eq!(ended.code(), 69, "{ended:?}");
    assert!(!ended.stderr.contains("waiting"), "{ended:?}");
}

/// A port whose first connections are refused with an SQLSTATE; all later ones lead to `port`.
fn front_of_a_starting_server(port: u16, sqlstate: &'static str, refusals: usize) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let own_port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let client = client.unwrap();
            if number < refusals {
                refuse(client, sqlstate);
            } else if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                let (to_client, to_server) = (client.try_clone(), server.try_clone());
                thread::spawn(move || forward(client, to_server.unwrap()));
                thread::spawn(move || forward(server, to_client.unwrap()));
            }
        }
    });
    own_port
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    // Both ends may go away as they like.
    io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
}

/// Reads the start-up message and answers it with an error, as PostgreSQL does.
fn refuse(mut client: TcpStream, sqlstate: &str) {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut rest).unwrap();
    let fields = format!("SFATAL\0VFATAL\0C{sqlstate}\0Mnot now\0\0");
    let length = (fields.len() as u32 + 4).to_be_bytes();
    let answer = [&b"E"[..], &length, fields.as_bytes()].concat();
    client.write_all(&answer).unwrap();
}

#[test]
fn a_database_that_does_not_answer_is_one_line_without_the_password() {
    let nobody = "postgres://user:secret@127.0.0.1:1/db";
    let ended = run(&["migrate", "up", "--database-url", nobody]);
    ended.assert_refusal(69, &["127.0.0.1:1"]);
    assert_eq!(ended.stderr.matches("cannot connect").count(), 1, "{ended:?}");
    // The other line names the database.
    assert_eq!(ended.stderr.lines().count(), 2, "{ended:?}");
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
    let ended = run(&["migrate", "up", "--data-dir", below_a_file.to_str().unwrap()]);
    assert_eq!(ended.code(), 74, "{ended:?}");
}

fn ask_to_migrate(database: &Database, verb: &[&str]) -> Ended {
    run(&[&["migrate"], verb, &database.flags()].concat())
}

fn migrate(database: &Database, verb: &[&str]) -> Ended {
    let ended = ask_to_migrate(database, verb);
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended
}

fn assert_said(ended: &Ended, verb: &str, names: &[&str]) {
    let line = |name: &&str| format!("{verb} {name}\n");
    let lines: String = names.iter().map(line).collect();
    assert_eq!(ended.stdout, lines, "{ended:?}");
}

/// Asserts that `migrate status` reports every migration as `state`.
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
