//! Rollups on PostgreSQL: deltas that match the stored rows, whatever becomes of the flush.

mod keeping;

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
