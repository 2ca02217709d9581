//! More pairs of event name and channel on a day than the server keeps series for: every event is still stored and
//! counted, and the number of series in the database stays within the cap.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::process::{Launch, Server, run};

/// 2026-02-01T00:00:00Z.
const DAY: i64 = 1_769_904_000;
const CHANNELS: usize = 5;
const PAIRS_MAX: &str = "20";

#[test]
fn pairs_beyond_the_cap_are_stored_and_counted_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &Database::embedded(dir.path()));
}

#[test]
fn pairs_beyond_the_cap_are_stored_and_counted_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &Database::migrated(Cluster::shared()));
}

fn check(data_dir: &Path, database: &Database) {
    let launch = Launch::new(data_dir, database)
        .with("--rollup-interval", "20ms")
        .with("--rollup-pairs-max", PAIRS_MAX);
    let server = launch.start();
    // 60 pairs, and after a restart 60 more in other channels or of other names.
    post(&server, 0..12);
    assert_counted(&server, database, 12);
    server.stop();
    let server = launch.start();
    post(&server, 12..24);
    assert_counted(&server, database, 24);

    // Other pairs may get the series now, but no more pairs than before.
    let rebuild = ["rollup", "rebuild", "--rollup-pairs-max", PAIRS_MAX];
    let rebuilt = run(&[&rebuild[..], &database.flags()].concat());
    assert_eq!(rebuilt.code(), 0, "{rebuilt:?}");
    assert_eq!(pairs_kept(database), PAIRS_MAX);
    database.assert_rollups_are_right();
    assert_answers(&server, 24);
    server.stop();
}

fn assert_counted(server: &Server, database: &Database, names: usize) {
    server.wait_until_flushed();
    database.wait_until_compacted();
    let events: usize = (0..names).map(|name| CHANNELS * events_of(name)).sum();
    let stored = database.rows("SELECT count(*) FROM events");
    assert_eq!(stored, [events.to_string()]);
    let pairs = database.rows("SELECT count(*) FROM rollup_series WHERE channel IS NOT NULL");
    // The first pairs, and perhaps also those with most events, if the server found that the day has ended.
    let pairs_max: usize = PAIRS_MAX.parse().unwrap();
    let pairs: usize = pairs[0].parse().unwrap();
    assert!((pairs_max..=2 * pairs_max).contains(&pairs), "{pairs}");
    assert_eq!(pairs_kept(database), PAIRS_MAX);
    // Names get series with their pairs, and one series counts everything.
    let others = database.rows(
        "SELECT count(*) - 1 - (SELECT count(DISTINCT event_name) FROM rollup_series WHERE channel IS NOT NULL)
         FROM rollup_series WHERE channel IS NULL",
    );
    assert_eq!(others, ["0"]);
    database.assert_rollups_are_right();
    assert_answers(server, names);
}

/// Number of pairs with parts.
fn pairs_kept(database: &Database) -> String {
    let sql =
        "SELECT count(DISTINCT series_id) FROM rollups JOIN rollup_series ON series_id = id WHERE channel IS NOT NULL";
    database.rows(sql).remove(0)
}

/// Events of a name, per channel.
fn events_of(name: usize) -> usize {
    2 + name % 3
}

/// Sends the events of some names: each user of a name is in all channels, and each event of a channel has another
/// user.
fn post(server: &Server, names: Range<usize>) {
    for name in names {
        let mut body = String::new();
        for channel in 0..CHANNELS {
            for user in 0..events_of(name) {
                let second = DAY + i64::try_from(name * 3_000 + channel * 400 + user).unwrap();
                let comma = if body.is_empty() { '[' } else { ',' };
                write!(
                    body,
                    r#"{comma}{{"event_name":"name-{name}","channel":"channel-{channel}","user_id":"user-{user}","timestamp":{second}}}"#
                )
                .unwrap();
            }
        }
        let answer = server.request("POST", "/events/bulk", &(body + "]"));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
}

/// Asks for each pair, each name, everything, and all of it in groups.
fn assert_answers(server: &Server, names: usize) {
    let mut overflowed = 0;
    for name in 0..names {
        let users = events_of(name);
        for channel in 0..CHANNELS {
            let report = ask(server, &format!("name-{name}"), &format!("&channel=channel-{channel}"));
            assert_eq!(counts(&report), (users, users), "{name} {channel}");
            overflowed += usize::from(is_overflowed(&report));
        }
        let report = ask(server, &format!("name-{name}"), "");
        assert_eq!(counts(&report), (CHANNELS * users, users), "{name}");
    }
    // All pairs but those with series.
    assert_eq!(overflowed, names * CHANNELS - 20);
    let everything = ask(server, "*", "");
    let events = (0..names).map(|name| CHANNELS * events_of(name)).sum();
    assert_eq!(counts(&everything), (events, 4));
    assert!(!is_overflowed(&everything), "it has a series");

    let report = ask(server, "*", "&group_by=event_name,channel");
    assert!(is_overflowed(&report));
    assert_eq!(counts(&report), (events, 4));
    let groups = report["groups"].as_array().unwrap();
    assert_eq!(groups.len(), names * CHANNELS);
    for group in groups {
        let (_, name) = group["event_name"].as_str().unwrap().split_once('-').unwrap();
        let users = events_of(name.parse().unwrap());
        assert_eq!(counts(group), (users, users), "{group}");
    }
}

/// A query over a range too long to be counted from events anyway.
fn ask(server: &Server, event_name: &str, more: &str) -> Value {
    let (from, to) = (DAY - 30 * 86_400, DAY + 30 * 86_400);
    let path = format!("/metrics?event_name={event_name}&from={from}&to={to}{more}");
    let answer = server.request("GET", &path, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn is_overflowed(report: &Value) -> bool {
    report.get("overflowed").is_some_and(|told| told == true)
}

fn counts(of: &Value) -> (usize, usize) {
    let number = |name: &str| usize::try_from(of[name].as_u64().unwrap()).unwrap();
    (number("total_events"), number("unique_users"))
}
