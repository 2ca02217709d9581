//! Copies and restores of log and database: the flush tells them from the original, even if all sequences fit.

use std::fs;

use super::*;
use crate::wal::id::CheckpointRow;
use crate::wal::refusal::Refusal;

/// Copies a log's directory, as a machine image or `cp -r` does. The copy has no lock.
pub(super) fn copy_log(from: &LogPlace, to: &LogPlace) {
    let dir = to.path();
    fs::remove_dir_all(&dir).ok();
    fs::create_dir_all(&dir).unwrap();
    for entry in fs::read_dir(from.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
}

/// Starts, takes the users' events, flushes all, and stops.
pub(super) fn stay(place: &LogPlace, database: &Database, users: &[u64]) {
    let running = start(&place.settings());
    for user in users {
        running.append(&[*user]).unwrap();
    }
    drain(&running, database.store()).unwrap();
    assert_eq!(running.log.mismatch(), None);
    running.stop().unwrap();
}

/// Asserts that the log is refused and stays refused: no event is accepted, and the message contains all of `words`.
#[track_caller]
fn assert_refused(running: Running, words: &[&str]) {
    let text = running.log.mismatch().expect("found not to match");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    assert_eq!(running.append(&[999]), Err(Refusal::Mismatch));
    running.stop().unwrap();
}

#[test]
fn a_copy_of_a_stopped_log_beside_the_original_stores_nothing_in_its_name() {
    let (place, copied) = (LogPlace::new(), LogPlace::new());
    let database = Database::new(&place);
    stay(&place, &database, &[1, 2, 3]);
    copy_log(&place, &copied);

    // Both take equally many events in turn, so that the sequences alone always fit.
    let (original, copy) = (start(&place.settings()), start(&copied.settings()));
    original.append(&[4, 5]).unwrap();
    copy.append(&[14, 15]).unwrap();
    drain(&original, database.store()).unwrap();
    drain(&copy, database.store()).unwrap();
    assert_eq!(database.users(), [1, 2, 3, 4, 5]);
    assert_eq!(
        copy.read_after(3).unwrap(),
        [14, 15],
        "what was acknowledged waits in the log"
    );
    assert_refused(copy, &["through sequence 5", "is in use elsewhere"]);

    original.append(&[6]).unwrap();
    drain(&original, database.store()).unwrap();
    assert_eq!(database.users(), [1, 2, 3, 4, 5, 6]);
    original.stop().unwrap();
}

#[test]
fn what_gathered_in_many_lives_is_stored_as_of_each() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let mut lives = Vec::new();
    // The database is down all the time.
    for users in [&[1, 2][..], &[], &[3], &[4, 5, 6]] {
        let running = start(&place.settings());
        for user in users {
            running.append(&[*user]).unwrap();
        }
        lives.push(running.log.life());
        running.stop().unwrap();
    }
    stay(&place, &database, &[7]);
    let connection = database.connect();
    let mut statement = connection
        .prepare("SELECT first_sequence, life FROM wal_lives ORDER BY 1")
        .unwrap();
    let noted = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let noted: Vec<(i64, String)> = noted.unwrap().map(Result::unwrap).collect();
    let expected = [(1, lives[0]), (3, lives[2]), (4, lives[3])];
    assert_eq!(noted[..3], expected.map(|(first, life)| (first, life.to_string())));
    assert_eq!((noted.len(), noted[3].0), (4, 7));
}

#[test]
fn copies_that_start_again_and_again_stay_refused() {
    let (place, copied) = (LogPlace::new(), LogPlace::new());
    let database = Database::new(&place);
    stay(&place, &database, &[1, 2, 3]);
    copy_log(&place, &copied);
    stay(&place, &database, &[4, 5]);

    let copy = start(&copied.settings());
    copy.append(&[14, 15, 16, 17]).unwrap();
    drain(&copy, database.store()).unwrap();
    assert_refused(copy, &["life"]);
    for _ in 0..3 {
        // Refused before the checkpoint is read: the directory itself says so.
        let copy = start(&copied.settings());
        assert_eq!(copy.append(&[18]), Err(Refusal::Mismatch));
        drain(&copy, database.store()).unwrap();
        assert_refused(copy, &["life"]);
    }
    assert_eq!(database.users(), [1, 2, 3, 4, 5]);
}

#[test]
fn an_older_copy_is_refused_also_once_it_has_grown_past_the_checkpoint() {
    let (place, older) = (LogPlace::new(), LogPlace::new());
    let database = Database::new(&place);
    stay(&place, &database, &[1, 2, 3]);
    copy_log(&place, &older);
    stay(&place, &database, &(4..=20).collect::<Vec<_>>());

    // The database was down while it took these.
    for users in [&[21, 22][..], &(31..=60).collect::<Vec<_>>()] {
        let running = start(&older.settings());
        for user in users {
            running.append(&[*user]).unwrap();
        }
        running.stop().unwrap();
    }
    let running = start(&older.settings());
    drain(&running, database.store()).unwrap();
    assert_eq!(database.users(), (1..=20).collect::<Vec<_>>());
    assert_eq!(running.read_after(3).unwrap().len(), 32, "all of it waits");
    assert_refused(running, &["through sequence 20", "life"]);
}

#[test]
fn the_look_before_the_start_closes_the_gate() {
    let (place, older) = (LogPlace::new(), LogPlace::new());
    let database = Database::new(&place);
    stay(&place, &database, &[1, 2, 3]);
    copy_log(&place, &older);
    stay(&place, &database, &[4, 5]);
    let running = start(&older.settings());
    block_on(async {
        let (mut flusher, _, _stop) = flusher(&running, database.store(), FlushStop::Running);
        flusher.look_first().await.unwrap();
    });
    assert_refused(running, &["ends at 3"]);
    assert!(older.path().join("MISMATCH").exists());
}

#[test]
fn a_machine_copied_while_it_runs_is_told_from_its_copy() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&place.settings());
    running.append(&[1, 2]).unwrap();
    let (outcome, text) = block_on(async {
        let (flusher, progress, stop) = flusher(&running, database.store(), FlushStop::Running);
        let flushing = tokio::spawn(flusher.run());
        progress.flushed(2).await;
        // The other machine has the same memory, so the same life: it stores two events of its own under their numbers.
        database
            .connect()
            .execute(
                "UPDATE wal_checkpoints SET flushed_through = 4, applied = 4, token = '00000000-0000-0000-0000-00000000000f'",
                [],
            )
            .unwrap();
        running.submit(&[3, 4]).await.unwrap();
        let text = seen(|| running.log.mismatch()).await;
        stop.send_replace(FlushStop::Now);
        (flushing.await.unwrap(), text)
    });
    outcome.unwrap();
    assert!(text.contains("never tried"));
    assert_eq!(database.users(), [1, 2], "neither passes for the other");
    running.stop().unwrap();
}

/// A batch ends at the end of a segment that the log no longer has: only the next segment's header can say which life
/// wrote the batch's last event.
#[test]
fn a_checkpoint_at_the_end_of_a_segment_that_is_gone_is_known_by_the_next_one() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let mut settings = place.settings();
    settings.segment_bytes = 97;
    let running = start(&settings);
    running.append(&[1]).unwrap();
    drain(&running, database.store()).unwrap();
    running.append(&[2]).unwrap();
    running.log.retire_through(1).unwrap();
    assert_eq!(running.log.directory().oldest_sequence(), 2);
    drain(&running, database.store()).unwrap();
    assert_eq!(running.log.mismatch(), None);
    assert_eq!(database.users(), [1, 2]);
    running.stop().unwrap();
}

#[test]
fn what_becomes_of_every_event_is_counted_and_kept_over_restarts() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    database
        .connect()
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.user_id = '2' BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
    stay(&place, &database, &[1, 2, 3]);
    let running = start(&place.settings());
    running.append(&[4, 5]).unwrap();
    block_on(async {
        let (flusher, progress, stop) = flusher(&running, database.store(), FlushStop::Running);
        assert_eq!(progress.balance(), None, "nothing is known yet");
        let flushing = tokio::spawn(flusher.run());
        progress.flushed(5).await;
        let balance = progress.balance().unwrap();
        assert_eq!((balance.accepted, balance.pending, balance.unaccounted()), (5, 0, 0));
        assert_eq!((balance.counts.applied, balance.counts.quarantined), (4, 1));
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    let row: CheckpointRow = block_on(async {
        let mut sink = database.store().open_sink().await.unwrap();
        sink.checkpoint(running.log.wal_id()).await.unwrap().unwrap()
    });
    assert_eq!(row.counts.sum(), row.flushed_through);
    running.stop().unwrap();
}

/// Memory and disk are copied while the server runs: the copy goes on with the same life, and its commits differ by
/// their tokens, also after both were restarted.
#[test]
fn a_copy_of_a_running_log_is_told_from_it_over_restarts() {
    let (place, copied) = (LogPlace::new(), LogPlace::new());
    let database = Database::new(&place);
    let running = start(&place.settings());
    running.append(&[1, 2]).unwrap();
    drain(&running, database.store()).unwrap();
    running.append(&[3, 4]).unwrap();
    // The copy has events 3 and 4 by the same life, and has not tried to store them.
    copy_log(&place, &copied);
    drain(&running, database.store()).unwrap();
    running.stop().unwrap();

    let copy = start(&copied.settings());
    drain(&copy, database.store()).unwrap();
    assert_eq!(database.users(), [1, 2, 3, 4]);
    assert_refused(copy, &["through sequence 4", "never tried"]);
    stay(&place, &database, &[5]);
    assert_eq!(database.users(), [1, 2, 3, 4, 5]);
}
