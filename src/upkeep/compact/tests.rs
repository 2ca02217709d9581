//! Compaction and sums of days on a store in memory: against a plain recount, with calls that fail, under a cap.

mod cap;
mod crashes;

use std::collections::BTreeMap;

use super::*;
use crate::event::bucket::DAY_MICROS;
use crate::event::bucket::{MINUTE_MICROS, Width};
use crate::rollup::{PART_EXACT_MAX, Part, UserKey, UserUnion};
use crate::testing::rollup_model::{Model, Tables};
use crate::wal::tests::block_on;

/// 2026-02-01T09:30:00Z.
const NOW: i64 = 1_769_938_200_000_000;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// Limits so small that a few rows reach them.
fn small_limits() -> Limits {
    Limits {
        deltas_max: 3,
        minutes_max: 2,
        days_max: 3,
        day_parts_max: 2,
        pairs_per_day_max: 1_000,
    }
}

fn compacted(model: &Model, now: i64, limits: &Limits) -> Compacted {
    block_on(compact(&mut model.connect(), at(now), limits)).unwrap()
}

fn summed_up(model: &Model, now: i64, limits: &Limits) -> SummedUp {
    block_on(sum_up_days(&mut model.connect(), at(now), limits)).unwrap()
}

/// Compacts and sums up until nothing is left to do.
fn settle(model: &Model, now: i64, limits: &Limits) {
    while compacted(model, now, limits).has_more {}
    while summed_up(model, now, limits).has_more {}
}

/// Events and encoded users of each series in each quarter.
type Counts = BTreeMap<(SeriesKey, Bucket), (u64, Vec<u8>)>;

#[derive(Default)]
struct Counting(BTreeMap<(SeriesKey, Bucket), (u64, Option<UserUnion>)>);

impl Counting {
    fn add(&mut self, key: SeriesKey, bucket: Bucket, events: u64, add: impl Fn(&mut UserUnion)) {
        let (sum, users) = self.0.entry((key, bucket.quarter())).or_default();
        *sum += events;
        add(users.get_or_insert_with(|| UserUnion::new(PART_EXACT_MAX)));
    }

    fn finish(self) -> Counts {
        let encoded = |(place, (events, users)): (_, (u64, Option<UserUnion>))| {
            (place, (events, users.unwrap().finish().encode()))
        };
        self.0.into_iter().map(encoded).collect()
    }
}

/// Counts by the rollups.
fn rolled_up(tables: &Tables) -> Counts {
    let mut counting = Counting::default();
    let mut add = |key, bucket, tally: &Tally| {
        counting.add(key, bucket, tally.events, |users| {
            users.add_set(tally.users.clone());
        });
    };
    for ((series, bucket), tally) in &tables.parts {
        add(tables.key(*series).clone(), *bucket, tally);
    }
    for delta in tables.deltas.values() {
        for key in series_of(&delta.event_name, &delta.channel) {
            add(key, delta.bucket, &delta.tally);
        }
    }
    counting.finish()
}

/// Counts by the events.
fn recounted(tables: &Tables) -> Counts {
    let mut counting = Counting::default();
    for (name, channel, user, timestamp) in &tables.events {
        let bucket = Bucket::of(*timestamp, Width::Quarter);
        for key in series_of(name, channel) {
            counting.add(key, bucket, 1, |users| users.add(UserKey::PUBLIC.hash(user)));
        }
    }
    counting.finish()
}

/// Whether a query may trust the rollups about a series: not on a closed day, unless the series was admitted.
fn is_kept(tables: &Tables, (key, bucket): &(SeriesKey, Bucket)) -> bool {
    let day = bucket.day();
    let mut on_day = tables.days.keys().filter(|(_, of)| *of == day);
    !tables.overflow.contains_key(&day)
        || key.event_name.is_none()
        || on_day.any(|(series, _)| tables.key(*series) == key)
}

/// Asserts the rules that must hold after each transaction.
#[track_caller]
fn assert_whole(model: &Model) {
    let tables = model.tables();
    let (mut rolled_up, mut recounted) = (rolled_up(&tables), recounted(&tables));
    rolled_up.retain(|place, _| is_kept(&tables, place));
    recounted.retain(|place, _| is_kept(&tables, place));
    // Not `assert_eq`: nobody reads thousands of bytes.
    assert!(rolled_up == recounted, "the rollups count what the events are");
    assert_days(&tables);
    assert_overflow(&tables);
}

/// Asserts that the overflow of each day counts the events whose pair has no series.
#[track_caller]
fn assert_overflow(tables: &Tables) {
    let mut without_pair: BTreeMap<Day, u64> = BTreeMap::new();
    let of = |is_wanted: fn(&SeriesKey) -> bool| {
        let parts = tables.parts.iter();
        parts.filter(move |((series, _), _)| is_wanted(tables.key(*series)))
    };
    for ((_, bucket), tally) in of(|key| key.event_name.is_none()) {
        *without_pair.entry(bucket.day()).or_default() += tally.events;
    }
    for ((_, bucket), tally) in of(|key| key.channel.is_some()) {
        *without_pair.get_mut(&bucket.day()).unwrap() -= tally.events;
    }
    without_pair.retain(|_, events| *events > 0);
    assert_eq!(tables.overflow, without_pair);
}

/// Asserts that fresh days are the sums of their parts, and that parts have days.
#[track_caller]
fn assert_days(tables: &Tables) {
    let mut parts: BTreeMap<(SeriesId, Day), Vec<Part>> = BTreeMap::new();
    for (&(series, bucket), tally) in &tables.parts {
        let tally = tally.clone();
        let day = parts.entry((series, bucket.day())).or_default();
        day.push(Part { series, bucket, tally });
    }
    for day in parts.keys() {
        assert!(tables.days.contains_key(day), "{day:?} has parts, no row");
    }
    for (day, sum) in &tables.days {
        let Some(sum) = sum else { continue };
        let parts = parts.remove(day).unwrap_or_default();
        let mut users = UserUnion::new(DAY_EXACT_MAX);
        let events: u64 = parts.iter().map(|part| part.tally.events).sum();
        for part in parts {
            users.add_set(part.tally.users);
        }
        assert_eq!(sum.events, events, "{day:?}");
        assert!(sum.users.encode() == users.finish().encode(), "{day:?}");
    }
}

#[test]
fn deltas_become_parts_of_their_pair_their_name_and_everything() {
    let model = Model::default();
    let events = [
        ("view", "web", "ann", at(NOW)),
        ("view", "app", "ann", at(NOW + 1)),
        ("view", "app", "bob", at(NOW + 2)),
        ("click", "web", "cid", at(NOW)),
    ];
    model.flush(at(NOW), &events);
    model.flush(at(NOW), &events[..1]);
    let limits = Limits::new(100);
    let first = Compacted {
        deltas: 4,
        ..Compacted::default()
    };
    assert_eq!(compacted(&model, NOW, &limits), first);
    assert_whole(&model);
    assert_eq!(compacted(&model, NOW, &limits), Compacted::default());

    let tables = model.tables();
    assert!(tables.deltas.is_empty());
    let mut counts: Vec<_> = tables
        .parts
        .iter()
        .map(|((series, _), tally)| {
            let SeriesKey { event_name, channel } = tables.key(*series);
            (
                event_name.as_deref(),
                channel.as_deref(),
                tally.events,
                tally.users.count().count,
            )
        })
        .collect();
    counts.sort_unstable();
    let expected = [
        (None, None, 5, 3),
        (Some("click"), None, 1, 1),
        (Some("click"), Some("web"), 1, 1),
        (Some("view"), None, 4, 2),
        (Some("view"), Some("app"), 2, 2),
        (Some("view"), Some("web"), 2, 1),
    ];
    assert_eq!(counts, expected);
    assert!(tables.days.values().all(Option::is_none), "all are stale");
}

#[test]
fn minutes_become_quarters_once_the_whole_quarter_is_old() {
    let model = Model::default();
    let starts = [NOW, NOW + 14 * MINUTE_MICROS, NOW + 15 * MINUTE_MICROS];
    let events = starts.map(|start| ("view", "web", "ann", at(start)));
    model.flush(at(NOW), &events);
    let limits = Limits::new(100);
    compacted(&model, NOW, &limits);
    let widths = |model: &Model| -> Vec<i16> {
        let tables = model.tables();
        let everything = |series: &SeriesId| tables.key(*series).event_name.is_none();
        let places = tables.parts.keys();
        let ours = places.filter(|(series, _)| everything(series));
        ours.map(|(_, bucket)| bucket.width.minutes()).collect()
    };
    assert_eq!(widths(&model), [1, 1, 1]);
    let due = NOW + 15 * MINUTE_MICROS + MINUTES_KEPT_MICROS + HOUR_MICROS;
    assert_eq!(compacted(&model, due - 1, &limits).minutes, 0);
    assert_eq!(widths(&model), [1, 1, 1]);

    // A delta that waited for as long is merged into the quarter with its minutes.
    model.flush(at(NOW), &events[1..2]);
    let together = Compacted {
        deltas: 1,
        minutes: 6,
        ..Compacted::default()
    };
    assert_eq!(compacted(&model, due, &limits), together);
    assert_eq!(widths(&model), [15, 1]);
    assert_whole(&model);
}

#[test]
fn limits_bound_each_transaction_and_say_so() {
    let model = Model::default();
    let names = ["a", "b", "c", "d"];
    let events = names.map(|name| (name, "web", "ann", at(NOW)));
    model.flush(at(NOW), &events);
    let limits = small_limits();
    let took = |deltas, minutes, has_more| Compacted {
        is_locked_elsewhere: false,
        deltas,
        minutes,
        has_more,
    };
    assert_eq!(compacted(&model, NOW, &limits), took(3, 0, true));
    assert_eq!(compacted(&model, NOW, &limits), took(1, 0, false));
    let later = NOW + 2 * DAY_MICROS;
    // Each name has two series, and there is one of all events.
    for _ in 0..4 {
        assert_eq!(compacted(&model, later, &limits), took(0, 2, true));
    }
    assert_eq!(compacted(&model, later, &limits), took(0, 1, false));

    // The second part reaches the limit, so a third day waits.
    let summed = |days, has_more| SummedUp {
        is_locked_elsewhere: false,
        days,
        has_more,
    };
    for _ in 0..4 {
        assert_eq!(summed_up(&model, later, &limits), summed(2, true));
    }
    assert_eq!(summed_up(&model, later, &limits), summed(1, false));
    assert_eq!(summed_up(&model, later, &limits), SummedUp::default());
    assert_whole(&model);
}

#[test]
fn a_day_is_summed_up_when_its_last_minutes_are_old_and_again_when_it_changes() {
    let model = Model::default();
    let limits = Limits::new(100);
    let day_end = Day::of(at(NOW)).end().as_micros();
    let last = [("view", "web", "ann", at(day_end - 1))];
    model.flush(at(day_end), &last);
    compacted(&model, day_end, &limits);
    let over = day_end + MINUTES_KEPT_MICROS + HOUR_MICROS;
    assert_eq!(summed_up(&model, over - 1, &limits).days, 0);
    compacted(&model, over, &limits);
    assert_eq!(summed_up(&model, over, &limits).days, 3);
    assert_eq!(summed_up(&model, over, &limits).days, 0);
    assert_whole(&model);

    model.flush(at(over), &[("view", "app", "bob", at(NOW))]);
    compacted(&model, over, &limits);
    // The series of the earlier pair has not changed.
    let stale = model.tables().days.values().filter(|sum| sum.is_none()).count();
    assert_eq!(stale, 3);
    assert_whole(&model);
    assert_eq!(summed_up(&model, over, &limits).days, 3);
    assert_whole(&model);
}

#[test]
fn a_lock_held_elsewhere_leaves_everything_as_it_is() {
    let model = Model::default();
    model.flush(at(NOW), &[("view", "web", "ann", at(NOW))]);
    let limits = Limits::new(100);
    let mut other = model.connect();
    assert!(block_on(other.begin(false)).unwrap());
    let elsewhere = compacted(&model, NOW, &limits);
    assert!(elsewhere.is_locked_elsewhere && !elsewhere.has_more);
    assert!(summed_up(&model, NOW, &limits).is_locked_elsewhere);
    assert_eq!(model.tables().deltas.len(), 1);
    drop(other);
    assert_eq!(compacted(&model, NOW, &limits).deltas, 1);
}
