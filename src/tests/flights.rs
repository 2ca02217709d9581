//! Real events against answers that were computed without this program: the flights from New York in 2013 (CC0).
//!
//! Six days of them, around a blizzard, live in `fixtures`. The whole year is used where it lies beside the repository.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::thread;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::postgres::Cluster;
use crate::process::client::Connection;
use crate::process::stored::Database;
use crate::process::{Launch, Server};

/// Events in a request, the most that the server takes.
const BULK: usize = 1000;
/// Requests at a time: the server's log thread syncs one while the next is parsed.
const CLIENTS: usize = 2;

#[test]
fn six_days_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &Database::embedded(dir.path()), &sample());
}

#[test]
fn six_days_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    check(
        dir.path(),
        &Database::migrated(Cluster::shared()),
        &sample(),
    );
}

#[test]
fn the_whole_year_on_sqlite() {
    let Some(files) = whole_year() else { return };
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &Database::embedded(dir.path()), &files);
}

#[test]
fn the_whole_year_on_postgresql() {
    let Some(files) = whole_year() else { return };
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &Database::migrated(Cluster::shared()), &files);
}

/// Events, one a line and compressed, and the queries with their answers.
struct Files {
    events: PathBuf,
    expected: PathBuf,
}

fn sample() -> Files {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/fixtures");
    Files {
        events: fixtures.join("flights-sample.ndjson.gz"),
        expected: fixtures.join("flights-sample.expected.json"),
    }
}

fn whole_year() -> Option<Files> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let files = Files {
        events: data.join("flights.ndjson.gz"),
        expected: data.join("flights.expected.json"),
    };
    let are_there = files.events.exists() && files.expected.exists();
    if !are_there {
        eprintln!("not run, the six days were: no {}", data.display());
    }
    are_there.then_some(files)
}

fn check(data_dir: &Path, database: &Database, files: &Files) {
    let expected: Value = serde_json::from_reader(File::open(&files.expected).unwrap()).unwrap();
    let server = Launch::new(data_dir, database).start();
    let sent = send_all(&server, &files.events);
    assert_eq!(expected["events"], sent);
    server.wait_until_flushed();
    let queries = expected["queries"].as_array().unwrap();
    assert!(queries.len() >= 6);
    for query in queries {
        let answer = ask(&server, &query["query"]);
        assert_eq!(answer, query["answer"], "{}", query["query"]);
    }
    server.stop();
}

/// Sends every line of a file as an event and returns how many there were.
fn send_all(server: &Server, path: &Path) -> usize {
    let file = BufReader::new(GzDecoder::new(File::open(path).unwrap()));
    let lines: Vec<String> = file.lines().map(Result::unwrap).collect();
    let bulks: Vec<&[String]> = lines.chunks(BULK).collect();
    thread::scope(|scope| {
        for bulks in bulks.chunks(bulks.len().div_ceil(CLIENTS)) {
            scope.spawn(move || {
                let mut connection = Connection::open(server.address()).unwrap();
                for bulk in bulks {
                    let body = format!("[{}]", bulk.join(","));
                    let answer = connection.request("POST", "/events/bulk", body.as_bytes());
                    let answer = answer.unwrap();
                    assert_eq!(answer.status, 202, "{answer:?}");
                    assert_eq!(answer.json()["accepted"], bulk.len());
                }
            });
        }
    });
    lines.len()
}

/// The server's answer, in the shape of the expected ones: groups as a map from key to the two counts.
fn ask(server: &Server, query: &Value) -> Value {
    let parameters = query.as_object().unwrap().iter().map(|(name, value)| {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={value}")
    });
    let path = format!("/metrics?{}", parameters.collect::<Vec<_>>().join("&"));
    let answer = server.request("GET", &path, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let report = answer.json();
    let mut shaped = json!({
        "total_events": report["total_events"],
        "unique_users": report["unique_users"],
    });
    if query.get("group_by").is_some() {
        let groups = report["groups"].as_array().unwrap().iter().map(|group| {
            let key = group.get("channel").unwrap_or(&group["start"]);
            let counts = json!([group["total_events"], group["unique_users"]]);
            (key.as_str().unwrap().to_owned(), counts)
        });
        shaped["groups"] = groups.collect();
    }
    shaped
}
