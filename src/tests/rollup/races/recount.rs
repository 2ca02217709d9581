//! Answers against the rows that SQL reads back, counted one by one. The recount groups time by what a clock in the
//! zone shows, which is independent of the product's calendar code.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::{DAY_MICROS, HOUR_MICROS, TimeUnit};
use fast_ingest::query::{Grouping, MetricsQuery, MetricsReport, Source};
use fast_ingest::rollup::users::UniqueUsers;
use jiff::tz::TimeZone;

use super::at;
use super::events::{CHANNELS, CLOCK_CHANGES, NAMES, random_micros};
use crate::support::database::{Database, Stored};
use crate::support::random::Random;

const QUESTIONS: usize = 60;
const ZONES: [&str; 5] = [
    "UTC",
    "Asia/Kathmandu",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Tehran",
];
/// In shorter ranges all users are counted, because the events are so few.
const LONG_MICROS: i64 = 7 * DAY_MICROS;

/// Clock time, event name and channel, as far as the grouping separates them.
type Key = (String, String, String);

#[derive(Default)]
struct Count<'a> {
    events: u64,
    users: HashSet<&'a str>,
}

/// Asks random questions. Returns how many answers say that events of overflowed days were counted.
pub(super) async fn assert_answers(database: &Database, now: Timestamp, random: &mut Random) -> usize {
    let rows = database.events().await;
    let (mut overflowed, mut from_rollups) = (0, 0);
    let random_queries: Vec<_> = (0..QUESTIONS).map(|_| random_query(random, now)).collect();
    for query in random_queries.into_iter().chain(queries_of_all(now)) {
        let report = database.store().metrics(&query).await.unwrap();
        assert_is_recount(&rows, &query, &report);
        overflowed += usize::from(report.overflowed);
        from_rollups += usize::from(report.source == Source::Rollups);
    }
    assert!(from_rollups > QUESTIONS / 4, "{from_rollups} from rollups");
    overflowed
}

/// A range of any length, cut anywhere.
pub(super) fn random_range(random: &mut Random, now: Timestamp) -> Range<i64> {
    let end = |random: &mut Random| {
        let micros = random_micros(random, now);
        let width = random.pick(&[
            DAY_MICROS,
            HOUR_MICROS,
            HOUR_MICROS / 4,
            60_000_000,
            1_000_000,
            1_000_000,
            1,
        ]);
        micros - micros.rem_euclid(width)
    };
    let (one, other) = (end(random), end(random));
    one.min(other)..one.max(other)
}

fn random_query(random: &mut Random, now: Timestamp) -> MetricsQuery {
    let range = random_range(random, now);
    let name = random.chance(50).then(|| random.pick(&NAMES).to_owned());
    let mut query = MetricsQuery::new(name, at(range.start), at(range.end));
    query.channel = random.chance(30).then(|| random.pick(&CHANNELS).to_owned());
    query.zone = TimeZone::get(random.pick(&ZONES)).unwrap();
    query.exact = random.chance(10);
    query.group_by = Grouping {
        time: random.chance(70).then(|| random.pick(&TimeUnit::ALL)),
        event_name: random.chance(30),
        channel: random.chance(30),
    };
    if query.group_by.event_name && query.group_by.channel {
        query.group_by.time = None;
    }
    query
}

/// Queries for everything by each unit in each zone, changes of clocks included.
fn queries_of_all(now: Timestamp) -> impl Iterator<Item = MetricsQuery> {
    let from = CLOCK_CHANGES[0] + 1_000_000;
    let to = now.as_micros() + HOUR_MICROS + 1_000_000;
    let units = |zone| TimeUnit::ALL.map(|unit| (zone, unit));
    ZONES.into_iter().flat_map(units).map(move |(zone, unit)| {
        let mut query = MetricsQuery::new(None, at(from), at(to));
        query.zone = TimeZone::get(zone).unwrap();
        query.group_by.time = Some(unit);
        query
    })
}

fn assert_is_recount(rows: &[Stored], query: &MetricsQuery, report: &MetricsReport) {
    let range = query.from.as_micros()..query.to.as_micros();
    let is_asked = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    let asked = rows.iter().filter(|row| {
        range.contains(&row.micros)
            && is_asked(&query.event_name, &row.event_name)
            && is_asked(&query.channel, &row.channel)
    });
    let mut total = Count::default();
    let mut counts: BTreeMap<Key, Count<'_>> = BTreeMap::new();
    for row in asked {
        let name = |is_told: bool, name: &str| if is_told { name } else { "" }.to_owned();
        let key = (
            clock(query, row.micros),
            name(query.group_by.event_name, &row.event_name),
            name(query.group_by.channel, &row.channel),
        );
        for count in [&mut total, counts.entry(key).or_default()] {
            count.events += 1;
            count.users.insert(&row.user_id);
        }
    }
    let is_long = range.end - range.start > LONG_MICROS;
    let assert_counts = |count: &Count<'_>, events: u64, users: &UniqueUsers, key: &Key| {
        assert_eq!(events, count.events, "events of {key:?}: {query:?}");
        let (told, right) = (users.count, count.users.len() as u64);
        // Six standard errors, because each run has other users.
        let slack = if is_long {
            (6.0 * users.error * right as f64).ceil()
        } else {
            0.0
        };
        assert!(
            told.abs_diff(right) as f64 <= slack && users.error < 0.02,
            "{users:?} instead of {right} users of {key:?}: {query:?}"
        );
    };
    let whole = Key::default();
    let users = &report.total.users;
    assert_counts(&total, report.total.total_events, users, &whole);
    if query.group_by.is_none() {
        assert!(report.groups.is_empty());
        return;
    }
    for group in &report.groups {
        let bucket = group.key.bucket;
        if let Some(bucket) = bucket {
            let (first, last) = (bucket.start.as_micros(), bucket.end.as_micros() - 1);
            assert_eq!(clock(query, first), clock(query, last), "{bucket:?}");
        }
        let key = (
            bucket.map_or_else(String::new, |bucket| clock(query, bucket.start.as_micros())),
            group.key.event_name.clone().unwrap_or_default(),
            group.key.channel.clone().unwrap_or_default(),
        );
        let count = counts.remove(&key).unwrap_or_default();
        let told = &group.counts;
        assert!(told.total_events > 0, "an empty group {key:?}: {query:?}");
        assert_counts(&count, told.total_events, &told.users, &key);
    }
    let missing: Vec<_> = counts.keys().collect();
    assert!(missing.is_empty(), "no group for {missing:?}: {query:?}");
}

/// The text that a clock or calendar in the query's zone shows, down to its unit. The offset separates the two hours of
/// a repeated hour.
fn clock(query: &MetricsQuery, micros: i64) -> String {
    let Some(unit) = query.group_by.time else {
        return String::new();
    };
    let instant = jiff::Timestamp::from_microsecond(micros).unwrap();
    let shown = query.zone.to_datetime(instant);
    let offset = query.zone.to_offset(instant);
    match unit {
        TimeUnit::Minute => format!("{} {offset}", shown.strftime("%Y-%m-%d %H:%M")),
        TimeUnit::Hour => format!("{} {offset}", shown.strftime("%Y-%m-%d %H")),
        TimeUnit::Day => shown.strftime("%Y-%m-%d").to_string(),
        TimeUnit::Week => shown.strftime("%G-W%V").to_string(),
        TimeUnit::Month => shown.strftime("%Y-%m").to_string(),
    }
}
