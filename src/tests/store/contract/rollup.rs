//! Rollups on a real database: the deltas of flushes, the parts of compactions and the sums of days equal a plain
//! recount of the events.

mod recount;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::{Bucket, Day, MINUTE_MICROS, Width};
use fast_ingest::event::bucket::{DAY_MICROS, HOUR_MICROS};
use fast_ingest::rollup::{DAY_EXACT_MAX, PART_EXACT_MAX, SeriesKey, Tally, UserKey, UserSet, UserUnion, series_of};
use fast_ingest::store::{RollupStore, open};
use fast_ingest::support::shutdown::Shutdown;
use fast_ingest::upkeep::compact::{Compacted, Limits, compact, sum_up_days};
use fast_ingest::upkeep::keeper::Keeper;
use fast_ingest::upkeep::rebuild;
use fast_ingest::upkeep::settings::{RollupCap, RollupSettings};

use self::recount::{days, recounted, rolled_up};
use super::contract;
use crate::support::database::{Database, Event, batch_of, event};
use crate::support::process::PATIENCE;

contract! {
    deltas_and_parts_count_what_the_events_are_at_every_step,
    days_are_summed_up_when_they_are_over_and_again_when_they_change,
    a_compaction_that_is_dropped_halfway_leaves_everything_as_it_was,
    the_rollup_lock_lets_one_compact_at_a_time,
    pairs_beyond_the_cap_are_counted_without_a_series_for_good,
    two_keepers_and_a_flush_lose_nothing_and_count_nothing_twice,
    the_pairs_with_most_events_come_first_and_ties_by_their_bytes,
    the_days_of_decades_are_those_that_have_something,
}

/// An event that was stored: name, channel, user, time.
type Row = (&'static str, &'static str, String, i64);

async fn rollups(database: &Database) -> Box<dyn RollupStore> {
    database.store().open_rollups().await.unwrap()
}

async fn assert_whole(database: &Database, rows: &[Row]) {
    let mut store = rollups(database).await;
    store.begin_reading().await.unwrap();
    let user_key = store.user_key().await.unwrap();
    // Without `assert_eq`, which would print thousands of bytes.
    assert!(
        rolled_up(database, rows).await == recounted(rows, user_key),
        "the rollups count what the events are"
    );
}

/// Asserts that the sums that are not stale are the unions of the parts; returns their number.
async fn fresh_days(database: &Database, rows: &[Row]) -> usize {
    let mut store = rollups(database).await;
    store.begin_reading().await.unwrap();
    let mut fresh = 0;
    for day in days(rows) {
        let parts = store.parts_on(day).await.unwrap();
        for (key, _, sum) in store.sums_on(day).await.unwrap() {
            let of_series = parts.iter().filter(|(of, _)| *of == key);
            let mut users = UserUnion::new(DAY_EXACT_MAX);
            let mut events = 0;
            for (_, part) in of_series {
                events += part.tally.events;
                users.add_set(part.tally.users.clone());
            }
            assert_eq!(sum.events, events, "{key:?} on {day:?}");
            assert!(sum.users.encode() == users.finish().encode());
            fresh += 1;
        }
    }
    store.commit().await.unwrap();
    fresh
}

/// Flushes rows in one batch.
async fn flush(database: &Database, after: u64, rows: &[Row]) {
    let batch = batch_of(after, &events(rows));
    let mut sink = match after {
        0 => database.sink_at(0).await,
        _ => database.store().open_sink().await.unwrap(),
    };
    let flushed = sink.flush(batch.view()).await.unwrap();
    assert_eq!(flushed.stored, rows.len() as u64);
}

fn events(rows: &[Row]) -> Vec<Event<'_>> {
    rows.iter()
        .map(|(name, channel, user, micros)| Event {
            channel,
            ..event(name, user, *micros)
        })
        .collect()
}

/// Events of three names on two channels: now, within the hours for which minutes are kept, and on earlier days.
fn mixed_rows(now: Timestamp, seed: i64) -> Vec<Row> {
    let names = ["view", "click", "größe'\\"];
    let channels = ["web", "app"];
    let mut rows = Vec::new();
    for n in 0..400 {
        let ago = match n % 4 {
            0 => n * 1_000_000,
            1 => n * 20_000_000,
            2 => DAY_MICROS + n * MINUTE_MICROS,
            _ => 40 * DAY_MICROS + n * 10_000_000,
        };
        let user = format!("user-{}", (n * 7 + seed) % 250);
        let place = usize::try_from(n + seed).unwrap();
        let row = (names[place % 3], channels[place % 2], user, now.as_micros() - ago);
        rows.push(row);
    }
    // More users than a part names one by one.
    let crowd = now.as_micros() - 2 * DAY_MICROS;
    rows.extend((0..PART_EXACT_MAX + 20).map(|n| ("view", "web", format!("crowd-{n}"), crowd)));
    rows
}

/// Compacts until nothing is left, in steps of `deltas_max`.
async fn compact_all(database: &Database, now: Timestamp, deltas_max: usize) -> Compacted {
    let mut store = rollups(database).await;
    let limits = Limits {
        deltas_max,
        minutes_max: deltas_max,
        ..Limits::new(1_000)
    };
    let mut sum = Compacted::default();
    loop {
        let compacted = compact(store.as_mut(), now, &limits).await.unwrap();
        sum.deltas += compacted.deltas;
        sum.minutes += compacted.minutes;
        if !compacted.has_more {
            return sum;
        }
    }
}

async fn sum_up_all(database: &Database, now: Timestamp) -> usize {
    let mut store = rollups(database).await;
    let limits = Limits {
        days_max: 4,
        ..Limits::new(1_000)
    };
    let mut days = 0;
    loop {
        let summed_up = sum_up_days(store.as_mut(), now, &limits).await.unwrap();
        days += summed_up.days;
        if !summed_up.has_more {
            return days;
        }
    }
}

fn later(now: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(now.as_micros() + micros)
}

async fn deltas_and_parts_count_what_the_events_are_at_every_step(database: Database) {
    let now = Timestamp::now();
    let mut rows = mixed_rows(now, 0);
    flush(&database, 0, &rows).await;
    assert_whole(&database, &rows).await;
    assert!(compact_all(&database, now, 50).await.deltas > 50);
    assert_eq!(database.count("rollup_deltas").await, 0);
    assert_whole(&database, &rows).await;

    let more = mixed_rows(now, 1);
    flush(&database, rows.len() as u64, &more).await;
    rows.extend(more);
    assert_whole(&database, &rows).await;
    compact_all(&database, now, 5_000).await;
    assert_whole(&database, &rows).await;

    let aged = compact_all(&database, later(now, DAY_MICROS), 50).await;
    assert!(aged.minutes > 50, "{aged:?}");
    assert_whole(&database, &rows).await;
    let minutes = compact_all(&database, later(now, DAY_MICROS), 50).await.minutes;
    assert_eq!(minutes, 0);
    assert_eq!(fresh_days(&database, &rows).await, 0);
}

async fn days_are_summed_up_when_they_are_over_and_again_when_they_change(database: Database) {
    let now = Timestamp::now();
    let mut rows = mixed_rows(now, 0);
    flush(&database, 0, &rows).await;
    let late = later(now, 3 * DAY_MICROS);
    compact_all(&database, late, 5_000).await;
    let all = sum_up_all(&database, late).await;
    assert!(all > 20, "{all} days");
    assert_eq!(fresh_days(&database, &rows).await, all);
    assert_eq!(sum_up_all(&database, late).await, 0);

    let (name, channel, _, micros) = rows[2].clone();
    let one = vec![(name, channel, "somebody else".to_owned(), micros)];
    flush(&database, rows.len() as u64, &one).await;
    rows.extend(one);
    compact_all(&database, late, 5_000).await;
    assert_eq!(fresh_days(&database, &rows).await, all - 3);
    // Not before the day has ended some hours ago.
    let day = Day::of(Timestamp::from_micros(micros));
    assert_eq!(sum_up_all(&database, later(day.end(), HOUR_MICROS)).await, 0);
    assert_eq!(sum_up_all(&database, late).await, 3);
    assert_eq!(fresh_days(&database, &rows).await, all);
    assert_whole(&database, &rows).await;
}

async fn a_compaction_that_is_dropped_halfway_leaves_everything_as_it_was(database: Database) {
    let now = Timestamp::now();
    let rows = mixed_rows(now, 0);
    flush(&database, 0, &rows).await;
    let deltas = database.count("rollup_deltas").await;
    let mut store = rollups(&database).await;
    assert!(store.begin(false).await.unwrap());
    assert_eq!(store.take_deltas(20).await.unwrap().len(), 20);
    drop(store);
    assert_eq!(database.count("rollup_deltas").await, deltas);
    // The lock ends with the connection, though PostgreSQL may take a moment to notice.
    let mut store = rollups(&database).await;
    assert!(store.begin(true).await.unwrap());
    drop(store);
    assert_whole(&database, &rows).await;
}

async fn the_rollup_lock_lets_one_compact_at_a_time(database: Database) {
    let now = Timestamp::now();
    let rows = mixed_rows(now, 0);
    flush(&database, 0, &rows).await;
    let deltas = database.count("rollup_deltas").await;
    let (mut one, mut other) = (rollups(&database).await, rollups(&database).await);
    assert!(one.begin(false).await.unwrap());
    let limits = Limits::new(1_000);
    let compacted = compact(other.as_mut(), now, &limits).await;
    assert!(compacted.unwrap().is_locked_elsewhere);
    let mut other = rollups(&database).await;
    let summed_up = sum_up_days(other.as_mut(), now, &limits).await;
    assert!(summed_up.unwrap().is_locked_elsewhere);
    one.commit().await.unwrap();
    assert_eq!(database.count("rollup_deltas").await, deltas);
    compact_all(&database, now, 5_000).await;
    assert_whole(&database, &rows).await;
}

async fn pairs_beyond_the_cap_are_counted_without_a_series_for_good(database: Database) {
    let now = Timestamp::now();
    let start = Day::of(now).start().as_micros() - DAY_MICROS;
    let row = |name, channel| -> Row { (name, channel, "ann".to_owned(), start) };
    let rows = [row("a", "x"), row("a", "y"), row("b", "x"), row("b", "y")];
    let day = Day::of(Timestamp::from_micros(start));
    let mut flushed = 0;
    for (pairs_max, expected) in [(1, 3), (1_000, 6)] {
        flush(&database, flushed, &rows).await;
        flushed += rows.len() as u64;
        let mut store = rollups(&database).await;
        let limits = Limits::new(pairs_max);
        compact(store.as_mut(), now, &limits).await.unwrap();
        store.begin_reading().await.unwrap();
        assert_eq!(store.overflow_on(day).await.unwrap(), Some(expected));
        let mut series: Vec<_> = store
            .parts_on(day)
            .await
            .unwrap()
            .into_iter()
            .map(|(key, part)| (key.event_name, key.channel, part.tally.events))
            .collect();
        series.sort();
        store.commit().await.unwrap();
        let (a, x) = (Some("a".to_owned()), Some("x".to_owned()));
        let expected = [
            (None, None, flushed),
            (a.clone(), None, flushed / 2),
            (a, x, flushed / 4),
        ];
        assert_eq!(series, expected);
    }
}

async fn two_keepers_and_a_flush_lose_nothing_and_count_nothing_twice(database: Database) {
    let shutdown = Shutdown::new();
    let settings = RollupSettings {
        interval: Duration::from_millis(2),
        cap: RollupCap {
            pairs_per_day_max: 1_000,
        },
    };
    let keepers: Vec<_> = (0..2)
        .map(|_| {
            let store = open(&database.settings()).unwrap();
            tokio::spawn(Keeper::new(store, settings, shutdown.drain_token()).run())
        })
        .collect();
    let now = Timestamp::now();
    let mut rows = Vec::new();
    let mut sink = database.sink_at(0).await;
    for seed in 0..20 {
        let more = mixed_rows(now, seed);
        let batch = batch_of(rows.len() as u64, &events(&more));
        sink.flush(batch.view()).await.unwrap();
        rows.extend(more);
    }
    let compacted = async {
        while database.count("rollup_deltas").await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, compacted).await.unwrap();
    shutdown.drain();
    for keeper in keepers {
        keeper.await.unwrap();
    }
    assert_whole(&database, &rows).await;
    fresh_days(&database, &rows).await;
}

async fn the_pairs_with_most_events_come_first_and_ties_by_their_bytes(database: Database) {
    let start = Day::of(Timestamp::now()).start().as_micros() - 9 * DAY_MICROS;
    let row = |name, channel, after| -> Row { (name, channel, "ann".to_owned(), start + after) };
    let rows = [
        row("view", "web", 0),
        row("view", "web", 1),
        row("view", "web", DAY_MICROS - 1),
        row("view", "app", 0),
        // Sorts after "app" and before "view" in most languages.
        row("Zoo", "web", 0),
        row("ähre", "b", 0),
        row("ähre", "B", 0),
        // Events of other days.
        row("late", "web", DAY_MICROS),
        row("early", "web", -1),
    ];
    flush(&database, 0, &rows).await;
    let mut store = rollups(&database).await;
    store.begin_reading().await.unwrap();
    let day = Day::of(Timestamp::from_micros(start));
    let expected = [
        ("view", "web"),
        ("Zoo", "web"),
        ("view", "app"),
        ("ähre", "B"),
        ("ähre", "b"),
    ];
    for pairs_max in [1, 3, 5, 100] {
        let pairs = store.pairs_on(day, pairs_max).await.unwrap();
        let told = pairs.iter().map(|pair| {
            let [name, channel] = [&pair.event_name, &pair.channel].map(|text| text.as_deref());
            (name.unwrap(), channel.unwrap())
        });
        let expected = &expected[..pairs_max.min(expected.len())];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
    store.commit().await.unwrap();
}

async fn the_days_of_decades_are_those_that_have_something(database: Database) {
    let first = Day::of(Timestamp::from_micros(1_200_000_000_000_000));
    let noon = |n: i64| first.start().as_micros() + n * DAY_MICROS + DAY_MICROS / 2;
    let day = |n| Day::of(Timestamp::from_micros(noon(n)));
    let row = |name, n| -> Row { (name, "web", "ann".to_owned(), noon(n)) };
    // Neighbours, gaps that are powers of two, other gaps, and years.
    let numbers = [0, 1, 2, 4, 8, 16, 17, 40, 400, 401, 3_000, 6_500];
    let rows = numbers.map(|n| row(if n % 2 == 0 { "even" } else { "odd" }, n));
    flush(&database, 0, &rows).await;
    let days = async |from: Option<i64>, to: Option<i64>| {
        let mut store = rollups(&database).await;
        let days = rebuild::days(store.as_mut(), from.map(day), to.map(day));
        days.await.unwrap()
    };
    let expected = numbers.map(day);
    assert_eq!(days(None, None).await, expected, "with rollups");
    database.execute("DELETE FROM rollup_deltas").await;
    assert_eq!(days(None, None).await, expected, "with events alone");
    assert_eq!(
        days(Some(2), Some(400)).await,
        numbers[2..9].iter().map(|n| day(*n)).collect::<Vec<_>>()
    );
    assert_eq!(days(Some(41), Some(399)).await, []);
    // Rollups whose events are gone.
    let late = [row("odd", 5_000)];
    flush(&database, rows.len() as u64, &late).await;
    database.execute("DELETE FROM events WHERE event_name = 'odd'").await;
    let even = numbers.into_iter().filter(|n| n % 2 == 0);
    let mut expected: Vec<Day> = even.chain([5_000]).map(day).collect();
    expected.sort();
    assert_eq!(days(None, None).await, expected, "rollups without events");
}
