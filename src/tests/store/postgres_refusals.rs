//! Reasons for refused rows that only PostgreSQL has: detached partitions, deferred constraints, functions that fail.

use fast_ingest::store::{EventSink, SinkError, StoreError};

use crate::support::database::{Database, Event, FEBRUARY, batch_of, event, wal_id};

const DAY: i64 = 86_400_000_000;

/// The event is refused with this code, and the connection still works.
async fn assert_refused(sink: &mut dyn EventSink, event: Event<'_>, expected: &str, words: &str) {
    let row = sink.checkpoint(wal_id()).await.unwrap().unwrap();
    let after = row.flushed_through;
    for event_id in [None, Some("1")] {
        let event = Event { event_id, ..event };
        match sink.flush(batch_of(after, &[event]).view()).await {
            Err(SinkError::Store(StoreError::Data { code, message })) => {
                assert_eq!(code, expected, "{message}");
                assert!(message.contains(words), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    let neighbour = Event {
        micros: event.micros - 40 * DAY,
        ..event
    };
    sink.flush(batch_of(after, &[neighbour]).view()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_partition_is_named_and_left_alone() {
    let database = Database::postgres().await;
    database.store_events(&[event("view", "ann", FEBRUARY)]).await;
    let mut sink = database.store().open_sink().await.unwrap();
    // Once known to the sink, and once not.
    sink.flush(batch_of(1, &[event("view", "bob", FEBRUARY)]).view())
        .await
        .unwrap();
    database
        .execute("ALTER TABLE events DETACH PARTITION events_2026_02")
        .await;
    let words = "events_2026_02 exists but is not attached";
    assert_refused(&mut *sink, event("view", "cid", FEBRUARY), "detached", words).await;
    let mut fresh = database.store().open_sink().await.unwrap();
    assert_refused(&mut *fresh, event("view", "cid", FEBRUARY), "detached", words).await;
    assert_eq!(database.count("events_2026_02").await, 2, "as it was");

    database
        .execute(
            "ALTER TABLE events ATTACH PARTITION events_2026_02
             FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:00+00')",
        )
        .await;
    let row = sink.checkpoint(wal_id()).await.unwrap().unwrap();
    let after = row.flushed_through;
    sink.flush(batch_of(after, &[event("view", "cid", FEBRUARY)]).view())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_being_detached_is_named() {
    let database = Database::postgres().await;
    database
        .store_events(&[
            event("view", "ann", FEBRUARY),
            event("view", "ann", FEBRUARY - 40 * DAY),
        ])
        .await;
    let reader = database.session().await;
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM events")
        .await
        .unwrap();
    let detacher = database.session().await;
    let detaching = tokio::spawn(async move {
        detacher
            .batch_execute("ALTER TABLE events DETACH PARTITION events_2026_02 CONCURRENTLY")
            .await
    });
    let observer = database.session().await;
    let is_pending = "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)";
    while !observer.query_one(is_pending, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    let mut sink = database.store().open_sink().await.unwrap();
    let words = "events_2026_02 is being detached";
    assert_refused(&mut *sink, event("view", "cid", FEBRUARY), "detached", words).await;
    reader.batch_execute("COMMIT").await.unwrap();
    detaching.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deferred_constraint_refuses_at_the_end_is_data() {
    let database = Database::postgres().await;
    database
        .store_events(&[event("view", "ann", FEBRUARY), event("view", "bob", FEBRUARY)])
        .await;
    database
        .execute(
            "CREATE TABLE names (name text PRIMARY KEY); INSERT INTO names VALUES ('view');
             ALTER TABLE events ADD FOREIGN KEY (event_name) REFERENCES names DEFERRABLE INITIALLY DEFERRED",
        )
        .await;
    let mut sink = database.store().open_sink().await.unwrap();
    for event_id in [None, Some("1")] {
        let bad = Event {
            event_id,
            ..event("bad", "cid", FEBRUARY)
        };
        let batch = batch_of(2, &[bad]);
        for outcome in [sink.flush(batch.view()).await, sink.rehearse(batch.view()).await] {
            assert!(
                matches!(&outcome, Err(SinkError::Store(StoreError::Data { code, .. })) if code == "23503"),
                "{outcome:?}"
            );
        }
    }
    let good = batch_of(2, &[event("view", "cid", FEBRUARY)]);
    sink.flush(good.view()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_broken_is_named_as_such() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    database
        .execute(
            "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO nowhere VALUES (1); RETURN NEW; END $$;
             CREATE TRIGGER own BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION own()",
        )
        .await;
    let error = sink
        .flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SinkError::Store(StoreError::Schema(text)) if text.contains("own()") && !text.contains("migrate up")),
        "{error}"
    );
}
