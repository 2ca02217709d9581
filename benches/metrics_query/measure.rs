//! Questions, how long their answers take, and how far the answers are off.

use std::ops::Range;
use std::time::Instant;

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::{DAY_MICROS, HOUR_MICROS, TimeUnit};
use fast_ingest::query::{Grouping, MetricsQuery};
use fast_ingest::store::EventStore;

use super::BUDGET;
use super::database::Database;
use crate::support::quantile;
use crate::traffic::{DAYS, NAMES, Traffic, mix};

/// Questions that are measured.
const QUERIES: u64 = 200;
/// Warm-up questions before those, which fill caches.
const WARM_UP: u64 = 20;
/// Length of a question's range, in days.
const DAYS_ASKED: i64 = 30;
/// Questions asked in SQL over the rows.
const BY_HAND: u64 = 7;
/// Random ranges whose users are counted.
const RANGES: u64 = 100;

/// Where a question's range begins and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Edges {
    /// At midnight.
    Midnight,
    /// At any second.
    Second,
}

/// In milliseconds.
pub(crate) struct Latencies {
    /// Half of the answers came within this time.
    pub(crate) p50: f64,
    /// All but one in a hundred answers came within this time.
    pub(crate) p99: f64,
}

/// How good the numbers of unique users are; all are fractions.
pub(crate) struct Accuracy {
    /// Largest standard error that an answer reports.
    pub(crate) reported_max: f64,
    /// Mean distance of an answer from the true number.
    pub(crate) true_mean: f64,
    /// Largest distance of an answer from the true number.
    pub(crate) true_max: f64,
    /// Share of answers whose reported range holds the true number.
    pub(crate) within: f64,
}

/// Asks for thirty days by day, again and again, about other names and other days.
pub(crate) async fn latencies(store: &dyn EventStore, traffic: &Traffic, edges: Edges) -> Latencies {
    let began = Instant::now();
    let mut milliseconds = Vec::new();
    for number in 0..WARM_UP + QUERIES {
        let (name, range) = days_asked(traffic, number, edges);
        let query = question(name, range, true);
        let asked = Instant::now();
        let report = store.metrics(&query).await.expect("an answer");
        let took = asked.elapsed();
        assert!(report.total.total_events > 0, "steady traffic leaves no month empty");
        let is_late = began.elapsed() > BUDGET;
        if number >= WARM_UP || is_late {
            milliseconds.push(took.as_secs_f64() * 1e3);
        }
        if is_late {
            eprintln!("stopped after {} questions", number + 1);
            break;
        }
    }
    milliseconds.sort_by(f64::total_cmp);
    Latencies {
        p50: quantile(&milliseconds, 0.5),
        p99: quantile(&milliseconds, 0.99),
    }
}

/// One question about thirty days by day.
pub(crate) async fn ask(database: &Database, traffic: &Traffic, number: u64) {
    let (name, range) = days_asked(traffic, number, Edges::Midnight);
    let report = database.store().metrics(&question(name, range, true)).await;
    report.expect("an answer");
}

/// The same question in SQL over the rows.
pub(crate) async fn ask_by_hand(database: &Database, traffic: &Traffic, number: u64) {
    let (name, range) = days_asked(traffic, number, Edges::Midnight);
    database.days_by_hand(name, range).await;
}

/// Asks the questions of [`latencies`] in SQL over the rows; returns the p50 in milliseconds. Both must count as many
/// events.
pub(crate) async fn by_hand(database: &Database, traffic: &Traffic) -> f64 {
    let began = Instant::now();
    let mut milliseconds = Vec::new();
    for number in 0..=BY_HAND {
        let (name, range) = days_asked(traffic, number, Edges::Midnight);
        let asked = Instant::now();
        let events = database.days_by_hand(name, range.clone()).await;
        let took = asked.elapsed();
        let report = database.store().metrics(&question(name, range, true)).await;
        assert_eq!(
            report.expect("an answer").total.total_events,
            events,
            "rollups and rows agree"
        );
        // The first question reads from disk: not counted.
        if number > 0 {
            milliseconds.push(took.as_secs_f64() * 1e3);
        }
        if number > 0 && began.elapsed() > BUDGET {
            break;
        }
    }
    milliseconds.sort_by(f64::total_cmp);
    quantile(&milliseconds, 0.5)
}

/// Compares the unique users of random ranges with their true number.
pub(crate) async fn accuracy(database: &Database, traffic: &Traffic) -> Accuracy {
    let began = Instant::now();
    let (mut reported_max, mut true_sum, mut true_max) = (0.0_f64, 0.0, 0.0_f64);
    let (mut asked, mut within) = (0_u32, 0_u32);
    for number in 0..RANGES {
        let random = mix(number ^ 0xacc0);
        let name = NAMES[(random % 8) as usize];
        // Lengths from an hour to thirty days, short ones as often as long ones.
        let share = mix(random) as f64 / u64::MAX as f64;
        let longest = (DAYS_ASKED * DAY_MICROS / HOUR_MICROS) as f64;
        let length = (HOUR_MICROS as f64 * longest.powf(share)) as i64;
        let range = placed(traffic, mix(random ^ 1), length);
        let report = database.store().metrics(&question(name, range.clone(), false)).await;
        let users = report.expect("an answer").total.users;
        let truth = database.unique_users(name, range).await;
        let off = users.count.abs_diff(truth) as f64 / truth.max(1) as f64;
        reported_max = reported_max.max(users.error);
        true_sum += off;
        true_max = true_max.max(off);
        asked += 1;
        within += u32::from((users.low..=users.high).contains(&truth));
        if began.elapsed() > BUDGET {
            eprintln!("stopped after {asked} ranges");
            break;
        }
    }
    Accuracy {
        reported_max,
        true_mean: true_sum / f64::from(asked),
        true_max,
        within: f64::from(within) / f64::from(asked),
    }
}

/// Every question is built here.
fn question(event_name: &str, range: Range<i64>, by_day: bool) -> MetricsQuery {
    let (from, to) = (range.start, range.end);
    let mut query = MetricsQuery::new(
        Some(event_name.to_owned()),
        Timestamp::from_micros(from),
        Timestamp::from_micros(to),
    );
    if by_day {
        query.group_by = Grouping::by(TimeUnit::Day);
    }
    query
}

/// Name and range of a question.
fn days_asked(traffic: &Traffic, number: u64, edges: Edges) -> (&'static str, Range<i64>) {
    let random = mix(number ^ 0xda45);
    let name = NAMES[(random % 8) as usize];
    let range = match edges {
        Edges::Midnight => {
            let first = traffic.range.start.div_euclid(DAY_MICROS) + 1;
            let starts = (DAYS - DAYS_ASKED) as u64;
            let start = (first + ((random >> 8) % starts) as i64) * DAY_MICROS;
            start..start + DAYS_ASKED * DAY_MICROS
        }
        Edges::Second => {
            let length = DAYS_ASKED * DAY_MICROS - (random % 80_000) as i64 * 1_000_000;
            placed(traffic, mix(random), length)
        }
    };
    (name, range)
}

/// A range of this length, somewhere in the traffic, that begins at any second.
fn placed(traffic: &Traffic, random: u64, length: i64) -> Range<i64> {
    let seconds = (traffic.range.end - traffic.range.start - length) / 1_000_000;
    let start = traffic.range.start + (random % seconds as u64) as i64 * 1_000_000;
    start..start + length
}
