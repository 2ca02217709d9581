//! Whose events a database has, and how far a log is flushed, as any server on the database can ask: the base of
//! receipts.

use std::ops::RangeInclusive;

use fast_ingest::store::{Adoption, SinkError, Stretch};
use fast_ingest::wal::batch::BatchView;
use fast_ingest::wal::id::{LifeId, Mark, WalId};
use uuid::Uuid;

use super::contract;
use crate::support::database::{Database, FEBRUARY, batch_from, batch_of, event, wal_id};

contract! {
    how_far_a_log_is_flushed_moves_with_its_commits,
    how_far_a_log_is_flushed_is_told_during_a_flush,
    each_life_has_what_it_wrote_and_nothing_else,
    what_a_person_skips_is_of_no_life,
    a_place_that_a_person_names_anew_is_of_its_life,
}

async fn how_far_a_log_is_flushed_moves_with_its_commits(database: Database) {
    assert_eq!(database.flushed_through(wal_id()).await.unwrap(), None);
    let mut sink = database.sink_at(3).await;
    assert_eq!(database.flushed_through(wal_id()).await.unwrap(), Some(3));
    let batch = batch_of(3, &[event("view", "ann", FEBRUARY), event("view", "bob", FEBRUARY)]);
    sink.flush(batch.view()).await.unwrap();
    assert_eq!(database.flushed_through(wal_id()).await.unwrap(), Some(5));
    // A quarantined event is in the database too.
    let refused = batch_of(5, &[event("view", "cid", FEBRUARY)]);
    sink.quarantine(refused.view(), "22000", "made up").await.unwrap();
    assert_eq!(database.flushed_through(wal_id()).await.unwrap(), Some(6));
    let other = WalId(Uuid::from_u128(99));
    assert_eq!(database.flushed_through(other).await.unwrap(), None);
}

/// Reading the checkpoint must not wait for the row lock of a transaction that moves it.
async fn how_far_a_log_is_flushed_is_told_during_a_flush(database: Database) {
    let mut sink = database.sink_at(0).await;
    let events = vec![event("view", "ann", FEBRUARY); 5_000];
    let mut flushed_through = 0;
    let batch = batch_of(0, &events);
    let flush = async { sink.flush(batch.view()).await.unwrap() };
    let look = async {
        // The answer goes from none to all, and never to a value in between or back.
        while flushed_through < 5_000 {
            let seen = database.flushed_through(wal_id()).await.unwrap().unwrap();
            assert!(seen >= flushed_through && (seen == 0 || seen == 5_000), "{seen}");
            flushed_through = seen;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(flush, look);
}

fn mark(life: u128, token: u128) -> Mark {
    Mark {
        life: LifeId(Uuid::from_u128(life)),
        token: Uuid::from_u128(token),
    }
}

async fn stored_of(database: &Database, life: u128) -> Vec<RangeInclusive<u64>> {
    let life = LifeId(Uuid::from_u128(life));
    let stored = database.store().stored_of(life).await.unwrap();
    let stored = stored.iter().map(Stretch::sequences);
    let mut stored: Vec<_> = stored.filter(|stored| !stored.is_empty()).collect();
    stored.sort_by_key(|stored| *stored.start());
    stored
}

/// Whether the event with this sequence of a life may still come.
async fn may_come(database: &Database, life: u128, sequence: u64) -> bool {
    let life = LifeId(Uuid::from_u128(life));
    let stored = database.store().stored_of(life).await.unwrap();
    stored.iter().any(|stretch| stretch.may_get(sequence))
}

async fn each_life_has_what_it_wrote_and_nothing_else(database: Database) {
    let mut sink = database.sink_at(0).await;
    let events = [event("view", "ann", FEBRUARY), event("view", "bob", FEBRUARY)];
    let marks = [Mark::default(), mark(1, 1), mark(1, 2), mark(2, 3), mark(3, 4)];
    for (after, marks) in (0..).step_by(2).zip(marks.windows(2)) {
        let batch = batch_of(after, &events);
        sink.flush(batch.view().with_marks(marks[0], marks[1])).await.unwrap();
    }
    assert_eq!(stored_of(&database, 1).await, [1..=4]);
    assert_eq!(stored_of(&database, 2).await, [5..=6]);
    assert_eq!(stored_of(&database, 3).await, [7..=8]);
    assert!(!may_come(&database, 2, 9).await && may_come(&database, 3, 9).await);

    // A copy of the log stores nothing under the same sequences, nor under the following ones.
    for after in [4, 8] {
        let batch = batch_of(after, &events);
        let foreign = batch.view().with_marks(mark(1, 2), mark(9, 5));
        let error = sink.flush(foreign).await.unwrap_err();
        assert!(matches!(error, SinkError::CheckpointMoved), "{error}");
        assert_eq!(stored_of(&database, 9).await, []);
    }

    // A quarantined event belongs to the life that accepted it. A rehearsed event belongs to none.
    let refused = batch_of(8, &events[..1]);
    let refused: BatchView<'_> = refused.view().with_marks(mark(3, 4), mark(4, 6));
    sink.rehearse(refused).await.unwrap();
    assert_eq!(stored_of(&database, 4).await, []);
    sink.quarantine(refused, "22000", "made up").await.unwrap();
    assert_eq!(stored_of(&database, 4).await, [9..=9]);
    assert_eq!(stored_of(&database, 3).await, [7..=8]);
}

async fn what_a_person_skips_is_of_no_life(database: Database) {
    let mut sink = database.sink_at(0).await;
    let events = [event("view", "ann", FEBRUARY)];
    let first = batch_of(0, &events);
    sink.flush(first.view().with_marks(Mark::default(), mark(1, 1)))
        .await
        .unwrap();

    // The same log continues after a gap, within a life.
    let gap = Adoption {
        wal_id: wal_id(),
        seen: sink.checkpoint(wal_id()).await.unwrap(),
        through: 5,
        mark: mark(1, 2),
        reason: "made up",
    };
    sink.adopt(&gap).await.unwrap();
    assert_eq!(stored_of(&database, 1).await, [1..=1]);
    assert!(may_come(&database, 1, 6).await);
    assert!(!may_come(&database, 1, 3).await, "a person gave up event 3");
    let next = batch_of(5, &events);
    sink.flush(next.view().with_marks(mark(1, 2), mark(1, 3)))
        .await
        .unwrap();
    assert_eq!(stored_of(&database, 1).await, [1..=1, 6..=6]);

    // A copy of the log continues as a log of its own: first with an event that both have, then with one that only the
    // copy has.
    let copy = WalId(Uuid::from_u128(99));
    sink.create_checkpoint(copy, 6, mark(1, 4)).await.unwrap();
    for (after, from, to) in [(6, mark(1, 4), mark(1, 5)), (7, mark(1, 5), mark(2, 6))] {
        let batch = batch_from(copy, after, &events);
        sink.flush(batch.view().with_marks(from, to)).await.unwrap();
    }
    assert_eq!(stored_of(&database, 1).await, [1..=1, 6..=6, 7..=7]);
    assert_eq!(stored_of(&database, 2).await, [8..=8]);

    // Its checkpoint is deleted, and a person says that all of its events are stored: no answer claims that.
    database.execute("DELETE FROM wal_checkpoints").await;
    assert_eq!(stored_of(&database, 2).await, []);
    sink.create_checkpoint(copy, 9, mark(2, 7)).await.unwrap();
    assert_eq!(stored_of(&database, 2).await, []);
    assert_eq!(stored_of(&database, 1).await, []);
}

/// As after the schema was undone and made again beside a running server: no commit says any more to which life the
/// next events belong.
async fn a_place_that_a_person_names_anew_is_of_its_life(database: Database) {
    let mut sink = database.sink_at(0).await;
    let events = [event("view", "ann", FEBRUARY)];
    let first = batch_of(0, &events);
    sink.flush(first.view()).await.unwrap();
    let same = Adoption {
        wal_id: wal_id(),
        seen: sink.checkpoint(wal_id()).await.unwrap(),
        through: 1,
        mark: mark(1, 2),
        reason: "made up",
    };
    sink.adopt(&same).await.unwrap();
    let next = batch_of(1, &events);
    sink.flush(next.view().with_marks(mark(1, 2), mark(1, 3)))
        .await
        .unwrap();
    assert_eq!(stored_of(&database, 1).await, [2..=2]);
}
