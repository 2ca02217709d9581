//! Real events against answers that were computed without this program: the flights from New York in 2013 (CC0).
//!
//! Six days of them, around a blizzard, are in `fixtures`. The whole year is used if it is present beside the
//! repository.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::thread;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::process::{Launch, Server, run};

#[test]
fn six_days_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &Database::embedded(dir.path()), &sample());
}

#[test]
fn six_days_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &Database::migrated(Cluster::shared()), &sample());
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

/// The compressed events, one per line, and the queries with their answers.
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
    let server = Launch::new(data_dir, database)
        .with("--rollup-interval", "100ms")
        .start();
    import(&server.url(), &files.events, &[]);
    assert_answers(&server, files);
    database.wait_until_compacted();
    assert_answers(&server, files);
    assert_new_york_days(&server, &files.events);
    database.assert_rollups_are_right();

    tamper(database);
    assert_named(database);
    let rebuilt = run(&[&["rollup", "rebuild"][..], &database.flags()].concat());
    assert_eq!(rebuilt.code(), 0, "{rebuilt:?}");
    database.assert_rollups_are_right();
    assert_answers(&server, files);
    server.stop();
}

/// A rollup that gets one event too many: departures of JetBlue in a quarter of an hour of the day before the blizzard.
const TAMPERED: (&str, &str) = ("departure / B6", "2013-02-07T23:00:00Z");

fn tamper(database: &Database) {
    let bucket = match database {
        Database::Sqlite(_) => "unixepoch('2013-02-07T23:00:00Z') * 1000000",
        Database::Postgres(_) => "timestamptz '2013-02-07T23:00:00Z'",
    };
    let row = format!(
        "series_id = (SELECT id FROM rollup_series WHERE event_name = 'departure' AND channel = 'B6') AND bucket = {bucket}"
    );
    let found = database.rows(&format!("SELECT count(*) FROM rollups WHERE {row}"));
    assert_eq!(found, ["1"]);
    database.execute(&format!("UPDATE rollups SET events = events + 1 WHERE {row}"));
}

/// `verify` names the rollup that was tampered with. The sum of its day, if it exists by now, may be from before or
/// after.
fn assert_named(database: &Database) {
    let ended = run(&[&["verify"][..], &database.flags()].concat());
    assert_eq!(ended.code(), 65, "{ended:?}");
    let (series, bucket) = TAMPERED;
    let (of_day, of_bucket): (Vec<_>, Vec<_>) = ended.stdout.lines().partition(|line| line.contains(", 1 day: "));
    let [line] = of_bucket[..] else { panic!("{ended:?}") };
    let prefix = format!("{series}, {bucket}, 15 min: rollups have ");
    assert!(line.starts_with(&prefix), "{ended:?}");
    let numbers = line[prefix.len()..].replace(" events, the rows", "");
    let numbers: Vec<u64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(numbers[1] > 0 && numbers[0] == numbers[1] + 1, "{ended:?}");
    assert!(of_day.len() <= 1, "{ended:?}");
    let day = format!("{series}, 2013-02-07T00:00:00Z, 1 day: the sum has ");
    assert!(of_day.iter().all(|line| line.starts_with(&day)), "{ended:?}");
}

/// Days and hours in the flights' time zone, against a plain recount of the file.
fn assert_new_york_days(server: &Server, events: &Path) {
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let (mut days, mut hours) = (Recount::default(), Recount::default());
    // First the blizzard, from the evening before; then the whole time.
    let (from, to) = (1_360_282_345, 1_360_500_000);
    for line in BufReader::new(GzDecoder::new(File::open(events).unwrap())).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["event_name"] != "departure" {
            continue;
        }
        let second = event["timestamp"].as_i64().unwrap();
        let user = event["user_id"].as_str().unwrap();
        let instant = jiff::Timestamp::from_second(second).unwrap();
        let midnight = zone.to_datetime(instant).date().at(0, 0, 0, 0);
        let start = zone.to_ambiguous_timestamp(midnight).unambiguous().unwrap();
        days.add(start, user);
        if (from..to).contains(&second) {
            // Full hours in New York are full hours in UTC.
            let hour = jiff::Timestamp::from_second(second - second.rem_euclid(3600)).unwrap();
            hours.add(hour, user);
        }
    }
    for (recount, mut query) in [
        (
            days,
            json!({"from": 1_350_000_000, "to": 1_400_000_000, "group_by": "day"}),
        ),
        (hours, json!({"from": from, "to": to, "group_by": "hour"})),
    ] {
        query["event_name"] = json!("departure");
        query["tz"] = json!("America/New_York");
        assert_eq!(ask(server, &query), recount.answer(), "{query}");
    }
}

/// Events and users by the beginning of their group.
#[derive(Default)]
struct Recount {
    total: (u64, HashSet<String>),
    groups: BTreeMap<String, (u64, HashSet<String>)>,
}

impl Recount {
    fn add(&mut self, start: jiff::Timestamp, user: &str) {
        let group = self.groups.entry(start.to_string()).or_default();
        for (events, users) in [&mut self.total, group] {
            *events += 1;
            users.insert(user.to_owned());
        }
    }

    /// The recount in the shape of `ask`.
    fn answer(&self) -> Value {
        let groups = self
            .groups
            .iter()
            .map(|(start, (events, users))| (start.clone(), json!([events, users.len()])));
        json!({
            "total_events": self.total.0,
            "unique_users": self.total.1.len(),
            "groups": groups.collect::<serde_json::Map<_, _>>(),
        })
    }
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

/// Answers are lost and requests are sent again; the event ids of the import keep the counts right.
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
    // Import the file again from the start: every event is there already.
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

/// The server's answer with every user counted, in the shape of the expected answers: groups as a map from key to the
/// two counts. The quick answer has the same numbers except where it estimates many users.
fn ask(server: &Server, query: &Value) -> Value {
    let mut exactly = query.clone();
    exactly["exact"] = json!(true);
    let (exact, quick) = (report(server, &exactly), report(server, query));
    assert_is_near(&quick, &exact);
    let mut shaped = json!({
        "total_events": exact["total_events"],
        "unique_users": exact["unique_users"],
    });
    if query.get("group_by").is_some() {
        let groups = groups(&exact).iter().map(|group| {
            let key = group.get("channel").unwrap_or(&group["start"]);
            let counts = json!([group["total_events"], group["unique_users"]]);
            (key.as_str().unwrap().to_owned(), counts)
        });
        shaped["groups"] = groups.collect();
    }
    shaped
}

fn report(server: &Server, query: &Value) -> Value {
    let parameters = query.as_object().unwrap().iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={value}")
    });
    let path = format!("/metrics?{}", parameters.collect::<Vec<_>>().join("&"));
    let answer = server.request("GET", &path, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn groups(report: &Value) -> &[Value] {
    let groups = report.get("groups").and_then(Value::as_array);
    groups.map_or(&[], Vec::as_slice)
}

/// Events are always exact; users may be estimated with a standard error, of which four are allowed.
fn assert_is_near(quick: &Value, exact: &Value) {
    assert_eq!(groups(quick).len(), groups(exact).len(), "{quick} {exact}");
    let pairs = groups(quick).iter().zip(groups(exact));
    for (quick, exact) in pairs.chain([(quick, exact)]) {
        for same in ["total_events", "start", "channel"] {
            assert_eq!(quick.get(same), exact.get(same), "{quick} {exact}");
        }
        let users = |of: &Value| of["unique_users"].as_f64().unwrap();
        let error = quick["unique_users_error"].as_f64().unwrap();
        assert!((0.0..0.01).contains(&error), "{quick}");
        let is_near = (users(quick) - users(exact)).abs() <= 4.0 * error * users(exact);
        assert!(is_near, "{quick} {exact}");
    }
}
