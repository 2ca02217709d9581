//! Events that the database refuses: found by halving, and set aside.

use fast_ingest::store::{SinkError, StoreError};

use super::contract;
use crate::support::database::{Database, Event, FEBRUARY, batch_of, event, wal_id};

contract! {
    quarantine_keeps_the_event_and_moves_the_checkpoint,
    a_poison_event_leaves_nothing_behind_and_is_found_by_halving,
}

async fn quarantine_keeps_the_event_and_moves_the_checkpoint(database: Database) {
    let mut sink = database.sink_at(4).await;
    let bad = Event {
        metadata: Some(r#"{"n":1}"#),
        tags: Some(&["t"]),
        ..event("bad", "ann", FEBRUARY)
    };
    let batch = batch_of(4, &[bad]);
    sink.quarantine(batch.view(), "22003", "out of range\0").await.unwrap();
    assert_eq!(
        sink.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(5)
    );
    assert_eq!(database.users().await, [""; 0]);
    let kept = database.quarantined().await;
    assert_eq!(kept.len(), 1);
    let (sequence, code, readable, encoded) = &kept[0];
    assert_eq!((*sequence, code.as_str()), (5, "22003"));
    assert_eq!(Some(encoded.as_slice()), batch.view().encoded().next());
    let readable: serde_json::Value = serde_json::from_str(readable).unwrap();
    assert_eq!(readable["metadata"]["n"], 1);
    assert_eq!(readable["timestamp"], FEBRUARY);
}

async fn a_poison_event_leaves_nothing_behind_and_is_found_by_halving(database: Database) {
    database.refuse_events_named("poison").await;
    let events: Vec<Event> = ["a", "b", "c", "d", "e"]
        .into_iter()
        .map(|user| Event {
            event_id: (user > "b").then_some(user),
            ..event(if user == "d" { "poison" } else { "view" }, user, FEBRUARY)
        })
        .collect();
    let batch = batch_of(0, &events);
    let mut sink = database.sink_at(0).await;
    let error = sink.flush(batch.view()).await.unwrap_err();
    assert!(matches!(error, SinkError::Store(StoreError::Data { .. })), "{error}");
    assert_eq!(
        sink.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(0)
    );
    assert_eq!(database.users().await, [""; 0]);

    let (left, right) = batch.view().split_at(2);
    sink.flush(left).await.unwrap();
    // The halves apply only in order.
    assert!(matches!(sink.flush(left).await, Err(SinkError::CheckpointMoved)));
    assert!(matches!(
        sink.flush(right).await,
        Err(SinkError::Store(StoreError::Data { .. }))
    ));
    let (good, right) = right.split_at(1);
    let (poison, rest) = right.split_at(1);
    sink.flush(good).await.unwrap();
    let Err(SinkError::Store(StoreError::Data { code, message })) = sink.flush(poison).await else {
        panic!("poison must be refused alone, too")
    };
    sink.quarantine(poison, &code, &message).await.unwrap();
    sink.flush(rest).await.unwrap();
    assert_eq!(
        sink.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(5)
    );
    assert_eq!(database.users().await, ["a", "b", "c", "e"]);
    assert_eq!(database.quarantined().await[0].0, 4);
}
