//! `fast-ingest wal adopt`: what the flush asks, and how it continues after the answer; on both stores, with and
//! without a running server.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::thread;

use crate::support::ledger::{Load, assert_stored_once, bulk_of};
use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::process::{Ended, Launch, Server, run};

/// Exit statuses (`sysexits`).
const DATA: i32 = 65;
const CONFIG: i32 = 78;

/// Runs a test on either store, each time in a directory of its own.
fn on_both_stores(test: impl Fn(&Path, &Database)) {
    for is_postgresql in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let database = if is_postgresql {
            Database::migrated(Cluster::shared())
        } else {
            Database::embedded(dir.path())
        };
        test(dir.path(), &database);
    }
}

fn users(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|number| format!("user-{number}")).collect()
}

/// Posts one event for each user; returns the receipt.
#[track_caller]
fn post(server: &Server, users: &[String]) -> String {
    let answer = server.request("POST", "/events/bulk", &bulk_of(users));
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["receipt"].as_str().unwrap().to_owned()
}

/// Status of a query that waits for the events of a receipt.
fn query_after(server: &Server, receipt: &str) -> u16 {
    let target = format!("/metrics?event_name=page_view&from=0&to=4000000000&after={receipt}");
    server.request("GET", &target, "").status
}

/// A server accepts the users' events, stores them and stops.
#[track_caller]
fn stay(launch: &Launch, users: &[String]) {
    let server = launch.start();
    post(&server, users);
    server.wait_until_flushed();
    server.stop();
}

/// Runs `wal COMMAND` on a log and its database.
fn wal(command: &[&str], dir: &Path, database: &Database) -> Ended {
    let flags = ["--data-dir", dir.to_str().unwrap()];
    let mut arguments = vec!["wal"];
    arguments.extend(command);
    arguments.extend(flags);
    if matches!(database, Database::Postgres(_)) {
        arguments.extend(database.flags());
    }
    run(&arguments)
}

#[track_caller]
fn assert_says(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code(), code, "{ended:?}");
    for word in words {
        let is_said = ended.stdout.contains(word) || ended.stderr.contains(word);
        assert!(is_said, "no {word:?} in {ended:?}");
    }
}

/// Waits until `/health` says that a person must decide, while events are still accepted.
#[track_caller]
fn wait_until_asked(server: &Server, words: &str) {
    server.wait_for_health(words, |health| {
        let reason = health["reason"].as_str().unwrap_or_default();
        health["status"] == "degraded" && reason.contains(words) && reason.contains("wal adopt")
    });
}

/// The statement that restores the checkpoint as it is now.
fn checkpoint_as_it_is(database: &Database) -> String {
    let columns = "flushed_through, applied, life, token";
    let rows = database.rows(&format!("SELECT {columns} FROM wal_checkpoints"));
    let fields: Vec<_> = rows[0].split('|').collect();
    format!(
        "UPDATE wal_checkpoints SET flushed_through = {}, applied = {}, life = '{}', token = '{}'",
        fields[0], fields[1], fields[2], fields[3]
    )
}

#[test]
fn over_a_gap_the_flush_goes_on_once_it_was_told_to() {
    on_both_stores(|dir, database| {
        let launch = Launch::new(dir, database).with("--wal-keep", "0");
        stay(&launch, &users(1..=3));
        let restore = checkpoint_as_it_is(database);
        stay(&launch, &users(4..=6));
        stay(&launch, &users(7..=7));
        // A checkpoint as in an older backup. The log still has sequence 7, because nothing came after it.
        database.execute(&restore);
        database.execute("DELETE FROM events WHERE user_id IN ('user-4', 'user-5', 'user-6', 'user-7')");

        let server = launch.start();
        wait_until_asked(&server, "from sequence 4 to 6 are neither");
        post(&server, &users(8..=9));
        let shown = wal(&["adopt"], dir, database);
        assert_says(
            &shown,
            0,
            &["3 sequences, 4 to 6", "goes on     at sequence 7", "--yes"],
        );
        let inspected = wal(&["inspect"], dir, database);
        assert_says(&inspected, DATA, &["from sequence 4 to 6 are neither", "wal adopt"]);
        for from in ["5", "100"] {
            let refused = wal(&["adopt", "--from", from, "--yes"], dir, database);
            assert_says(&refused, CONFIG, &["must be from 7", "to 10"]);
        }
        wait_until_asked(&server, "from sequence 4 to 6 are neither");

        let done = wal(&["adopt", "--yes"], dir, database);
        assert_says(&done, 0, &["done        the server goes on"]);
        server.wait_until_flushed();
        server.wait_for_health("well", |health| health["status"] == "ok");
        let health = server.health();
        let events = &health["events"];
        let counts = ["accepted", "applied", "skipped", "unaccounted"].map(|name| &events[name]);
        assert_eq!(counts, [9, 6, 3, 0], "{health}");
        server.stop();
        let mut stored = users(1..=3);
        stored.extend(users(7..=9));
        assert_stored_once(&database.events(), &stored);
        assert_eq!(
            database.rows("SELECT first_sequence, last_sequence FROM wal_gaps"),
            ["4|6"]
        );
        assert_says(
            &wal(&["inspect"], dir, database),
            0,
            &["sound", "in the database or skipped"],
        );
        assert_says(&wal(&["adopt"], dir, database), 0, &["nothing to answer"]);
    });
}

#[test]
fn without_its_checkpoint_a_log_asks_and_an_answer_waits_for_the_next_start() {
    on_both_stores(|dir, database| {
        let launch = Launch::new(dir, database);
        stay(&launch, &users(1..=3));
        database.execute("DELETE FROM wal_checkpoints");
        let server = launch.start();
        wait_until_asked(&server, "no checkpoint of this log");
        post(&server, &users(4..=5));
        server.stop();
        assert_says(
            &wal(&["adopt", "--yes"], dir, database),
            0,
            &["3 sequences, 1 to 3", "2 events to be flushed", "next start"],
        );
        assert_says(&wal(&["inspect"], dir, database), 0, &["answered"]);
        assert_says(&wal(&["adopt", "--yes"], dir, database), 0, &["answered"]);
        stay(&launch, &users(6..=6));
        assert_stored_once(&database.events(), &users(1..=6));
        assert_eq!(database.rows("SELECT applied, skipped FROM wal_checkpoints"), ["3|3"]);
    });
}

/// Root's answer to a server that runs as another user: that user must be able to read and remove it.
#[test]
fn what_root_answers_belongs_to_whose_the_log_is() {
    const SOMEBODY: u32 = 4711;
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    stay(&Launch::new(dir.path(), &database), &users(1..=3));
    database.execute("DELETE FROM wal_checkpoints");
    let log = dir.path().join("wal");
    if chown(&log, Some(SOMEBODY), Some(SOMEBODY)).is_err() {
        eprintln!("skipped: only root can give a directory to another user");
        return;
    }
    assert_says(&wal(&["adopt", "--yes"], dir.path(), &database), 0, &["next start"]);
    for name in ["ADOPTED", "ADOPT.LOCK"] {
        let file = fs::metadata(log.join(name)).unwrap();
        assert_eq!((file.uid(), file.gid()), (SOMEBODY, SOMEBODY), "{name}");
    }
}

/// Only the database knows what the last commit before a kill did, and its checkpoint is deleted.
#[test]
fn a_commit_of_which_nobody_knows_is_asked_for() {
    on_both_stores(|dir, database| {
        let launch = Launch::new(dir, database);
        let server = launch.start();
        post(&server, &users(1..=3));
        server.wait_until_flushed();
        server.kill();
        database.execute("DELETE FROM wal_checkpoints");
        let server = launch.start();
        wait_until_asked(&server, "through sequence 0 were stored before (perhaps through 3)");
        let asks = wal(&["adopt", "--yes"], dir, database);
        assert_says(&asks, CONFIG, &["--from 4 if they are, or --from 1 if not"]);
        let done = wal(&["adopt", "--from", "4", "--yes"], dir, database);
        assert_says(&done, 0, &["the server goes on"]);
        post(&server, &users(4..=4));
        server.wait_until_flushed();
        server.stop();
        assert_stored_once(&database.events(), &users(1..=4));
    });
}

/// A busy server moves log and checkpoint on while both are inspected.
#[test]
fn a_look_at_a_busy_server_finds_nothing_wrong() {
    let database = Database::migrated(Cluster::shared());
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::new(dir.path(), &database)
        .with("--wal-segment-bytes", "64KiB")
        .with("--wal-keep", "0")
        .with("--flush-rows-max", "200")
        .with("--flush-interval", "5ms");
    let server = launch.start();
    let load = Load::start(server.address(), 3);
    for _ in 0..15 {
        load.wait_for_acks(20);
        let inspected = wal(&["inspect"], dir.path(), &database);
        assert!(!inspected.stdout.contains("lineage"), "{inspected:?}");
        assert_says(
            &wal(&["adopt", "--yes"], dir.path(), &database),
            0,
            &["nothing to answer"],
        );
    }
    let ledger = load.finish();
    server.wait_until_flushed();
    server.stop();
    ledger.verify(&database.events());
}

#[test]
fn into_another_database_a_log_goes_when_it_is_told_to() {
    let (first, second) = (
        Database::migrated(Cluster::shared()),
        Database::migrated(Cluster::shared()),
    );
    let dir = tempfile::tempdir().unwrap();
    stay(&Launch::new(dir.path(), &first), &users(1..=3));
    let server = Launch::new(dir.path(), &second).start();
    wait_until_asked(&server, "through sequence 3 are in database");
    post(&server, &users(4..=5));
    let done = wal(&["adopt", "--yes"], dir.path(), &second);
    assert_says(&done, 0, &["another database", "the server goes on"]);
    server.wait_until_flushed();
    server.stop();
    assert_stored_once(&first.events(), &users(1..=3));
    assert_stored_once(&second.events(), &users(4..=5));

    // Back to the first database, with everything that the log has kept and that database lacks.
    let server = Launch::new(dir.path(), &first).start();
    wait_until_asked(&server, "through sequence 5 are in database");
    let shown = wal(&["adopt"], dir.path(), &first);
    assert_says(&shown, 0, &["goes on     at sequence 4"]);
    server.stop();
}

#[test]
fn a_copy_goes_on_as_a_log_of_its_own_from_where_it_was_told_to() {
    let database = Database::migrated(Cluster::shared());
    let (dir, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let launch = Launch::new(dir.path(), &database);
    stay(&launch, &users(1..=2));
    let (from, to) = (dir.path().join("wal"), copied.path().join("wal"));
    fs::create_dir(&to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let copy = launch.in_directory(copied.path()).start();
    let original = launch.start();
    let originals = post(&original, &users(3..=4));
    original.wait_until_flushed();
    // The copy has not read the checkpoint since, so it accepts these events; the test is about what becomes of them.
    let copys = post(&copy, &users(11..=12));
    copy.wait_for_health("refused", |health| health["status"] == "unavailable");
    let refused = copy.request("POST", "/events/bulk", &bulk_of(&users(13..=13)));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.json()["code"], "log_mismatch");
    let inspected = wal(&["inspect"], copied.path(), &database);
    assert_says(
        &inspected,
        DATA,
        &["newest, waits for a person's word", "not by this copy"],
    );
    assert!(!inspected.stdout.contains("newest, all"), "{inspected:?}");
    // Both have given out the sequences 3 and 4, and neither log's events are taken for the other's.
    assert_eq!(copys[32..], originals[32..]);
    assert_eq!(query_after(&copy, &originals), 200);
    thread::scope(|scope| {
        let asking = [&original, &copy].map(|server| scope.spawn(|| query_after(server, &copys)));
        assert_eq!(asking.map(|asked| asked.join().unwrap()), [503, 503]);
    });
    let asks = wal(&["adopt", "--yes"], copied.path(), &database);
    assert_says(
        &asks,
        CONFIG,
        &["--from SEQUENCE", "wrote 3 to 4", "through sequence 2 is stored"],
    );

    let done = wal(&["adopt", "--from", "3", "--yes"], copied.path(), &database);
    assert_says(&done, 0, &["new log", "the server goes on"]);
    for server in [&original, &copy] {
        assert_eq!(query_after(server, &copys), 200);
        assert_eq!(query_after(server, &originals), 200);
    }
    post(&copy, &users(13..=13));
    copy.wait_until_flushed();
    let answer = copy.request("POST", "/events/bulk?wait=applied", &bulk_of(&users(14..=14)));
    assert_eq!((answer.status, &answer.json()["applied"]), (200, &true.into()));
    copy.stop();
    post(&original, &users(5..=5));
    original.wait_until_flushed();
    original.stop();
    let mut stored = users(1..=5);
    stored.extend(users(11..=14));
    assert_stored_once(&database.events(), &stored);
    let ids = database.rows("SELECT count(*), count(DISTINCT wal_id) FROM wal_checkpoints");
    assert_eq!(ids, ["2|2"]);
    assert_says(&wal(&["inspect"], copied.path(), &database), 0, &["sound"]);
}
