//! What keeps a server from starting: one line that says what to do, the right exit status, and no file changed.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::ledger::{assert_stored_once, bulk_of};
use crate::support::postgres::Cluster;
use crate::support::process::command::run_into;
use crate::support::process::stored::Database;
use crate::support::process::{Launch, Server, copy_files, run};

fn users(prefix: &str) -> Vec<String> {
    (0..20).map(|number| format!("{prefix}-{number}")).collect()
}

#[track_caller]
fn post(server: &Server, users: &[String]) {
    let answer = server.request("POST", "/events/bulk", &bulk_of(users));
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[test]
fn a_second_process_on_the_same_directory_leaves_the_first_alone() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    let launch = Launch::new(dir.path(), &database);
    let first = launch.start();
    let mut sent = users("before");
    post(&first, &sent);

    let second = launch.run_to_end();
    second.assert_refusal(75, &["another fast-ingest process", "--data-dir"]);
    assert_eq!(second.stderr.lines().count(), 1, "{second:?}");

    // A first server that hangs still holds the directory.
    first.signal(Signal::STOP);
    let meanwhile = launch.run_to_end();
    first.signal(Signal::CONT);
    meanwhile.assert_refusal(75, &["another fast-ingest process"]);

    // Another name of the directory does not help either.
    let other_name = tempfile::tempdir().unwrap();
    let link = other_name.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    let third = Launch::new(&link, &database).run_to_end();
    third.assert_refusal(75, &["another fast-ingest process"]);

    let after = users("after");
    post(&first, &after);
    sent.extend(after);
    first.wait_until_flushed();
    first.stop();
    assert_stored_once(&database.events(), &sent);
}

#[test]
fn an_unmigrated_postgresql_names_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::empty(Cluster::shared());
    let ended = Launch::new(dir.path(), &database).run_to_end();
    ended.assert_refusal(78, &["fast-ingest migrate up"]);

    database.migrate(&["up"]);
    Launch::new(dir.path(), &database).start().stop();
}

#[test]
fn a_taken_port_names_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = run(&["serve", "--data-dir", dir, "--port", &port]);
    ended.assert_refusal(75, &["--port", &port]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!(ended.stderr.matches("os error").count(), 1, "{ended:?}");
}

#[test]
fn a_data_directory_that_cannot_be_made_needs_a_person() {
    let dir = tempfile::tempdir().unwrap();
    // No directory can be made below a file, not even by root.
    let file = dir.path().join("file");
    fs::write(&file, "kept").unwrap();
    let impossible = file.join("x");
    let ended = Launch::new(&impossible, &Database::embedded(&impossible)).run_to_end();
    ended.assert_refusal(78, &[impossible.to_str().unwrap(), "--data-dir"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!(ended.stderr.matches("os error").count(), 1, "{ended:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}

#[test]
fn a_bad_flag_is_a_usage_error_and_a_contradiction_a_configuration_error() {
    run(&["serve", "--prot", "1"]).assert_refusal(2, &["--prot", "--port"]);
    run(&["serve", "--wal-bytes-max", "much"]).assert_refusal(2, &["--wal-bytes-max"]);
    // A negative number is a value that the flag refuses, not a flag that nobody knows.
    run(&["serve", "--port", "-1"]).assert_refusal(2, &["--port", "65535"]);
    run(&["serve", "--ring-slots", "-5"]).assert_refusal(2, &["--ring-slots", "whole number"]);
    run(&["serve", "--header-timeout", "1ns"]).assert_refusal(2, &["--header-timeout", "at least 1ms"]);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    run(&["serve", "--data-dir", dir, "--wal-bytes-max", "1MiB"]).assert_refusal(78, &["--wal-bytes-max"]);
    run(&["serve", "--data-dir", dir, "--database-url", "mysql://x"]).assert_refusal(78, &["postgres://"]);
}

#[test]
fn damage_to_acknowledged_events_is_refused_by_name_and_mended_by_the_right_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    let launch = Launch::new(dir.path(), &database);
    let server = launch.start();
    let mut sent = users("one");
    post(&server, &sent);
    let more = users("two");
    post(&server, &more);
    sent.extend(more);
    server.stop();

    let segment = last_segment(&dir.path().join("wal"));
    let sound = fs::read(&segment).unwrap();
    let mut damaged = sound.clone();
    // In the payload of the first record, which follows the header of 96 bytes.
    damaged[96 + 32 + 10] ^= 0x40;
    fs::write(&segment, &damaged).unwrap();

    let name = segment.file_name().unwrap().to_str().unwrap();
    let named = [name, "byte 96", "damaged"];
    launch.run_to_end().assert_refusal(65, &named);
    let inspected = run(&["wal", "inspect", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(inspected.code(), 65, "{inspected:?}");
    assert!(inspected.stdout.contains(name), "{inspected:?}");
    launch.run_to_end().assert_refusal(65, &named);
    assert_eq!(fs::read(&segment).unwrap(), damaged, "left as it was");
    assert_eq!(last_segment(&dir.path().join("wal")), segment);

    fs::write(&segment, &sound).unwrap();
    let server = launch.start();
    let more = users("three");
    post(&server, &more);
    sent.extend(more);
    server.wait_until_flushed();
    server.stop();
    assert_stored_once(&database.events(), &sent);
}

/// The damage looks like a write that the kill cut short, so the message must say which events may be missing and where
/// the copy is.
#[test]
fn a_cut_in_the_newest_record_after_a_kill_names_the_sequences_and_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let database = Database::embedded(dir.path());
    // Nothing is flushed before the kill.
    let launch = Launch::new(dir.path(), &database).with("--flush-interval", "1h");
    let server = launch.start();
    post(&server, &users("acknowledged"));
    server.kill();
    let segment = last_segment(&wal);
    let bytes = fs::read(&segment).unwrap();
    // The record follows the segment's header and begins with its own header: checksum, then length.
    let payload = u32::from_le_bytes(bytes[100..104].try_into().unwrap());
    let end = 96 + 32 + payload as usize;
    fs::write(&segment, &bytes[..end - 3]).unwrap();

    let named = format!("at byte 96 of {}, in which sequences 1 to 20 were", segment.display());
    let inspected = run(&["wal", "inspect", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(inspected.code(), 0, "{inspected:?}");
    assert!(inspected.stdout.contains(&named), "{inspected:?}");
    let server = launch.start();
    let copy = format!("{}.torn-96", segment.display());
    server.wait_for_log(&format!("{named}; it is kept in {copy}."));
    assert_eq!(fs::read(copy).unwrap(), &bytes[96..end - 3]);
    server.stop();
}

#[test]
fn a_log_without_its_newest_segment_is_refused_by_name_and_mended_by_its_return() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    let launch = Launch::new(dir.path(), &database);
    let server = launch.start();
    let mut sent = users("one");
    post(&server, &sent);
    server.stop();

    let segment = last_segment(&dir.path().join("wal"));
    let away = dir.path().join("away.wal");
    fs::rename(&segment, &away).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap();
    let named = [name, "missing", "through 20"];
    launch.run_to_end().assert_refusal(65, &named);
    let inspected = run(&["wal", "inspect", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(inspected.code(), 65, "{inspected:?}");
    assert!(inspected.stdout.contains(name), "{inspected:?}");

    fs::rename(&away, &segment).unwrap();
    let server = launch.start();
    let more = users("two");
    post(&server, &more);
    sent.extend(more);
    server.wait_until_flushed();
    server.stop();
    assert_stored_once(&database.events(), &sent);
}

/// The port is taken, so the server cannot have answered any client.
#[test]
fn a_log_that_the_database_does_not_match_is_marked_before_anything_listens() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    let launch = Launch::new(dir.path(), &database);
    let (wal, older) = (dir.path().join("wal"), dir.path().join("older"));
    let mut sent = Vec::new();
    for name in ["one", "two"] {
        let server = launch.start();
        let more = users(name);
        post(&server, &more);
        server.wait_until_flushed();
        server.stop();
        sent.extend(more);
        if name == "one" {
            copy_files(&wal, &older);
        }
    }
    fs::remove_dir_all(&wal).unwrap();
    fs::rename(&older, &wal).unwrap();

    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = launch.clone().on_port(port).run_to_end();
    refused.assert_refusal(75, &["--port"]);
    let mark = fs::read_to_string(wal.join("MISMATCH")).unwrap();
    assert!(mark.contains("through sequence 40"), "{mark}");

    let server = launch.start();
    let answer = server.request("POST", "/events/bulk", &bulk_of(&users("three")));
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["code"], "log_mismatch", "{answer:?}");
    server.stop();
    assert_stored_once(&database.events(), &sent);
}

#[test]
fn an_answer_that_nobody_reads_is_no_failure_and_one_that_finds_no_space_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("wal")).unwrap();
    let dir = dir.path().to_str().unwrap();
    for command in [["wal", "inspect"], ["migrate", "up"]] {
        let arguments = [command[0], command[1], "--data-dir", dir];
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, stderr) = run_into(&arguments, writer);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(!stderr.contains("standard output"), "{stderr}");

        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, stderr) = run_into(&arguments, full);
        assert_eq!(code, Some(74), "{stderr}");
        assert!(stderr.contains("standard output"), "{stderr}");
    }
}

fn last_segment(wal: &Path) -> PathBuf {
    let files = fs::read_dir(wal).unwrap().map(|file| file.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|end| end == "wal"));
    segments.max().expect("a log has a segment")
}
