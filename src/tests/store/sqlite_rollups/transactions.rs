//! The lock, snapshots, abandoned transactions, and the checkpoint that others read.

use std::sync::mpsc;

use fast_ingest::store::StoreError;
use fast_ingest::wal::id::WalId;
use uuid::Uuid;

use super::{begun, day};
use crate::support::database::{Database, FEBRUARY, batch_of, event, wal_id};

#[tokio::test]
async fn one_transaction_at_a_time_holds_the_lock() {
    let database = Database::sqlite().await;
    let mut first = begun(&database).await;
    let mut second = database.store().open_rollups().await.unwrap();
    assert!(!second.begin(false).await.unwrap());
    // It has no open transaction, and readers need no lock.
    second.begin_reading().await.unwrap();
    assert_eq!(second.overflow_on(day(0)).await.unwrap(), None);
    second.commit().await.unwrap();
    first.add_overflow(day(0), 1).await.unwrap();
    first.commit().await.unwrap();
    assert!(second.begin(false).await.unwrap());
    assert_eq!(second.overflow_on(day(0)).await.unwrap(), Some(1));
    assert!(!first.begin(false).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_the_lock_gets_it() {
    let database = Database::sqlite().await;
    let mut sink = database.sink_at(0).await;
    let mut first = begun(&database).await;
    first.add_overflow(day(0), 1).await.unwrap();
    let (about_to, begins) = mpsc::channel();
    let waiting = {
        let (database, about_to) = (database.clone(), about_to.clone());
        tokio::spawn(async move {
            let mut second = database.store().open_rollups().await.unwrap();
            about_to.send(()).unwrap();
            assert!(second.begin(true).await.unwrap());
            let seen = second.overflow_on(day(0)).await.unwrap();
            second.commit().await.unwrap();
            seen
        })
    };
    let flushing = tokio::spawn(async move {
        about_to.send(()).unwrap();
        sink.flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view()).await
    });
    begins.recv().unwrap();
    begins.recv().unwrap();
    first.add_overflow(day(0), 1).await.unwrap();
    first.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), Some(2));
    assert_eq!(flushing.await.unwrap().unwrap().stored, 1);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_undone() {
    let database = Database::sqlite().await;
    let mut sink = database.sink_at(0).await;
    sink.flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap();
    let mut rollups = begun(&database).await;
    assert_eq!(rollups.take_deltas(10).await.unwrap().len(), 1);
    rollups.add_overflow(day(0), 1).await.unwrap();
    drop(rollups);
    assert_eq!(database.count("rollup_deltas").await, 1);
    assert_eq!(database.count("rollup_overflow").await, 0);
    // The lock was released with the connection.
    let mut rollups = database.store().open_rollups().await.unwrap();
    assert!(rollups.begin(false).await.unwrap());
}

#[tokio::test]
async fn a_reading_transaction_is_one_snapshot_and_holds_nobody_up() {
    let database = Database::sqlite().await;
    let mut sink = database.sink_at(0).await;
    let mut reading = database.store().open_rollups().await.unwrap();
    reading.begin_reading().await.unwrap();
    sink.flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap();
    let mut writing = begun(&database).await;
    writing.add_overflow(day(0), 1).await.unwrap();
    writing.commit().await.unwrap();
    assert_eq!(reading.days_stored().await.unwrap(), None);
    assert_eq!(reading.overflow_on(day(0)).await.unwrap(), None);
    reading.commit().await.unwrap();
    reading.begin_reading().await.unwrap();
    let stored = reading.days_stored().await.unwrap();
    assert_eq!(stored, Some((day(0), day(0))));
    assert_eq!(reading.overflow_on(day(0)).await.unwrap(), Some(1));
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_that_says_what() {
    let database = Database::sqlite().await;
    database
        .execute("INSERT INTO rollup_deltas VALUES ('view', 'web', 0, 1, 1, x'09')")
        .await;
    let error = begun(&database).await.take_deltas(1).await.unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)), "{error}");
    assert!(error.to_string().contains("set of users"), "{error}");
    assert!(error.to_string().contains("rollup rebuild"), "{error}");
    database
        .execute("UPDATE rollup_deltas SET users = x'00', events = -1")
        .await;
    begun(&database).await.take_deltas(1).await.unwrap_err();
    assert_eq!(database.count("rollup_deltas").await, 1);
}

#[tokio::test]
async fn the_checkpoint_of_a_log_is_read_beside_a_writer() {
    let database = Database::sqlite().await;
    assert_eq!(database.flushed_through(wal_id()).await.unwrap(), None);
    let mut sink = database.sink_at(5).await;
    assert_eq!(database.flushed_through(wal_id()).await.unwrap(), Some(5));
    sink.flush(batch_of(5, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap();
    let _writer = begun(&database).await;
    assert_eq!(database.flushed_through(wal_id()).await.unwrap(), Some(6));
    let other = WalId(Uuid::from_u128(1));
    assert_eq!(database.flushed_through(other).await.unwrap(), None);
}
