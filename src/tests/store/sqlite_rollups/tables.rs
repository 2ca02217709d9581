//! Deltas, series, parts and events: every read and every change.

use fast_ingest::event::bucket::DAY_MICROS;
use fast_ingest::event::bucket::{MINUTE_MICROS, QUARTER_MICROS, Width};
use fast_ingest::rollup::Part;

use super::{Told, at, begun, bucket, day, key, part, tally, three_series, told};
use crate::support::database::{Database, Event, FEBRUARY, batch_of, event};

fn all_told(parts: &[Part]) -> Vec<Told> {
    let mut all: Vec<_> = parts.iter().map(told).collect();
    all.sort();
    all
}

#[tokio::test]
async fn deltas_are_taken_once_the_oldest_first() {
    let database = Database::sqlite().await.without_user_key().await;
    let mut sink = database.sink_at(0).await;
    for (after, name) in [(0, "zulu"), (1, "alfa"), (2, "mike")] {
        let event = event(name, "ann", FEBRUARY + QUARTER_MICROS + 1);
        sink.flush(batch_of(after, &[event]).view()).await.unwrap();
    }
    let mut rollups = begun(&database).await;
    let taken = rollups.take_deltas(2).await.unwrap();
    let names: Vec<_> = taken.iter().map(|delta| &*delta.event_name).collect();
    assert_eq!(names, ["zulu", "alfa"]);
    assert_eq!(taken[0].channel, "web");
    let quarter = bucket(FEBRUARY + QUARTER_MICROS, Width::Quarter);
    assert_eq!(taken[0].bucket, quarter);
    let expected = tally(1, &["ann"]);
    assert_eq!(taken[0].tally.events, 1);
    assert_eq!(taken[0].tally.users.encode(), expected.users.encode());
    let rest = rollups.take_deltas(10).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].event_name, "mike");
    assert!(rollups.take_deltas(10).await.unwrap().is_empty());
    rollups.commit().await.unwrap();
    assert_eq!(database.count("rollup_deltas").await, 0);
}

#[tokio::test]
async fn a_series_keeps_its_number() {
    let database = Database::sqlite().await;
    let mut rollups = begun(&database).await;
    let ids = three_series(&mut *rollups).await;
    rollups.commit().await.unwrap();
    let mut rollups = begun(&database).await;
    let keys = [
        key(None, None),
        key(Some("view"), Some("app")),
        key(Some("view"), Some("web")),
        key(Some("view"), Some("app")),
        key(Some("view"), None),
        key(Some("web"), None),
    ];
    let again = rollups.series_ids(&keys).await.unwrap();
    assert_eq!([again[2], again[4], again[0]], ids);
    assert_eq!(again[1], again[3]);
    rollups.commit().await.unwrap();
    assert_eq!(database.count("rollup_series").await, 5);
    assert!(begun(&database).await.series_ids(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn parts_are_found_by_series_bucket_and_day() {
    let database = Database::sqlite().await;
    let mut rollups = begun(&database).await;
    let [pair, name, _] = three_series(&mut *rollups).await;
    let last = FEBRUARY + DAY_MICROS - 1;
    let parts = [
        part(pair, FEBRUARY - 1, Width::Quarter, tally(9, &["eve"])),
        part(pair, FEBRUARY, Width::Quarter, tally(2, &["ann", "bob"])),
        part(pair, FEBRUARY, Width::Minute, tally(1, &["ann"])),
        part(pair, last, Width::Minute, tally(3, &["cid"])),
        part(pair, last + 1, Width::Quarter, tally(4, &["dan"])),
        part(name, FEBRUARY, Width::Quarter, tally(5, &["ann"])),
    ];
    rollups.put_parts(&parts).await.unwrap();
    let of_day = rollups.parts_of_day(pair, day(0)).await.unwrap();
    assert_eq!(all_told(&of_day), all_told(&parts[1..4]));
    let wanted = [
        (name, bucket(FEBRUARY, Width::Quarter)),
        (name, bucket(FEBRUARY, Width::Minute)),
        (pair, bucket(FEBRUARY, Width::Minute)),
        (pair, bucket(FEBRUARY + DAY_MICROS * 9, Width::Minute)),
        (99, bucket(FEBRUARY, Width::Quarter)),
    ];
    let found = rollups.parts_at(&wanted).await.unwrap();
    let expected = [parts[2].clone(), parts[5].clone()];
    assert_eq!(all_told(&found), all_told(&expected));
    // Writing a part again replaces it.
    let replaced = part(name, FEBRUARY, Width::Quarter, tally(6, &["bob"]));
    rollups.put_parts(std::slice::from_ref(&replaced)).await.unwrap();
    let found = rollups.parts_at(&wanted[..1]).await.unwrap();
    assert_eq!(all_told(&found), all_told(&[replaced]));
}

#[tokio::test]
async fn minutes_are_taken_the_oldest_first() {
    let database = Database::sqlite().await;
    let mut rollups = begun(&database).await;
    let [pair, name, all] = three_series(&mut *rollups).await;
    let minute = |series, n: i64| {
        let micros = FEBRUARY + n * MINUTE_MICROS;
        part(series, micros, Width::Minute, tally(n as u64, &["ann"]))
    };
    let quarter = part(pair, FEBRUARY, Width::Quarter, tally(1, &[]));
    let minutes = [minute(all, 4), minute(pair, 3), minute(pair, 2), minute(name, 1)];
    rollups.put_parts(&minutes).await.unwrap();
    rollups.put_parts(std::slice::from_ref(&quarter)).await.unwrap();
    let before = at(FEBRUARY + 4 * MINUTE_MICROS);
    let taken = rollups.take_minutes(before, 2).await.unwrap();
    let taken: Vec<_> = taken.iter().map(told).collect();
    assert_eq!(taken, [told(&minutes[3]), told(&minutes[2])]);
    let taken = rollups.take_minutes(before, 9).await.unwrap();
    assert_eq!(all_told(&taken), all_told(&minutes[1..2]));
    assert!(rollups.take_minutes(before, 9).await.unwrap().is_empty());
    let left = rollups.parts_on(day(0)).await.unwrap();
    let left: Vec<_> = left.into_iter().map(|(_, part)| part).collect();
    assert_eq!(all_told(&left), all_told(&[quarter, minutes[0].clone()]));
}

#[tokio::test]
async fn the_events_of_a_range_are_handed_over() {
    let database = Database::sqlite().await;
    let mut sink = database.sink_at(0).await;
    let app = Event {
        channel: "app",
        ..event("click", "bob", FEBRUARY + 9)
    };
    let events = [
        event("view", "eve", FEBRUARY - 1),
        event("view", "ann", FEBRUARY),
        app,
        event("view", "ann", FEBRUARY + 9),
        event("alfa", "eve", FEBRUARY + 10),
    ];
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let mut rollups = begun(&database).await;
    let mut read = Vec::new();
    rollups
        .read_events(at(FEBRUARY)..at(FEBRUARY + 10), &mut |name, channel, user, time| {
            read.push(format!("{name} {channel} {user} {}", time.as_micros() - FEBRUARY));
        })
        .await
        .unwrap();
    read.sort();
    assert_eq!(read, ["click app bob 9", "view web ann 0", "view web ann 9"]);
}

#[tokio::test]
async fn a_day_is_read_and_cleared_as_a_whole() {
    let database = Database::sqlite().await;
    let mut sink = database.sink_at(0).await;
    let mut rollups = begun(&database).await;
    let [pair, name, all] = three_series(&mut *rollups).await;
    for n in [-1, 0, 1] {
        let micros = FEBRUARY + n * DAY_MICROS;
        let parts = [pair, name, all].map(|series| part(series, micros, Width::Quarter, tally(2, &["ann"])));
        rollups.put_parts(&parts).await.unwrap();
        let last = micros + DAY_MICROS - 1;
        let minute = part(pair, last, Width::Minute, tally(1, &["bob"]));
        rollups.put_parts(&[minute]).await.unwrap();
        rollups.mark_stale(&[(name, day(n))]).await.unwrap();
        let sum = (pair, day(n), tally(3, &["ann", "bob"]));
        rollups.put_days(&[sum]).await.unwrap();
        rollups.add_overflow(day(n), 1).await.unwrap();
    }
    rollups.commit().await.unwrap();
    let events = [-1, 0, DAY_MICROS - 1, DAY_MICROS].map(|micros| event("view", "ann", FEBRUARY + micros));
    sink.flush(batch_of(0, &events).view()).await.unwrap();

    let mut rollups = begun(&database).await;
    let mut on: Vec<_> = rollups
        .parts_on(day(0))
        .await
        .unwrap()
        .into_iter()
        .map(|(key, part)| (key, told(&part)))
        .collect();
    on.sort();
    let mut keys: Vec<_> = on.iter().map(|(key, part)| (key.clone(), part.0, part.3)).collect();
    keys.dedup();
    let web = key(Some("view"), Some("web"));
    let expected = [
        (key(None, None), all, 2),
        (key(Some("view"), None), name, 2),
        (web.clone(), pair, 2),
        (web, pair, 1),
    ];
    assert_eq!(keys, expected);
    assert_eq!(rollups.deltas_on(day(0)).await.unwrap().len(), 2);
    rollups.clear_day(day(0)).await.unwrap();
    for (n, there) in [(-1, true), (0, false), (1, true)] {
        assert_eq!(!rollups.parts_on(day(n)).await.unwrap().is_empty(), there);
        assert_eq!(!rollups.sums_on(day(n)).await.unwrap().is_empty(), there);
        assert_eq!(!rollups.series_on(day(n)).await.unwrap().is_empty(), there);
        assert_eq!(!rollups.deltas_on(day(n)).await.unwrap().is_empty(), there);
        assert_eq!(rollups.overflow_on(day(n)).await.unwrap().is_some(), there);
    }
    rollups.commit().await.unwrap();
    assert_eq!(database.count("rollups").await, 8);
    assert_eq!(database.count("rollup_days").await, 4);
    assert_eq!(database.count("events").await, 4);
}
