//! `fast-ingest import`, run as a process against a scripted server: what it stores, which failures it survives, how it
//! ends.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, not in their helpers"
)]

mod endings;
mod server;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use server::{Reply, Server, judge};
use tempfile::TempDir;

/// A test that waits this long has failed; it should say so instead of hanging.
const TOO_LONG: Duration = Duration::from_secs(60);

/// How a run ended.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn command(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fast-ingest"));
    command.args(["import", "--url", url]).args(args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn import(server: &Server, file: &Path, args: &[&str]) -> Ended {
    ended(command(&server.url(), args).arg(file).spawn().unwrap())
}

fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Lines `{"n":1,…}` to `{"n":count,…}`.
fn lines(count: u64) -> String {
    (1..=count)
        .map(|n| format!("{{\"n\":{n},\"event_name\":\"page_view\"}}\n"))
        .collect()
}

fn file(dir: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn all(count: u64) -> Vec<u64> {
    (1..=count).collect()
}

#[test]
fn every_line_is_stored_and_a_second_run_stores_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(2500));
    let server = Server::start(|_, events| {
        assert!(events.len() <= 100);
        Reply::Store
    });
    let first = import(&server, &path, &["--batch-events", "100"]);
    assert_eq!(first.status, Some(0), "{first:?}");
    assert!(
        first.stdout.starts_with("2,500 events accepted from 1 file in "),
        "{first:?}"
    );
    assert!(first.stdout.ends_with(" events/s), 0 refused\n"), "{first:?}");
    let stored = server.store.by_id();
    assert_eq!(server.store.numbers(), all(2500));
    assert_eq!(server.store.requests(), 25);

    let second = import(
        &server,
        &path,
        &["--batch-events", "33", "--connections", "2", "--quiet"],
    );
    assert_eq!((second.status, second.stdout.as_str()), (Some(0), ""), "{second:?}");
    assert_eq!(
        server.store.by_id(),
        stored,
        "ids depend neither on batches nor on connections"
    );
}

#[test]
fn compressed_files_and_standard_input_give_the_same_events() {
    let dir = tempfile::tempdir().unwrap();
    let text = lines(300);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text.as_bytes()[..5000]).unwrap();
    let mut members = gzip.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text.as_bytes()[5000..]).unwrap();
    members.extend(gzip.finish().unwrap());
    // Zeros at the end, as a tape or a block device leaves them.
    let padded = [&members[..], &[0; 1000]].concat();
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let paths = [
        file(&dir, "plain.ndjson", text.trim_end()),
        file(&dir, "windows.ndjson", windows),
        file(&dir, "two-members.ndjson.gz", &members),
        file(&dir, "padded.ndjson.gz", padded),
        file(&dir, "gzip-by-another-name.ndjson", &members),
        file(&dir, "z.ndjson.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
    ];
    let mut stores = Vec::new();
    for path in &paths {
        let server = Server::start(|_, _| Reply::Store);
        let ended = import(&server, path, &[]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        stores.push(server.store.by_id());
    }
    for piped in [text.as_bytes(), &members] {
        let server = Server::start(|_, _| Reply::Store);
        let mut child = command(&server.url(), &["-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(piped).unwrap();
        let ended = ended(child);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(ended.stdout.starts_with("300 events accepted from 1 file"), "{ended:?}");
        assert_eq!(server.store.numbers(), all(300));
        for store in &stores {
            assert_eq!(*store, server.store.by_id());
        }
    }
}

#[test]
fn lost_answers_broken_connections_and_a_busy_server_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(1000));
    let server = Server::start(|number, _| match number {
        1 => Reply::HangUp,
        3 | 6 => Reply::StoreAndHangUp,
        4 => Reply::Answer(503, "retry-after: 1\r\n", String::new()),
        5 => Reply::Answer(429, "retry-after: 0\r\n", String::new()),
        8 => Reply::Answer(408, "connection: close\r\n", String::new()),
        9 => Reply::Answer(500, "", "<html>".to_owned()),
        _ => Reply::Store,
    });
    let ended = import(&server, &path, &["--batch-events", "100"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("1,000 events accepted"), "{ended:?}");
    assert_eq!(server.store.numbers(), all(1000));
    assert_eq!(server.store.requests(), 10 + 7, "each failure is tried again once");
}

#[test]
fn a_restart_of_the_server_is_ridden_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(1000));
    let (crash, crashed) = mpsc::channel();
    let crash = Mutex::new(crash);
    let mut server = Server::start(move |number, _| match number {
        0..=2 => Reply::Store,
        _ => {
            crash.lock().unwrap().send(()).unwrap_or_default();
            Reply::HangUp
        }
    });
    let child = command(&server.url(), &["--batch-events", "50"])
        .arg(&path)
        .spawn()
        .unwrap();
    crashed.recv_timeout(TOO_LONG).unwrap();
    server.stop();
    // The closed port now refuses connections; import retries until a server listens again.
    let server = Server::start_at(server.address, Arc::clone(&server.store), |_, _| Reply::Store);
    let ended = ended(child);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(server.store.numbers(), all(1000));
}

#[test]
fn without_event_ids_lines_are_sent_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", "{\"n\":1}\n{\"n\":2,\"event_id\":\"mine\"}\n");
    let server = Server::start(|_, _| Reply::Store);
    let ended = import(&server, &path, &["--no-event-id"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(server.store.without_id(), [json!({"n": 1})]);
    assert_eq!(server.store.by_id()["mine"], json!({"n": 2, "event_id": "mine"}));
}
