//! Requests that cost more than they look like: many invented pairs of name and channel, several exact questions at
//! once, an event of every month of years ago. Other clients notice nothing; the stores take turns.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::process::{PATIENCE, Server};
use crate::support::random::Random;
use crate::torture::plans::legs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// One fault of each kind in a leg.
const FAULTS_A_LEG: u32 = 3;
const DAY: u64 = 86_400;
const PAIRS_MAX: &str = "100";
/// Prefix of the plan's own events, beside the clients'.
const OURS: &str = "bounds-";
/// Events in one request.
const BULK: usize = 1_000;
/// Number of names; every question must keep all users of each.
const NAMES: usize = 4_000;
/// Enough memory for one such question, but not for all.
const QUERY_BYTES_MAX: &str = "2MiB";
const QUESTIONS_AT_ONCE: usize = 4;
/// Days before now at which three past years begin, with one event in each month. Not longer ago, because `verify` goes
/// day by day.
const HISTORY_BEGAN: u64 = 9 * 365;
const HISTORY_MONTHS: u64 = 36;
/// One partition for each of these years, which need not begin in January, and some for all other events.
const PARTITIONS_MAX: usize = 10;
/// Names that the product sends every day.
const REAL: Range<usize> = 0..20;

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    for (number, faults) in legs(cycles, FAULTS_A_LEG).enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let database = match number % 2 {
            0 => Database::migrated(Cluster::shared()),
            _ => Database::embedded(dir.path()),
        };
        leg(dir.path(), &database, faults, random, report);
    }
}

fn leg(data_dir: &Path, database: &Database, faults: Range<u32>, random: &mut Random, report: &mut Report) {
    let launch = Rig::busy(data_dir, database)
        .with("--rollup-interval", "100ms")
        .with("--rollup-pairs-max", PAIRS_MAX)
        .with("--query-bytes-max", QUERY_BYTES_MAX);
    let rig = Rig::start_lightly(data_dir, database, launch);
    for fault in faults {
        rig.load().wait_for_acks(random.below(20));
        report.fired(match fault % FAULTS_A_LEG {
            0 => {
                invent_pairs(rig.server(), database);
                "pairs invented"
            }
            1 => {
                ask_at_once(rig.server());
                "questions at once"
            }
            _ => {
                send_history(rig.server(), database);
                "history in one request"
            }
        });
    }
    let (ledger, database) = rig.finish_unchecked(report);
    let mut stored = database.events();
    stored.retain(|event| !event.user_id.starts_with(OURS));
    report.add(ledger.audit(&stored));
}

/// New pairs dated tomorrow must not take the rollups from pairs that a product sends every day.
fn invent_pairs(server: &Server, database: &Database) {
    let today = now();
    // The first second of the next day, in UTC: whatever the hour, it is another day, and not too far ahead.
    let tomorrow = (today / DAY + 1) * DAY;
    send(server, REAL.map(|n| (format!("real-{n}"), today)));
    database.wait_for("counted", |database| {
        database.rows("SELECT count(*) FROM rollup_series WHERE event_name LIKE 'real-%'")
            == [(2 * REAL.len()).to_string()]
    });
    send(server, (0..BULK).map(|n| (format!("0-invented-{n}"), tomorrow)));
    let overflowed = "SELECT count(*) FROM rollup_overflow WHERE events > 800";
    database.wait_for("overflowed", |database| database.rows(overflowed) != ["0"]);
    send(server, REAL.map(|n| (format!("real-{n}"), tomorrow)));
    for n in REAL {
        let (from, to) = (tomorrow, tomorrow + 1);
        let answer = server.request("GET", &format!("/metrics?event_name=real-{n}&from={from}&to={to}"), "");
        let report = answer.json();
        assert_eq!(report["total_events"], 1, "{report}");
        assert_eq!(report.get("overflowed"), None, "{report}");
    }
}

/// Asks several questions at once that each need millions of bytes: each is answered or refused because of the others,
/// and afterwards their memory is free again.
fn ask_at_once(server: &Server) {
    let at = now();
    for bulk in 0..NAMES / BULK {
        let names = (0..BULK).map(|n| (format!("many-{bulk}-{n}"), at));
        send(server, names);
    }
    let (from, to) = (at - 1, at + 1);
    let question = format!("/metrics?event_name=*&from={from}&to={to}&exact=true&group_by=event_name&limit=10");
    let ask = || server.request("GET", &question, "");
    thread::scope(|scope| {
        let asking: Vec<_> = (0..QUESTIONS_AT_ONCE).map(|_| scope.spawn(ask)).collect();
        for answer in asking.into_iter().map(|asking| asking.join().unwrap()) {
            let code = answer.json()["code"].clone();
            let is_expected = answer.status == 200 || (answer.status, &code) == (503, &Value::from("query_memory"));
            assert!(is_expected, "{answer:?}");
        }
    });
    for _ in 0..2 {
        let answer = ask();
        assert_eq!(answer.status, 200, "the memory is given back: {answer:?}");
    }
}

/// Sends one event for each month of some years in one request.
fn send_history(server: &Server, database: &Database) {
    let began = now() - HISTORY_BEGAN * DAY;
    let months = (0..HISTORY_MONTHS).map(|n| began + n * 30 * DAY);
    send(server, months.map(|at| ("history".to_owned(), at)));
    if let Database::Postgres(_) = database {
        let sql = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass";
        let partitions: usize = database.rows(sql)[0].parse().unwrap();
        assert!(partitions <= PARTITIONS_MAX, "{partitions} partitions");
    }
}

/// Sends events of these names and times, each of another user, and waits until they are stored.
fn send(server: &Server, events: impl IntoIterator<Item = (String, u64)>) {
    let mut body = String::new();
    for (number, (name, at)) in events.into_iter().enumerate() {
        let comma = if body.is_empty() { '[' } else { ',' };
        write!(
            body,
            r#"{comma}{{"event_name":"{name}","channel":"web","user_id":"{OURS}{name}-{number}","timestamp":{at}}}"#
        )
        .unwrap();
    }
    body.push(']');
    let answer = server.request("POST", "/events/bulk", &body);
    assert_eq!(answer.status, 202, "{answer:?}");
    let receipt = answer.json()["receipt"].as_str().unwrap().to_owned();
    let question = format!("/metrics?event_name=none&from=0&to=1&after={receipt}");
    let give_up_at = Instant::now() + PATIENCE;
    while server.request("GET", &question, "").status != 200 {
        assert!(Instant::now() < give_up_at, "never stored");
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("the clock is set").as_secs()
}
