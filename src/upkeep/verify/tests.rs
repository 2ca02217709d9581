//! Verifying and rebuilding on the tables in memory: right rollups pass, however they were made, and each fault is
//! named and fixed.

mod rebuilding;
mod tampering;

use proptest::prelude::*;

use super::*;
use crate::event::bucket::{DAY_MICROS, HOUR_MICROS};
use crate::event::bucket::{MINUTE_MICROS, QUARTER_MICROS, Width};
use crate::testing::rollup_model::{Connection, Model, Row, Tables};
use crate::upkeep::rebuild::{self, Rebuilt, RebuiltDay, Rules, rebuild_day, rebuild_day_and_rest};

/// 2026-02-01T00:00:00Z.
const FEBRUARY: i64 = 1_769_904_000_000_000;
const PAIRS_MAX: usize = 10_000;
/// An instant after all events of these tests.
const LATER: Timestamp = Timestamp::from_micros(FEBRUARY + 100 * DAY_MICROS);

fn today() -> Day {
    Day::of(Timestamp::from_micros(FEBRUARY))
}

/// The instant `after` microseconds into the day.
fn at(after: i64) -> Timestamp {
    Timestamp::from_micros(FEBRUARY + after)
}

fn event(name: &str, channel: &str, user: u32, after: i64) -> Row {
    (name.to_owned(), channel.to_owned(), format!("user-{user}"), at(after))
}

/// Some hundred events in two names and two channels, over a day: some quarters have few users, one has 150 and one
/// minute of another 130.
fn some_events() -> Vec<Row> {
    let mut events = Vec::new();
    for n in 0..200 {
        let name = if n % 3 == 0 { "click" } else { "view" };
        let channel = if n % 5 == 0 { "app" } else { "web" };
        events.push(event(name, channel, n as u32 % 40, n * 7 * MINUTE_MICROS));
    }
    let busy = 9 * HOUR_MICROS;
    for n in 0..150 {
        events.push(event("view", "web", 1000 + n as u32, busy + n * 5_000_000));
    }
    for n in 0..130 {
        let instant = busy + HOUR_MICROS + n * 400_000;
        events.push(event("view", "web", 2000 + n as u32, instant));
    }
    events
}

/// A store whose events were flushed in three batches at different times and compacted in between, so that it has
/// minutes, quarters and deltas.
fn compacted(events: &[Row]) -> Connection {
    let model = Model::default().connect();
    {
        let mut tables = model.edit();
        let third = events.len() / 3;
        tables.flush(&events[..third], at(0));
        tables.compact(PAIRS_MAX);
        tables.flush(&events[third..2 * third], at(DAY_MICROS));
        tables.merge_minutes(at(4 * HOUR_MICROS));
        tables.compact(PAIRS_MAX);
        tables.sum_up();
        tables.flush(&events[2 * third..], at(12 * HOUR_MICROS));
    }
    model
}

/// A store whose events are all compacted and summed up.
fn settled(events: &[Row], pairs_max: usize) -> Connection {
    let model = Model::default().connect();
    {
        let mut tables = model.edit();
        tables.flush(events, at(DAY_MICROS));
        tables.compact(pairs_max);
        tables.merge_minutes(LATER);
        tables.sum_up();
    }
    model
}

async fn verify(model: &mut Connection) -> Vec<String> {
    let verdict = verify_day(model, today()).await.unwrap();
    assert_eq!(verdict.events, model.edit().events.len() as u64);
    verdict.differences.iter().map(ToString::to_string).collect()
}

/// Rebuilds the day at an instant after its end.
async fn rebuild(model: &mut Connection, pairs_max: usize) -> u64 {
    match rebuild_by(model, Rules::new(pairs_max)).await {
        RebuiltDay::Rebuilt(events) => events,
        other => panic!("{other:?}"),
    }
}

async fn rebuild_by(model: &mut Connection, rules: Rules) -> RebuiltDay {
    let now = Timestamp::from_micros(FEBRUARY + 2 * DAY_MICROS);
    rebuild_day(model, today(), rules, now).await.unwrap()
}

fn key(name: &str, channel: &str) -> SeriesKey {
    SeriesKey {
        event_name: Some(name.to_owned()),
        channel: Some(channel.to_owned()),
    }
}

fn tally(events: u64, users: std::ops::Range<u32>) -> Tally {
    let mut union = UserUnion::new(PART_EXACT_MAX);
    users.for_each(|user| union.add(crate::rollup::UserKey::PUBLIC.hash(&format!("user-{user}"))));
    Tally {
        events,
        users: union.finish(),
    }
}

#[tokio::test]
async fn what_flushes_and_compaction_made_is_right_at_every_stage() {
    let events = some_events();
    for mut model in [compacted(&events), settled(&events, PAIRS_MAX)] {
        assert_eq!(verify(&mut model).await, [""; 0]);
        model.edit().compact(PAIRS_MAX);
        assert_eq!(verify(&mut model).await, [""; 0]);
        model.edit().merge_minutes(LATER);
        assert_eq!(verify(&mut model).await, [""; 0]);
        model.edit().sum_up();
        assert_eq!(verify(&mut model).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_sum_that_was_made_of_minutes_stays_right_when_they_are_merged() {
    let mut model = Model::default().connect();
    {
        let mut tables = model.edit();
        tables.flush(&some_events(), at(0));
        tables.compact(PAIRS_MAX);
        // No minute of this quarter has a hundred users, but the quarter has.
        let quiet = Timestamp::from_micros(FEBRUARY + 10 * HOUR_MICROS);
        tables.events.retain(|event| event.3 < quiet);
        tables.parts.retain(|(_, bucket), _| bucket.start < quiet);
        tables.sum_up();
        let sums = tables.days.clone();
        assert!(sums.values().all(|sum| sum.as_ref().unwrap().users.is_exact()));
        tables.merge_minutes(LATER);
        assert!(tables.parts.values().any(|part| !part.users.is_exact()));
        tables.days = sums;
    }
    assert_eq!(verify(&mut model).await, [""; 0]);
    let view = model.edit().series_id(&key("view", "web"));
    let sum = model.edit().days[&(view, today())].clone().unwrap();
    let wrong = tally(sum.events, 0..sum.users.count().count as u32);
    model.edit().days.insert((view, today()), Some(wrong));
    assert_eq!(verify(&mut model).await.len(), 1);
}

#[tokio::test]
async fn a_rebuilt_day_is_right_and_the_same_as_a_compacted_one() {
    let events = some_events();
    let mut model = compacted(&events);
    assert_eq!(rebuild(&mut model, PAIRS_MAX).await, events.len() as u64);
    assert_eq!(verify(&mut model).await, [""; 0]);
    assert_eq!(model.model().reads(today()), 2, "once to rebuild, once to verify");
    let settled = settled(&events, PAIRS_MAX);
    let (rebuilt, settled) = (model.edit(), settled.edit());
    assert!(rebuilt.deltas.is_empty());
    assert_eq!(contents(&rebuilt), contents(&settled));
}

/// Series, place, events and encoded users of all parts and sums.
fn contents(tables: &Tables) -> Vec<(SeriesKey, String, u64, Vec<u8>)> {
    let named = |series: &SeriesId| tables.key(*series).clone();
    let parts = tables.parts.iter().map(|((series, bucket), part)| {
        let place = RollupPlace::Bucket(*bucket).to_string();
        (named(series), place, part.events, part.users.encode())
    });
    let sums = tables.days.iter().map(|((series, day), sum)| {
        let (place, sum) = (RollupPlace::Day(*day).to_string(), sum.as_ref().unwrap());
        (named(series), place, sum.events, sum.users.encode())
    });
    let mut contents: Vec<_> = parts.chain(sums).collect();
    contents.sort();
    contents
}

#[tokio::test]
async fn a_day_that_goes_on_keeps_fresh_minutes_and_is_left_stale() {
    let mut model = compacted(&some_events());
    let now = FEBRUARY + 11 * HOUR_MICROS;
    let rules = Rules::new(PAIRS_MAX);
    rebuild_day(&mut model, today(), rules, Timestamp::from_micros(now))
        .await
        .unwrap();
    assert_eq!(verify(&mut model).await, [""; 0]);
    let tables = model.edit();
    assert!(tables.days.values().all(Option::is_none));
    for (_, bucket) in tables.parts.keys() {
        let is_fresh = bucket.start.as_micros() >= now - 2 * HOUR_MICROS;
        assert_eq!(bucket.width == Width::Minute, is_fresh, "{bucket:?}");
    }
}

fn few_events() -> Vec<Row> {
    let mut events: Vec<Row> = (0..36)
        .map(|n| event("view", "web", n, 37 * QUARTER_MICROS + 1))
        .collect();
    events.push(event("view", "app", 1, 0));
    events.push(event("click\n", "web", 2, 0));
    events
}

fn view_web(tables: &mut Tables) -> (SeriesId, Bucket) {
    let instant = Timestamp::from_micros(FEBRUARY + 37 * QUARTER_MICROS);
    let series = tables.series_id(&key("view", "web"));
    (series, Bucket::of(instant, Width::Quarter))
}

#[tokio::test]
async fn a_missing_delta_is_found_in_each_of_its_series_and_names_stay_on_their_line() {
    let mut model = Model::default().connect();
    model.edit().flush(&few_events(), at(DAY_MICROS));
    assert_eq!(verify(&mut model).await, [""; 0]);
    let first = *model.edit().deltas.first_key_value().unwrap().0;
    model.edit().deltas.remove(&first);
    assert_eq!(
        verify(&mut model).await,
        [
            "all events, 2026-02-01T00:00:00Z, 15 min: rollups have 1 event, the rows 2",
            "click\\n / all channels, 2026-02-01T00:00:00Z, 15 min: rollups have 0 events, the rows 1",
            "click\\n / web, 2026-02-01T00:00:00Z, 15 min: rollups have 0 events, the rows 1",
        ]
    );
    rebuild(&mut model, PAIRS_MAX).await;
    assert_eq!(verify(&mut model).await, [""; 0]);
}

#[tokio::test]
async fn pairs_beyond_the_cap_are_accounted_for() {
    let mut model = settled(&few_events(), 1);
    // Compaction admits the pairs that come first: those of click.
    assert_eq!(model.edit().overflow[&today()], 37);
    assert_eq!(verify(&mut model).await, [""; 0]);
    // Deltas of pairs without a series will overflow; deltas of other pairs count for their series already.
    model.edit().flush(&few_events(), at(DAY_MICROS));
    assert_eq!(verify(&mut model).await, [""; 0]);
    model.edit().compact(1);
    assert_eq!(verify(&mut model).await, [""; 0]);

    *model.edit().overflow.get_mut(&today()).unwrap() -= 1;
    assert_eq!(
        verify(&mut model).await,
        ["all events, 2026-02-01T00:00:00Z, 1 day: rollups have 73 events without a series of their own, the rows 74"]
    );
    model.edit().overflow.clear();
    assert!(!verify(&mut model).await.is_empty());

    rebuild(&mut model, 1).await;
    assert_eq!(verify(&mut model).await, [""; 0]);
    // A rebuild admits the pairs with most events.
    assert_eq!(model.edit().overflow[&today()], 4);
    let (series, bucket) = view_web(&mut model.edit());
    assert_eq!(model.edit().parts[&(series, bucket)].events, 72);
    // The name of an admitted pair counts all its pairs.
    let name = SeriesKey {
        event_name: Some("view".to_owned()),
        channel: None,
    };
    let name = model.edit().series_id(&name);
    let sum = model.edit().days[&(name, today())].clone();
    assert_eq!(sum.unwrap().events, 74);
}

#[tokio::test]
async fn on_a_day_with_overflow_a_name_whose_series_is_gone_is_found() {
    let mut model = settled(&few_events(), 2);
    assert!(model.edit().overflow.contains_key(&today()));
    let name = SeriesKey {
        event_name: Some("view".to_owned()),
        channel: None,
    };
    let name = model.edit().series_id(&name);
    model.edit().parts.retain(|(series, _), _| *series != name);
    model.edit().days.remove(&(name, today()));
    let found = verify(&mut model).await;
    assert!(found[0].starts_with("view / all channels, "), "{found:?}");
}
