//! What a flush adds: the fold of exactly the events that it stored.

use std::collections::BTreeMap;

use fast_ingest::event::Timestamp;
use fast_ingest::rollup::{UserKey, UserSet, UserUnion};
use fast_ingest::store::{Flushed, SinkError, StoreError};

use super::{bucket, file, width_at};
use crate::support::database::{Database, Event, FEBRUARY, batch_of, event};

/// Name, channel, start and minutes; events and encoded users.
type Sums = BTreeMap<(String, String, i64, i64), (u64, Vec<u8>)>;

/// The deltas, added up by bucket.
fn deltas(database: &Database) -> Sums {
    let file = file(database);
    let mut statement = file
        .prepare("SELECT event_name, channel, bucket, minutes, events, users FROM rollup_deltas")
        .unwrap();
    let rows = statement.query_map([], |row| {
        let key: (String, String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((key, row.get::<_, i64>(4)?, row.get::<_, Vec<u8>>(5)?))
    });
    let mut sums: BTreeMap<_, (u64, UserUnion)> = BTreeMap::new();
    for row in rows.unwrap() {
        let (key, events, users) = row.unwrap();
        let sum = sums.entry(key).or_insert((0, UserUnion::new(100)));
        sum.0 += events as u64;
        sum.1.add_set(UserSet::decode(&users).unwrap());
    }
    finish(sums)
}

/// A recount of the stored events. At `now` the width of each event's bucket must be certain.
fn recount(database: &Database, now: i64) -> Sums {
    let file = file(database);
    let mut statement = file
        .prepare("SELECT event_name, channel, ts, user_id FROM events")
        .unwrap();
    let rows = statement.query_map([], |row| {
        let names: (String, String) = (row.get(0)?, row.get(1)?);
        Ok((names, row.get::<_, i64>(2)?, row.get::<_, String>(3)?))
    });
    let mut sums: BTreeMap<_, (u64, UserUnion)> = BTreeMap::new();
    for row in rows.unwrap() {
        let ((name, channel), micros, user) = row.unwrap();
        let bucket = bucket(micros, width_at(now, micros));
        let minutes = i64::from(bucket.width.minutes());
        let key = (name, channel, bucket.start.as_micros(), minutes);
        let sum = sums.entry(key).or_insert((0, UserUnion::new(100)));
        sum.0 += 1;
        sum.1.add(UserKey::PUBLIC.hash(&user));
    }
    finish(sums)
}

fn finish(sums: BTreeMap<(String, String, i64, i64), (u64, UserUnion)>) -> Sums {
    let encoded = |(key, (events, users)): (_, (u64, UserUnion))| {
        let users: UserUnion = users;
        (key, (events, users.finish().encode()))
    };
    sums.into_iter().map(encoded).collect()
}

#[tokio::test]
async fn deltas_are_the_fold_of_what_is_stored() {
    let database = Database::sqlite().await.without_user_key().await;
    let mut sink = database.sink_at(0).await;
    let now = Timestamp::now().as_micros();
    // More users in one bucket than are named one by one, several names, channels and buckets, old and fresh.
    let names: Vec<String> = (0..1_000).map(|n| format!("user-{}", n % 337)).collect();
    let mut events: Vec<Event<'_>> = Vec::new();
    for (n, user) in (0i64..).zip(&names) {
        let base = if n % 5 == 0 { now } else { FEBRUARY };
        events.push(Event {
            channel: if n % 7 == 0 { "app" } else { "web" },
            ..event(
                if n % 3 == 0 { "view" } else { "click" },
                user,
                base + n % 4 * 7 * 60_000_000,
            )
        });
    }
    sink.flush(batch_of(0, &events[..600]).view()).await.unwrap();
    assert_eq!(deltas(&database), recount(&database, now));
    sink.flush(batch_of(600, &events[600..]).view()).await.unwrap();
    let deltas = deltas(&database);
    assert_eq!(deltas, recount(&database, now));
    let total: u64 = deltas.values().map(|(events, _)| events).sum();
    assert_eq!(total, 1_000);
    let is_sketch = |users: &[u8]| !UserSet::decode(users).unwrap().is_exact();
    assert!(deltas.values().any(|(_, users)| is_sketch(users)));
    assert!(deltas.keys().any(|(_, _, _, minutes)| *minutes == 1));
}

#[tokio::test]
async fn a_duplicate_adds_nothing_even_under_another_name() {
    let database = Database::sqlite().await.without_user_key().await;
    let mut sink = database.sink_at(0).await;
    let with_id = |name, channel, id| Event {
        channel,
        event_id: Some(id),
        ..event(name, "ann", FEBRUARY)
    };
    let first = [
        with_id("view", "web", "1"),
        with_id("view", "web", "1"),
        with_id("other", "web", "1"),
        with_id("view", "app", "1"),
        with_id("view", "web", "2"),
    ];
    let flushed = sink.flush(batch_of(0, &first).view()).await.unwrap();
    assert_eq!((flushed.stored, flushed.duplicates), (2, 3));
    let expected = recount(&database, Timestamp::now().as_micros());
    assert_eq!(deltas(&database), expected);
    assert_eq!(expected.len(), 1, "only the first name and channel count");
    // In a later batch, once beside a new event and once alone.
    let second = [
        with_id("other", "tv", "2"),
        with_id("click", "web", "3"),
        with_id("view", "web", "1"),
    ];
    let flushed = sink.flush(batch_of(5, &second).view()).await.unwrap();
    assert_eq!((flushed.stored, flushed.duplicates), (1, 2));
    let third = [with_id("view", "web", "3")];
    let flushed = sink.flush(batch_of(8, &third).view()).await.unwrap();
    let nothing = Flushed {
        stored: 0,
        duplicates: 1,
    };
    assert_eq!(flushed, nothing);
    let expected = recount(&database, Timestamp::now().as_micros());
    assert_eq!(deltas(&database), expected);
    assert_eq!(expected.len(), 2);
    assert_eq!(database.count("rollup_deltas").await, 2);
}

#[tokio::test]
async fn what_stores_no_event_adds_no_delta() {
    let database = Database::sqlite().await;
    let mut sink = database.sink_at(0).await;
    let good = event("view", "ann", FEBRUARY);
    // Quarantine.
    sink.quarantine(batch_of(0, &[good]).view(), "22000", "no")
        .await
        .unwrap();
    // A checkpoint that differs from the batch's beginning.
    let error = sink.flush(batch_of(0, &[good]).view()).await.unwrap_err();
    assert!(matches!(error, SinkError::CheckpointMoved), "{error}");
    // A batch of a good event and a refused one after it.
    database.refuse_events_named("bad").await;
    let bad = event("bad", "bob", FEBRUARY);
    let error = sink.flush(batch_of(1, &[good, bad]).view()).await.unwrap_err();
    assert!(matches!(error, SinkError::Store(StoreError::Data { .. })), "{error}");
    assert_eq!(database.count("events").await, 0);
    assert_eq!(database.count("rollup_deltas").await, 0);
    // The good event alone.
    sink.flush(batch_of(1, &[good]).view()).await.unwrap();
    assert_eq!(database.count("rollup_deltas").await, 1);
}
