//! Real events against answers that were computed without this program: the flights from New York in 2013 (CC0).
//!
//! Six days of them, around a blizzard, live in `fixtures`. The whole year is used where it lies beside the repository.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};

use crate::postgres::Cluster;
use crate::process::stored::Database;
use crate::process::{Launch, Server, run};

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
        eprintln!(
            "skipped, only the six days are checked: no flights in {}",
            data.display()
        );
    }
    are_there.then_some(files)
}

fn check(data_dir: &Path, database: &Database, files: &Files) {
    let server = Launch::new(data_dir, database).start();
    import(&server.url(), &files.events, &[]);
    assert_answers(&server, files);
    server.stop();
}

#[test]
fn an_import_rides_out_kills_of_the_server_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    rides_out_kills(dir.path(), &Database::embedded(dir.path()));
}

#[test]
fn an_import_rides_out_kills_of_the_server_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    rides_out_kills(dir.path(), &Database::migrated(Cluster::shared()));
}

/// Answers get lost and requests are sent again; the event ids of the import keep the counts right.
fn rides_out_kills(data_dir: &Path, database: &Database) {
    let files = sample();
    let launch = Launch::new(data_dir, database);
    let server = launch.start();
    let (url, launch) = (server.url(), launch.on_port(server.address().port()));
    let mut server = Some(server);
    // More than a thousand requests: the last kill comes long before the end.
    let small_requests = ["--batch-events", "4", "--connections", "2"];
    thread::scope(|scope| {
        let importing = scope.spawn(|| import(&url, &files.events, &small_requests));
        for part in [500, 1000, 1500] {
            let durable = |health: &Value| health["log"]["durable_through"].as_u64().unwrap();
            let running = server.take().unwrap();
            running.wait_for_health("that far", |health| durable(health) >= part);
            assert!(!importing.is_finished(), "the kill comes too late");
            running.kill();
            server = Some(launch.start());
        }
        importing.join().unwrap();
    });
    // Once more from the start: every event is there already.
    import(&url, &files.events, &[]);
    let server = server.unwrap();
    assert_answers(&server, &files);
    server.stop();
    let count = database.rows("SELECT count(*) FROM events");
    assert_eq!(count, [read_json(&files.expected)["events"].to_string()]);
}

fn import(url: &str, events: &Path, flags: &[&str]) {
    let command = ["import", events.to_str().unwrap(), "--url", url];
    let ended = run(&[&command, flags].concat());
    assert_eq!(ended.code(), 0, "{ended:?}");
}

fn assert_answers(server: &Server, files: &Files) {
    server.wait_until_flushed();
    let expected = read_json(&files.expected);
    let queries = expected["queries"].as_array().unwrap();
    assert!(queries.len() >= 6, "{}", files.expected.display());
    for query in queries {
        let answer = ask(server, &query["query"]);
        assert_eq!(answer, query["answer"], "{}", query["query"]);
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_reader(File::open(path).unwrap()).unwrap()
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
