//! How far a log is flushed, as anybody with the same database can ask: what receipts rest on.

use fast_ingest::batch::WalId;
use uuid::Uuid;

use super::contract;
use crate::store_database::{Database, FEBRUARY, batch_of, event, wal_id};

contract! {
    how_far_a_log_is_flushed_moves_with_its_commits,
    how_far_a_log_is_flushed_is_told_during_a_flush,
}

async fn how_far_a_log_is_flushed_moves_with_its_commits(database: Database) {
    let store = database.store();
    assert_eq!(store.flushed_through(wal_id()).await.unwrap(), None);
    let mut sink = database.sink_at(3).await;
    assert_eq!(store.flushed_through(wal_id()).await.unwrap(), Some(3));
    let batch = batch_of(
        3,
        &[
            event("view", "ann", FEBRUARY),
            event("view", "bob", FEBRUARY),
        ],
    );
    sink.flush(batch.view()).await.unwrap();
    assert_eq!(store.flushed_through(wal_id()).await.unwrap(), Some(5));
    // A quarantined event is in the database too.
    let refused = batch_of(5, &[event("view", "cid", FEBRUARY)]);
    sink.quarantine(refused.view(), "22000", "made up")
        .await
        .unwrap();
    assert_eq!(store.flushed_through(wal_id()).await.unwrap(), Some(6));
    let other = WalId(Uuid::from_u128(99));
    assert_eq!(store.flushed_through(other).await.unwrap(), None);
}

/// A look at the checkpoint must not wait for the row lock of whoever moves it.
async fn how_far_a_log_is_flushed_is_told_during_a_flush(database: Database) {
    let mut sink = database.sink_at(0).await;
    let events = vec![event("view", "ann", FEBRUARY); 5_000];
    let mut flushed_through = 0;
    let (store, batch) = (database.store(), batch_of(0, &events));
    let flush = async { sink.flush(batch.view()).await.unwrap() };
    let look = async {
        // From nothing to all, and never in between or back.
        while flushed_through < 5_000 {
            let seen = store.flushed_through(wal_id()).await.unwrap().unwrap();
            assert!(
                seen >= flushed_through && (seen == 0 || seen == 5_000),
                "{seen}"
            );
            flushed_through = seen;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(flush, look);
}
