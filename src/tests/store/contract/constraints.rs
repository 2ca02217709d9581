//! A user's own constraints and triggers on `events` affect the row that they refuse and no other, with and without an
//! `event_id`.

use fast_ingest::store::{EventSink, Flushed, SinkError, StoreError};
use fast_ingest::wal::batch::BatchView;

use super::contract;
use crate::support::database::{Database, Event, FEBRUARY, batch_of, event};

contract! {
    what_a_unique_index_of_the_users_refuses_is_data,
    a_duplicate_stays_one_beside_a_unique_index_of_the_users,
    what_a_trigger_leaves_out_is_data,
    what_a_trigger_raises_is_data,
    an_error_that_says_nothing_is_unclear_and_others_can_be_rehearsed,
}

async fn what_a_unique_index_of_the_users_refuses_is_data(database: Database) {
    put_on_unique_index(&database).await;
    let code = by_store(&database, "23505", "SQLITE_CONSTRAINT_UNIQUE");
    let mut sink = database.sink_at(0).await;
    let first = batch_of(0, &[event("bad", "first", FEBRUARY)]);
    sink.flush(first.view()).await.unwrap();
    for (after, with_id) in [(1, false), (4, true)] {
        assert_refused(&mut *sink, &database, after, with_id, code).await;
    }
}

async fn a_duplicate_stays_one_beside_a_unique_index_of_the_users(database: Database) {
    put_on_unique_index(&database).await;
    let mut sink = database.sink_at(0).await;
    let bad = Event {
        event_id: Some("1"),
        ..event("bad", "ann", FEBRUARY)
    };
    sink.flush(batch_of(0, &[bad]).view()).await.unwrap();
    let again = batch_of(1, &[bad, event("view", "bob", FEBRUARY)]);
    let expected = Flushed {
        stored: 1,
        duplicates: 1,
    };
    assert_eq!(sink.flush(again.view()).await.unwrap(), expected);
}

async fn what_a_trigger_leaves_out_is_data(database: Database) {
    put_on_trigger(&database, "RETURN NULL", "RAISE(IGNORE)").await;
    let mut sink = database.sink_at(0).await;
    for (after, with_id) in [(0, false), (3, true)] {
        assert_refused(&mut *sink, &database, after, with_id, "dropped").await;
    }
    // Beside a duplicate, too.
    let [good, bad, _] = events(true);
    let error = sink.flush(batch_of(6, &[good, bad]).view()).await;
    assert!(
        matches!(&error, Err(SinkError::Store(StoreError::Data { code, message })) if code == "dropped" && message.contains("trigger")),
        "{error:?}"
    );
    let duplicate = sink.flush(batch_of(6, &[good]).view()).await.unwrap();
    assert_eq!(duplicate.duplicates, 1);
}

async fn what_a_trigger_raises_is_data(database: Database) {
    // The second error has the code of a missing partition.
    let raises = [
        ("RAISE 'no'", "P0001"),
        ("RAISE 'no' USING ERRCODE = 'check_violation'", "23514"),
    ];
    let mut sink = database.sink_at(0).await;
    let mut after = 0;
    for (raise, code) in raises {
        put_on_trigger(&database, raise, "RAISE(ABORT, 'no')").await;
        let code = by_store(&database, code, "SQLITE_CONSTRAINT_TRIGGER");
        for with_id in [false, true] {
            assert_refused(&mut *sink, &database, after, with_id, code).await;
            after += 3;
        }
        database.execute("DELETE FROM events").await;
    }
}

async fn an_error_that_says_nothing_is_unclear_and_others_can_be_rehearsed(database: Database) {
    put_on_trigger(&database, "RAISE 'no' USING ERRCODE = 'FI001'", "json('{')").await;
    let mut sink = database.sink_at(0).await;
    for with_id in [false, true] {
        let [good, bad, _] = events(with_id);
        for refused in [&[bad][..], &[good, bad]] {
            let error = sink.flush(batch_of(0, refused).view()).await.unwrap_err();
            assert!(matches!(error, SinkError::Store(StoreError::Unclear { .. })), "{error}");
        }
        let rehearsed = sink.rehearse(batch_of(0, &[good]).view()).await.unwrap();
        assert_eq!(rehearsed.stored, 1);
        let error = sink.rehearse(batch_of(0, &[bad]).view()).await.unwrap_err();
        assert!(matches!(error, SinkError::Store(StoreError::Unclear { .. })), "{error}");
    }
    assert_eq!(database.count("events").await, 0);
    assert_eq!(database.count("rollup_deltas").await, 0);
    // Nothing is stored, and the connection still works.
    let [good, ..] = events(false);
    sink.flush(batch_of(0, &[good]).view()).await.unwrap();
}

fn by_store<'a>(database: &Database, on_postgres: &'a str, on_sqlite: &'a str) -> &'a str {
    match database.store().name() {
        "postgresql" => on_postgres,
        _ => on_sqlite,
    }
}

/// A unique index: at most one event named "bad" per time and channel.
async fn put_on_unique_index(database: &Database) {
    let index = "CREATE UNIQUE INDEX own ON events (ts, channel, event_name) WHERE event_name = 'bad'";
    database.execute(index).await;
}

/// A trigger that does this to events named "bad", before they are inserted.
async fn put_on_trigger(database: &Database, on_postgres: &str, on_sqlite: &str) {
    let postgres = format!(
        "CREATE OR REPLACE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN IF NEW.event_name = 'bad' THEN {on_postgres}; END IF; RETURN NEW; END $$;
         CREATE OR REPLACE TRIGGER own BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION own()"
    );
    let sqlite = format!(
        "DROP TRIGGER IF EXISTS own;
         CREATE TRIGGER own BEFORE INSERT ON events WHEN NEW.event_name = 'bad' BEGIN SELECT {on_sqlite}; END"
    );
    database.execute(by_store(database, &postgres, &sqlite)).await;
}

fn events(with_id: bool) -> [Event<'static>; 3] {
    [("view", "ann"), ("bad", "bob"), ("view", "cid")].map(|(name, user)| Event {
        event_id: with_id.then_some("1"),
        ..event(name, user, FEBRUARY)
    })
}

/// The whole batch is refused; in its halves, only the one event in its middle is, and it can be quarantined on the
/// same connection.
async fn assert_refused(sink: &mut dyn EventSink, database: &Database, after: u64, with_id: bool, expected: &str) {
    let (stored, quarantined) = (database.count("events").await, database.count("quarantine").await);
    let batch = batch_of(after, &events(with_id));
    refusal(sink, batch.view(), expected).await;
    let (good, rest) = batch.view().split_at(1);
    let (bad, last) = rest.split_at(1);
    sink.flush(good).await.unwrap();
    let message = refusal(sink, bad, expected).await;
    sink.quarantine(bad, expected, &message).await.unwrap();
    sink.flush(last).await.unwrap();
    assert_eq!(database.count("events").await, stored + 2);
    assert_eq!(database.count("quarantine").await, quarantined + 1);
}

async fn refusal(sink: &mut dyn EventSink, batch: BatchView<'_>, expected: &str) -> String {
    match sink.flush(batch).await {
        Err(SinkError::Store(StoreError::Data { code, message })) => {
            assert_eq!(code, expected, "{message}");
            message
        }
        other => panic!("{expected} is not {other:?}"),
    }
}
