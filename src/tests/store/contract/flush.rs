//! Batches, checkpoints, duplicates: the behaviour of a sink.

use fast_ingest::event::bucket::DAY_MICROS;
use fast_ingest::query::Counts;
use fast_ingest::store::{Flushed, SinkError};
use fast_ingest::wal::id;
use fast_ingest::wal::id::{LifeId, Mark, WalId};
use uuid::Uuid;

use super::contract;
use crate::support::database::{Database, Event, FEBRUARY, Stored, batch_of, event, query, wal_id};

contract! {
    flush_stores_rows_and_moves_the_checkpoint,
    a_batch_that_does_not_follow_the_checkpoint_stores_nothing,
    a_batch_that_expects_another_mark_stores_nothing,
    what_becomes_of_every_event_is_counted_at_the_checkpoint,
    an_unknown_log_has_no_checkpoint,
    a_checkpoint_is_made_once,
    logs_have_separate_checkpoints,
    an_event_id_is_stored_once_a_user_and_time,
    events_without_id_are_never_taken_for_duplicates,
    every_field_comes_back_as_it_was,
    large_batches_of_every_kind_are_stored_whole,
    months_far_apart_fit_into_one_batch,
}

async fn flush_stores_rows_and_moves_the_checkpoint(database: Database) {
    let mut sink = database.sink_at(0).await;
    let batch = batch_of(0, &[event("view", "ann", FEBRUARY), event("view", "bob", FEBRUARY + 1)]);
    assert_eq!(
        sink.flush(batch.view()).await.unwrap(),
        Flushed {
            stored: 2,
            duplicates: 0
        }
    );
    assert_eq!(
        sink.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(2)
    );
    let next = batch_of(2, &[event("view", "cid", FEBRUARY)]);
    sink.flush(next.view()).await.unwrap();
    // Checked from another connection.
    drop(sink);
    let mut other = database.store().open_sink().await.unwrap();
    assert_eq!(
        other.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(3)
    );
    assert_eq!(database.users().await, ["ann", "bob", "cid"]);
}

async fn a_batch_that_does_not_follow_the_checkpoint_stores_nothing(database: Database) {
    let mut sink = database.sink_at(10).await;
    for after in [0, 9, 11] {
        let mut with_id = event("view", "ann", FEBRUARY);
        with_id.event_id = Some("id");
        let batch = batch_of(after, &[event("view", "ann", FEBRUARY), with_id]);
        let error = sink.flush(batch.view()).await.unwrap_err();
        assert!(matches!(error, SinkError::CheckpointMoved), "{error}");
        let one = batch_of(after, &[event("view", "ann", FEBRUARY)]);
        let error = sink.quarantine(one.view(), "22000", "no").await.unwrap_err();
        assert!(matches!(error, SinkError::CheckpointMoved), "{error}");
    }
    assert_eq!(
        sink.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(10)
    );
    assert_eq!(database.users().await, [""; 0]);
    assert_eq!(database.count("quarantine").await, 0);
    // The connection still works.
    sink.flush(batch_of(10, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap();
    assert_eq!(database.users().await, ["ann"]);
}

/// The checkpoint stands where the batch begins, but another life or another commit has put it there.
async fn a_batch_that_expects_another_mark_stores_nothing(database: Database) {
    let mark = |life, token| Mark {
        life: LifeId(Uuid::from_u128(life)),
        token: Uuid::from_u128(token),
    };
    let mut sink = database.sink_at(0).await;
    let first = batch_of(0, &[event("view", "ann", FEBRUARY)]);
    let found = mark(1, 1);
    sink.flush(first.view().with_marks(Mark::default(), found))
        .await
        .unwrap();
    let next = batch_of(1, &[event("view", "bob", FEBRUARY)]);
    for expected in [mark(2, 1), mark(1, 2), Mark::default()] {
        let batch = next.view().with_marks(expected, mark(1, 3));
        let outcomes = [
            sink.flush(batch).await.err(),
            sink.rehearse(batch).await.err(),
            sink.quarantine(batch, "22000", "no").await.err(),
        ];
        for outcome in outcomes {
            let is_it = matches!(outcome, Some(SinkError::CheckpointMoved));
            assert!(is_it, "{expected:?}: {outcome:?}");
        }
    }
    let row = sink.checkpoint(wal_id()).await.unwrap().unwrap();
    assert_eq!((row.flushed_through, row.mark), (1, found));
    assert_eq!(database.users().await, ["ann"]);
    assert_eq!(database.count("quarantine").await, 0);
    sink.flush(next.view().with_marks(found, mark(1, 3))).await.unwrap();
    let row = sink.checkpoint(wal_id()).await.unwrap().unwrap();
    assert_eq!((row.flushed_through, row.mark), (2, mark(1, 3)));
    assert_eq!(database.users().await, ["ann", "bob"]);
}

async fn what_becomes_of_every_event_is_counted_at_the_checkpoint(database: Database) {
    let with_id = |user| Event {
        event_id: Some("1"),
        ..event("view", user, FEBRUARY)
    };
    let mut sink = database.sink_at(2).await;
    let events = [with_id("ann"), with_id("ann"), event("view", "bob", FEBRUARY)];
    sink.flush(batch_of(2, &events).view()).await.unwrap();
    let bad = batch_of(5, &[event("bad", "cid", FEBRUARY)]);
    sink.quarantine(bad.view(), "22000", "no").await.unwrap();
    // A rehearsed event is counted nowhere.
    let again = [with_id("ann"), with_id("dan")];
    sink.rehearse(batch_of(6, &again).view()).await.unwrap();
    sink.flush(batch_of(6, &again).view()).await.unwrap();
    let row = sink.checkpoint(wal_id()).await.unwrap().unwrap();
    let expected = id::EventOutcomes {
        applied: 3,
        duplicates: 2,
        quarantined: 1,
        skipped: 2,
    };
    assert_eq!((row.counts, row.counts.sum()), (expected, 8));
    assert_eq!(row.flushed_through, 8);
}

async fn an_unknown_log_has_no_checkpoint(database: Database) {
    let mut sink = database.store().open_sink().await.unwrap();
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), None);
    let error = sink
        .flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap_err();
    assert!(matches!(error, SinkError::CheckpointMoved), "{error}");
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), None);
}

async fn a_checkpoint_is_made_once(database: Database) {
    let mut sink = database.sink_at(5).await;
    let error = sink.create_checkpoint(wal_id(), 0, Mark::default()).await.unwrap_err();
    assert!(matches!(error, SinkError::CheckpointMoved), "{error}");
    assert_eq!(
        sink.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(5)
    );
}

async fn logs_have_separate_checkpoints(database: Database) {
    let mut sink = database.sink_at(0).await;
    let other = WalId(Uuid::from_u128(99));
    sink.create_checkpoint(other, 7, Mark::default()).await.unwrap();
    sink.flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap();
    assert_eq!(
        sink.checkpoint(other).await.unwrap().map(|row| row.flushed_through),
        Some(7)
    );
    assert_eq!(
        sink.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(1)
    );
}

async fn an_event_id_is_stored_once_a_user_and_time(database: Database) {
    let with_id = |user, micros, id| Event {
        event_id: Some(id),
        ..event("view", user, micros)
    };
    let mut sink = database.sink_at(0).await;
    let first = [
        with_id("ann", FEBRUARY, "1"),
        with_id("ann", FEBRUARY, "1"),
        with_id("bob", FEBRUARY, "1"),
        with_id("ann", FEBRUARY, "2"),
        with_id("ann", FEBRUARY + 1, "1"),
    ];
    assert_eq!(
        sink.flush(batch_of(0, &first).view()).await.unwrap(),
        Flushed {
            stored: 4,
            duplicates: 1
        }
    );
    let second = [
        with_id("ann", FEBRUARY, "1"),
        event("view", "cid", FEBRUARY),
        with_id("bob", FEBRUARY, "2"),
    ];
    assert_eq!(
        sink.flush(batch_of(5, &second).view()).await.unwrap(),
        Flushed {
            stored: 2,
            duplicates: 1
        }
    );
    // A retry on another connection: all events are known already.
    let mut other = database.store().open_sink().await.unwrap();
    assert_eq!(
        other.flush(batch_of(8, &first).view()).await.unwrap(),
        Flushed {
            stored: 0,
            duplicates: 5
        }
    );
    assert_eq!(
        other.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(13)
    );
    assert_eq!(database.users().await, ["ann", "ann", "ann", "bob", "bob", "cid"]);
}

async fn events_without_id_are_never_taken_for_duplicates(database: Database) {
    let mut sink = database.sink_at(0).await;
    let twice = batch_of(0, &[event("view", "ann", FEBRUARY), event("view", "ann", FEBRUARY)]);
    assert_eq!(
        sink.flush(twice.view()).await.unwrap(),
        Flushed {
            stored: 2,
            duplicates: 0
        }
    );
}

async fn every_field_comes_back_as_it_was(database: Database) {
    let odd = [
        "'",
        "\"",
        "\\",
        "\t",
        "\r\n",
        "\\N",
        "\\.",
        "{a,\"b\"}",
        "NULL",
        "é",
        "日本",
        "🦀",
        "\u{1}",
        "\u{7f}",
        "$1",
        "%s",
        " x ",
    ];
    let nested = r#"{"a":{"b":[1,2.5,-3,1e-3,true,null,"\"\\ \u00e9 🦀"]},"'":"\t"}"#;
    let mut events = vec![
        Event {
            tags: Some(&[]),
            ..event("no tags", "u00", FEBRUARY)
        },
        event("absent tags", "u01", FEBRUARY + 999_999),
        Event {
            tags: Some(&odd),
            ..event("odd tags", "u02", FEBRUARY)
        },
        Event {
            metadata: Some(nested),
            ..event("metadata", "u03", 0)
        },
        Event {
            metadata: Some("{}"),
            event_id: Some("🦀'\\"),
            ..event("with id", "u04", 1)
        },
        Event {
            event_id: Some("id"),
            campaign_id: Some("\\x"),
            tags: Some(&["a", ""]),
            metadata: Some(nested),
            ..event("all", "u05", FEBRUARY - 1)
        },
    ];
    let users: Vec<String> = (0..odd.len()).map(|n| format!("u1{n:02}{}", odd[n])).collect();
    for (text, user) in odd.iter().zip(&users) {
        events.push(Event {
            channel: text,
            campaign_id: Some(text),
            ..event(text, user, FEBRUARY + 1)
        });
    }
    let mut sink = database.sink_at(0).await;
    let flushed = sink.flush(batch_of(0, &events).view()).await.unwrap();
    assert_eq!(
        flushed,
        Flushed {
            stored: events.len() as u64,
            duplicates: 0
        }
    );
    let expected: Vec<Stored> = events.iter().map(Stored::from).collect();
    assert_eq!(database.events().await, expected);
}

async fn large_batches_of_every_kind_are_stored_whole(database: Database) {
    let metadata = format!(r#"{{"text":"{}"}}"#, "x".repeat(60_000));
    let users: Vec<String> = (0..3_000).map(|n| format!("user-{n:05}")).collect();
    let events: Vec<Event> = users
        .iter()
        .enumerate()
        .map(|(n, user)| Event {
            event_id: (n % 3 == 0).then_some(user.as_str()),
            metadata: (n % 100 == 1).then_some(metadata.as_str()),
            ..event("view", user, FEBRUARY + n as i64)
        })
        .collect();
    let mut sink = database.sink_at(0).await;
    assert_eq!(
        sink.flush(batch_of(0, &events).view()).await.unwrap(),
        Flushed {
            stored: 3_000,
            duplicates: 0
        }
    );
    assert_eq!(database.users().await, users);
}

async fn months_far_apart_fit_into_one_batch(database: Database) {
    let years: Vec<String> = (0..56).map(|year| format!("year {year:02}")).collect();
    let events: Vec<Event> = years
        .iter()
        .enumerate()
        .map(|(n, user)| event("view", user, n as i64 * 365 * DAY_MICROS))
        .collect();
    let mut sink = database.sink_at(0).await;
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let report = database
        .store()
        .metrics(&query("view", 0, 60 * 366 * DAY_MICROS, None))
        .await
        .unwrap();
    assert_eq!(report.total, Counts::exactly(56, 56));
}
