//! Rollups on PostgreSQL: deltas that match the stored rows, the keeper's lock and snapshot.

use fast_ingest::upkeep::upgrade;
use std::collections::{BTreeMap, BTreeSet};

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::{Bucket, Day, Width};
use fast_ingest::rollup::{Part, SeriesKey, Tally, UserKey, UserUnion};
use fast_ingest::store::{Flushed, RollupStore, SinkError, StoreError, migrations};

use crate::support::database::{Database, Event, FEBRUARY, batch_of, event, wal_id};

fn with_id<'a>(name: &'a str, channel: &'a str, user: &'a str, id: &'a str) -> Event<'a> {
    Event {
        channel,
        event_id: Some(id),
        ..event(name, user, FEBRUARY)
    }
}

/// Events by name, channel and quarter of an hour: by a plain count of the rows, and by the deltas.
type Counts = BTreeMap<(String, String, i64), (i64, u64)>;

async fn counted(database: &Database) -> Counts {
    let sql = "SELECT event_name, channel, (extract(epoch FROM date_bin('15 minutes', ts, 'epoch')) * 1000000)::bigint, count(*), \
               count(DISTINCT user_id) FROM events GROUP BY 1, 2, 3";
    let rows = database.session().await.query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let users: i64 = row.get(4);
            let users = u64::try_from(users).unwrap();
            ((row.get(0), row.get(1), row.get(2)), (row.get(3), users))
        })
        .collect()
}

/// Takes all deltas in a transaction that is not committed.
async fn folded(database: &Database) -> Counts {
    let mut rollups = begun(database).await;
    let mut sums: BTreeMap<_, (i64, UserUnion)> = BTreeMap::new();
    for delta in rollups.take_deltas(10_000).await.unwrap() {
        let quarter = delta.bucket.quarter().start.as_micros();
        let sum = sums
            .entry((delta.event_name, delta.channel, quarter))
            .or_insert_with(|| (0, UserUnion::new(100)));
        sum.0 += i64::try_from(delta.tally.events).unwrap();
        sum.1.add_set(delta.tally.users);
    }
    sums.into_iter()
        .map(|(key, (events, users))| (key, (events, users.finish().count().count)))
        .collect()
}

async fn begun(database: &Database) -> Box<dyn RollupStore> {
    let mut rollups = database.store().open_rollups().await.unwrap();
    assert!(rollups.begin(true).await.unwrap());
    rollups
}

fn tally(users: &[&str]) -> Tally {
    let mut union = UserUnion::new(100);
    users.iter().for_each(|user| union.add(UserKey::PUBLIC.hash(user)));
    Tally {
        events: users.len() as u64,
        users: union.finish(),
    }
}

fn key(name: Option<&str>, channel: Option<&str>) -> SeriesKey {
    SeriesKey {
        event_name: name.map(str::to_owned),
        channel: channel.map(str::to_owned),
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(FEBRUARY + micros)
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_are_what_a_count_of_the_stored_rows_says() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let now = Timestamp::now().as_micros();
    let mixed = [
        event("view", "ann", FEBRUARY),
        event("view", "ann", FEBRUARY + 1),
        event("view", "bob", now),
        with_id("view", "web", "ann", "1"),
        with_id("click", "app", "cid", "2"),
    ];
    let stored = sink.flush(batch_of(0, &mixed).view()).await.unwrap();
    assert_eq!(stored.stored, 5);
    assert_eq!(folded(&database).await, counted(&database).await);
    // Of two events with one id in a batch the first counts, under its own name and channel.
    let twice = [
        with_id("view", "web", "dan", "3"),
        with_id("click", "app", "dan", "3"),
        with_id("view", "web", "eve", "4"),
    ];
    let flushed = sink.flush(batch_of(5, &twice).view()).await.unwrap();
    assert_eq!(
        flushed,
        Flushed {
            stored: 2,
            duplicates: 1
        }
    );
    assert_eq!(folded(&database).await, counted(&database).await);
    // A retry under another name, beside new events with and without an id.
    let again = [
        with_id("click", "tv", "ann", "1"),
        with_id("view", "tv", "fay", "5"),
        event("view", "gus", FEBRUARY),
    ];
    let flushed = sink.flush(batch_of(8, &again).view()).await.unwrap();
    assert_eq!(
        flushed,
        Flushed {
            stored: 2,
            duplicates: 1
        }
    );
    let counts = counted(&database).await;
    assert_eq!(folded(&database).await, counts);
    assert!(!counts.contains_key(&("click".to_owned(), "tv".to_owned(), FEBRUARY)));
    // A batch without new events.
    let flushed = sink.flush(batch_of(11, &twice).view()).await.unwrap();
    assert_eq!(
        flushed,
        Flushed {
            stored: 0,
            duplicates: 3
        }
    );
    assert_eq!(folded(&database).await, counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stored_leaves_no_deltas() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    database.refuse_events_named("bad").await;
    for one in [event("bad", "ann", FEBRUARY), with_id("bad", "web", "ann", "1")] {
        let batch = batch_of(0, &[event("view", "bob", FEBRUARY), one]);
        let error = sink.flush(batch.view()).await.unwrap_err();
        assert!(matches!(error, SinkError::Store(StoreError::Data { .. })), "{error}");
    }
    let bad = batch_of(0, &[event("bad", "ann", FEBRUARY)]);
    sink.quarantine(bad.view(), "23514", "no").await.unwrap();
    for one in [event("view", "ann", FEBRUARY), with_id("view", "web", "ann", "1")] {
        let moved = sink.flush(batch_of(0, &[one]).view()).await.unwrap_err();
        assert!(matches!(moved, SinkError::CheckpointMoved), "{moved}");
    }
    assert_eq!(database.count("rollup_deltas").await, 0);
    // The connection works as before.
    let good = batch_of(1, &[event("view", "ann", FEBRUARY)]);
    assert_eq!(sink.flush(good.view()).await.unwrap().stored, 1);
    assert_eq!(folded(&database).await, counted(&database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_leaves_rows_of_our_own_table_out_stops_the_flush() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    database
        .execute(
            "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER skip BEFORE INSERT ON rollup_deltas FOR EACH ROW EXECUTE FUNCTION skip()",
        )
        .await;
    let batch = batch_of(0, &[event("view", "ann", FEBRUARY)]);
    let error = sink.flush(batch.view()).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Store(StoreError::Schema(text)) if text.contains("triggers on rollup_deltas")),
        "{error}"
    );
    drop(sink);
    let mut fresh = database.store().open_sink().await.unwrap();
    assert_eq!(
        fresh.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(0)
    );
    assert_eq!(database.count("events").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_on_our_own_tables_blames_no_event() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    database
        .execute("ALTER TABLE rollup_deltas ADD CONSTRAINT none CHECK (events < 0)")
        .await;
    let batch = batch_of(0, &[event("view", "ann", FEBRUARY)]);
    let error = sink.flush(batch.view()).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Store(StoreError::Schema(text)) if text.contains("rollup_deltas")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_one_at_a_time_and_goes_with_its_connection() {
    let database = Database::postgres().await;
    let holder = begun(&database).await;
    let mut other = database.store().open_rollups().await.unwrap();
    assert!(!other.begin(false).await.unwrap());
    // Reading needs no lock.
    other.begin_reading().await.unwrap();
    other.commit().await.unwrap();
    drop(holder);
    assert!(other.begin(true).await.unwrap());
    other.commit().await.unwrap();
    assert!(begun(&database).await.commit().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_for_the_lock_sees_what_its_holder_committed() {
    let database = Database::postgres().await;
    let mut holder = begun(&database).await;
    let mut waiter = database.store().open_rollups().await.unwrap();
    let waiting = tokio::spawn(async move {
        waiter.begin(true).await.unwrap();
        waiter.overflow_on(Day::of(at(0))).await.unwrap()
    });
    let observer = database.session().await;
    let waits =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory')";
    while !observer.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    holder.add_overflow(Day::of(at(0)), 7).await.unwrap();
    holder.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_behind_the_snapshot_keeps_its_deltas_for_the_next_time() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let first = batch_of(0, &[event("view", "ann", FEBRUARY)]);
    sink.flush(first.view()).await.unwrap();
    let mut rollups = begun(&database).await;
    assert_eq!(rollups.overflow_on(Day::of(at(0))).await.unwrap(), None);
    let second = batch_of(1, &[event("click", "bob", FEBRUARY)]);
    sink.flush(second.view()).await.unwrap();
    let taken = rollups.take_deltas(10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].event_name, "view");
    rollups.commit().await.unwrap();
    assert!(rollups.begin(false).await.unwrap());
    let taken = rollups.take_deltas(10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].event_name, "click");
    // Without a commit, the deltas are not taken.
    drop(rollups);
    assert_eq!(begun(&database).await.take_deltas(10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_and_days_come_back_as_they_were_put() {
    let database = Database::postgres().await;
    let mut rollups = begun(&database).await;
    let keys = [
        key(Some("view"), Some("web")),
        key(None, None),
        key(Some("view"), None),
        key(Some("view"), Some("web")),
    ];
    let ids = rollups.series_ids(&keys).await.unwrap();
    assert_eq!(ids[0], ids[3]);
    assert_eq!(BTreeSet::from_iter(&ids).len(), 3);
    assert_eq!(rollups.series_ids(&keys).await.unwrap(), ids);
    let day = Day::of(at(0));
    let minute = |n: i64| Bucket::of(at(n * 60_000_000), Width::Minute);
    let part = |bucket, users: &[&str]| Part {
        series: ids[0],
        bucket,
        tally: tally(users),
    };
    let parts = [
        part(minute(3), &["ann"]),
        part(minute(1), &["bob", "cid"]),
        part(minute(2), &["ann"]),
        part(minute(0).quarter(), &["eve"]),
    ];
    rollups.put_parts(&parts).await.unwrap();
    rollups.put_parts(&[part(minute(2), &["x", "y", "z"])]).await.unwrap();
    let wanted = [(ids[0], minute(2)), (ids[2], minute(2))];
    let found = rollups.parts_at(&wanted).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].tally.users.count().count, 3);
    assert_eq!(rollups.parts_of_day(ids[0], day).await.unwrap().len(), 4);
    assert_eq!(rollups.parts_on(day).await.unwrap()[0].0, keys[0]);
    let taken = rollups.take_minutes(minute(3).start, 10).await.unwrap();
    let starts: Vec<_> = taken.iter().map(|part| part.bucket).collect();
    assert_eq!(starts, [minute(1), minute(2)]);

    rollups
        .mark_stale(&[(ids[0], day), (ids[1], day), (ids[0], day)])
        .await
        .unwrap();
    rollups.put_days(&[(ids[0], day, tally(&["ann"]))]).await.unwrap();
    let after = Day::of(day.end());
    assert_eq!(rollups.stale_days(after, 10).await.unwrap(), [(ids[1], day)]);
    assert!(rollups.stale_days(day, 10).await.unwrap().is_empty());
    let sums = rollups.sums_on(day).await.unwrap();
    assert_eq!((&sums[0].0, sums[0].1, sums.len()), (&keys[0], ids[0], 1));
    assert_eq!(rollups.series_on(day).await.unwrap(), [keys[0].clone()]);
    rollups.add_overflow(day, 2).await.unwrap();
    rollups.add_overflow(day, 3).await.unwrap();
    assert_eq!(rollups.overflow_on(day).await.unwrap(), Some(5));
    rollups.clear_day(day).await.unwrap();
    assert!(rollups.parts_on(day).await.unwrap().is_empty());
    assert_eq!(rollups.overflow_on(day).await.unwrap(), None);
    assert!(rollups.stale_days(after, 10).await.unwrap().is_empty());
    rollups.set_rebuilt().await.unwrap();
    assert!(!rollups.rebuild_needed().await.unwrap());
    rollups.commit().await.unwrap();
    assert_eq!(database.count("rollup_series").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_is_not_written_again() {
    let database = Database::postgres().await;
    let row = "SELECT ctid::text, xmin::text, xmax::text FROM rollup_days";
    let observer = database.session().await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let mut rollups = begun(&database).await;
        let ids = rollups.series_ids(&[key(None, None)]).await.unwrap();
        rollups.mark_stale(&[(ids[0], Day::of(at(0)))]).await.unwrap();
        rollups.commit().await.unwrap();
        let row = observer.query_one(row, &[]).await.unwrap();
        let row: [String; 3] = [row.get(0), row.get(1), row.get(2)];
        seen.insert(row);
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_stored_are_found_whatever_the_partitions_are() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let stored = async || begun(&database).await.days_stored().await.unwrap();
    assert_eq!(stored().await, None);
    let day = 86_400_000_000;
    let events = [0, 40, 41, 100].map(|n| event("view", "ann", FEBRUARY + n * day));
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let (first, last) = (Day::of(at(0)), Day::of(at(100 * day)));
    assert_eq!(stored().await, Some((first, last)));
    // The remaining rows are in the middle, between months that are empty.
    database
        .execute("TRUNCATE rollup_deltas; DELETE FROM events WHERE ts < '2026-03-01' OR ts > '2026-05-01'")
        .await;
    let middle = (Day::of(at(40 * day)), Day::of(at(41 * day)));
    assert_eq!(stored().await, Some(middle));
    database
        .execute(
            "CREATE TABLE other PARTITION OF events DEFAULT; INSERT INTO events VALUES ('2030-06-01 00:00Z', 'view', 'web', 'zoe')",
        )
        .await;
    assert_eq!(stored().await.unwrap().0, middle.0);
    assert_eq!(stored().await.unwrap().1.start().as_micros(), 1_906_502_400_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_from_a_half_open_range() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let events = [0, 1, 2].map(|n| event("view", "ann", FEBRUARY + n));
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let mut rollups = database.store().open_rollups().await.unwrap();
    rollups.begin_reading().await.unwrap();
    let mut seen = Vec::new();
    rollups
        .read_events(at(0)..at(2), &mut |name, channel, user, ts| {
            assert_eq!((name, channel, user), ("view", "web", "ann"));
            seen.push(ts);
        })
        .await
        .unwrap();
    assert_eq!(seen, [at(0), at(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_read_without_its_lock_and_after_a_lost_session() {
    let database = Database::postgres().await;
    let read = || database.flushed_through(wal_id());
    assert_eq!(read().await.unwrap(), None);
    let _sink = database.sink_at(5).await;
    let locked = database.session().await;
    locked
        .batch_execute("BEGIN; UPDATE wal_checkpoints SET flushed_through = 6")
        .await
        .unwrap();
    assert_eq!(read().await.unwrap(), Some(5));
    locked.batch_execute("COMMIT").await.unwrap();
    let all = futures_util::future::join_all((0..20).map(|_| read())).await;
    assert!(all.into_iter().all(|read| read.unwrap() == Some(6)));
    let sessions = "SELECT count(*), count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE datname = current_database() AND query LIKE 'SELECT l.first_sequence%' AND pid <> pg_backend_pid()";
    let sessions: i64 = locked.query_one(sessions, &[]).await.unwrap().get(0);
    assert_eq!(sessions, 1);
    // The first read may still find the old session; the next read opens another.
    let mut looks = vec![read().await, read().await];
    assert_eq!(looks.pop().unwrap().unwrap(), Some(6));
}

/// An open flush of the release before: events that it commits while the migration waits for it must be counted.
#[tokio::test(flavor = "multi_thread")]
async fn the_migration_waits_for_open_flushes_and_sees_what_they_stored() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let events = [event("view", "ann", FEBRUARY)];
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    // Back to the release before the rollups.
    let down = database.migrate(|location| {
        migrations::down(location, false)?;
        migrations::down(location, false)?;
        migrations::down(location, false)
    });
    down.await.unwrap();
    // A server may have any default; with this one, a waiting transaction would see the state before its wait.
    database
        .execute(
            "DELETE FROM events;
             DO $$ BEGIN
                 EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database());
             END $$",
        )
        .await;
    let session = database.session().await;
    session
        .batch_execute(
            "BEGIN; UPDATE wal_checkpoints SET flushed_through = 2, updated_at = now();
             INSERT INTO events (ts, event_name, channel, user_id) VALUES ('2026-02-01Z', 'view', 'web', 'bob')",
        )
        .await
        .unwrap();
    let migrating = tokio::spawn({
        let database = database.clone();
        async move {
            let up = |location: &_| {
                migrations::apply(location, std::time::Duration::ZERO)?;
                upgrade::build_rollups(location, 1_000)
            };
            database.migrate(up).await
        }
    });
    let watcher = database.session().await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'wal_checkpoints'::regclass AND NOT granted";
    loop {
        let waiting: i64 = watcher.query_one(waiting, &[]).await.unwrap().get(0);
        if waiting > 0 {
            break;
        }
        assert!(!migrating.is_finished(), "did not wait");
    }
    session.batch_execute("COMMIT").await.unwrap();
    let built = migrating.await.unwrap().unwrap();
    assert_eq!(built.map(|built| built.events), Some(1));
}
