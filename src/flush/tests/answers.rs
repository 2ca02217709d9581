//! What the flush asks a person, and how it goes on from the answer.

use super::lineage::{copy_log, stay};
use super::*;
use crate::store::Adoption;
use crate::wal::adopted;
use crate::wal::disk::RealDisk;
use crate::wal::flushed::Commit;
use crate::wal::id::{LifeId, Mark};
use crate::wal::refusal::Refusal;
use crate::wal::settings::WalSettings;

/// Answers as `fast-ingest wal adopt` does: the log, as `wal_id`, goes on after `through`.
fn answer(place: &LogPlace, running: &Running, database: &Database, wal_id: WalId, through: Sequence) {
    block_on(async {
        let mut sink = database.store().open_sink().await.unwrap();
        let adoption = Adoption {
            wal_id,
            seen: sink.checkpoint(wal_id).await.unwrap(),
            through,
            mark: Mark::of_new_commit(running.log.life_of(through).unwrap()),
            reason: "a test",
        };
        let commit = Commit {
            database: sink.database_id().await.unwrap(),
            wal_id,
            is_known: true,
            confirmed_through: through,
            through,
            mark: adoption.mark,
        };
        let segments_wal_id = running.log.segments_wal_id();
        adopted::write(&RealDisk, &place.path(), segments_wal_id, commit).unwrap();
        sink.adopt(&adoption).await.unwrap();
    });
}

/// In virtual time: waits for the flush to ask, answers, and waits until all is stored.
fn ask_and_answer(place: &LogPlace, running: &Running, database: &Database, words: &str, answering: impl FnOnce()) {
    let (flusher, progress, stop) = flusher(running, database.store(), FlushStop::Running);
    let end = running.log.durable().through;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    let flushing = runtime.spawn(flusher.run());
    let reason = runtime.block_on(asked(&progress));
    assert!(reason.contains(words), "no {words:?} in {reason}");
    answering();
    runtime.block_on(async {
        progress.flushed(end).await;
        let balance = progress.balance().unwrap();
        assert_eq!((balance.pending, balance.unaccounted()), (0, 0));
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    let taken_up = adopted::read(&RealDisk, &place.path(), running.log.segments_wal_id());
    assert_eq!(taken_up.unwrap(), None);
}

fn gaps(database: &Database) -> Vec<(i64, i64)> {
    let connection = database.connect();
    let mut statement = connection
        .prepare("SELECT first_sequence, last_sequence FROM wal_gaps ORDER BY id")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_missing_checkpoint_asks_and_the_answer_stores_nothing_twice() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    stay(&place, &database, &[1, 2, 3]);
    database.connect().execute("DELETE FROM wal_checkpoints", []).unwrap();
    let running = start(&place.settings());
    running.append(&[4]).unwrap();
    let wal_id = running.log.wal_id();
    ask_and_answer(&place, &running, &database, "no checkpoint of this log", || {
        answer(&place, &running, &database, wal_id, 3);
    });
    assert_eq!(database.users(), [1, 2, 3, 4]);
    assert_eq!(gaps(&database), [(1, 3)]);
    running.stop().unwrap();
}

#[test]
fn another_database_asks_and_gets_what_the_first_one_does_not_have() {
    let (place, elsewhere) = (LogPlace::new(), LogPlace::new());
    let (first, second) = (Database::new(&place), Database::new(&elsewhere));
    stay(&place, &first, &[1, 2]);
    let running = start(&place.settings());
    running.append(&[3, 4]).unwrap();
    let wal_id = running.log.wal_id();
    ask_and_answer(&place, &running, &second, "through sequence 2 are in", || {
        answer(&place, &running, &second, wal_id, 2);
    });
    assert_eq!((first.users(), second.users()), (vec![1, 2], vec![3, 4]));
    running.stop().unwrap();

    // Now the first database is the wrong one.
    let running = start(&place.settings());
    block_on(async {
        let (flusher, progress, stop) = flusher(&running, first.store(), FlushStop::Running);
        let flushing = tokio::spawn(flusher.run());
        let reason = asked(&progress).await;
        assert!(reason.contains("through sequence 4 are in"), "{reason}");
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    running.stop().unwrap();
}

#[test]
fn a_copy_becomes_a_log_of_its_own_and_opens_again() {
    let (place, copied) = (LogPlace::new(), LogPlace::new());
    let database = Database::new(&place);
    stay(&place, &database, &[1, 2]);
    copy_log(&place, &copied);
    stay(&place, &database, &[3]);
    let copy = start(&copied.settings());
    copy.append(&[13, 14]).unwrap();
    drain(&copy, database.store()).unwrap();
    assert_eq!(copy.append(&[15]), Err(Refusal::Mismatch));

    let own_id = WalId(uuid::Uuid::new_v4());
    ask_and_answer(&copied, &copy, &database, "copy", || {
        answer(&copied, &copy, &database, own_id, 2);
    });
    assert_eq!(copy.log.wal_id(), own_id);
    copy.append(&[15]).expect("the gate is open again");
    copy.stop().unwrap();
    let copy = start(&copied.settings());
    assert_eq!(copy.log.wal_id(), own_id, "and stays so");
    drain(&copy, database.store()).unwrap();
    assert_eq!(copy.log.mismatch(), None);
    copy.stop().unwrap();
    stay(&place, &database, &[4]);
    assert_eq!(database.users(), [1, 2, 3, 4, 13, 14, 15]);
}

/// The checkpoint vanishes under a running flush, which has noted its last commit only as one that was tried.
#[test]
fn what_was_confirmed_is_known_when_the_checkpoint_vanishes() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&place.settings());
    running.append(&[1, 2, 3]).unwrap();
    block_on(async {
        let (flusher, progress, stop) = flusher(&running, database.store(), FlushStop::Running);
        let flushing = tokio::spawn(flusher.run());
        progress.flushed(3).await;
        database.connect().execute("DELETE FROM wal_checkpoints", []).unwrap();
        running.submit(&[4]).await.unwrap();
        let reason = asked(&progress).await;
        assert!(reason.contains("through sequence 3 were stored before. "), "{reason}");
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    assert_eq!(running.log.known_flushed_through(), 3);
    running.stop().unwrap();
}

#[test]
fn a_refused_log_gives_nothing_up_over_restarts() {
    let (place, copied) = (LogPlace::new(), LogPlace::new());
    let database = Database::new(&place);
    let keeping = WalSettings {
        segment_bytes: 97,
        keep_bytes: 1 << 20,
        ..place.settings()
    };
    let running = start(&keeping);
    for user in 1..=5 {
        running.append(&[user]).unwrap();
    }
    drain(&running, database.store()).unwrap();
    running.stop().unwrap();
    copy_log(&place, &copied);
    stay(&copied, &database, &[6]);

    let refused = start(&keeping);
    drain(&refused, database.store()).unwrap();
    assert!(refused.log.mismatch().is_some());
    refused.stop().unwrap();
    let refused = start(&keeping);
    refused.log.directory().drop_kept(0).unwrap();
    assert_eq!(
        refused.read_after(0).unwrap(),
        [1, 2, 3, 4, 5],
        "nobody can say what the database has"
    );
    refused.stop().unwrap();
}

#[test]
fn an_answer_that_cannot_be_read_is_none() {
    let place = LogPlace::new();
    let running = start(&place.settings());
    std::fs::create_dir(place.path().join(adopted::NAME)).unwrap();
    assert_eq!(running.log.adopted(), None);
    running.stop().unwrap();
}

#[test]
fn an_answer_that_is_not_in_the_database_changes_nothing() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    stay(&place, &database, &[1]);
    database.connect().execute("DELETE FROM wal_checkpoints", []).unwrap();
    let running = start(&place.settings());
    let commit = Commit {
        database: block_on(async {
            let mut sink = database.store().open_sink().await.unwrap();
            sink.database_id().await.unwrap()
        }),
        wal_id: running.log.wal_id(),
        is_known: true,
        confirmed_through: 1,
        through: 1,
        mark: Mark::of_new_commit(LifeId::random()),
    };
    adopted::write(&RealDisk, &place.path(), running.log.wal_id(), commit).unwrap();
    block_on(async {
        let (flusher, progress, stop) = flusher(&running, database.store(), FlushStop::Running);
        let flushing = tokio::spawn(flusher.run());
        asked(&progress).await;
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    let rows: i64 = database
        .connect()
        .query_row("SELECT count(*) FROM wal_checkpoints", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 0);
    let waiting = adopted::read(&RealDisk, &place.path(), running.log.wal_id());
    assert_eq!(waiting.unwrap(), Some(commit), "nobody has taken it up");
    running.stop().unwrap();
}
