//! A database that has gone back, as after a failover to a replica that lags, or a restore.

use std::fs;
use std::path::{Path, PathBuf};

use super::lineage::stay;
use super::*;
use crate::wal::settings::WalSettings;

fn copy_of(database: &Database, name: &str) -> PathBuf {
    let copy = database.path.with_file_name(name);
    let connection = database.connect();
    connection.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    copy
}

fn restore(database: &Database, copy: &Path) {
    for side_file in ["events.db-wal", "events.db-shm"] {
        fs::remove_file(database.path.with_file_name(side_file)).ok();
    }
    fs::copy(copy, &database.path).unwrap();
}

/// Keeps what was flushed, in segments of one record each: the header alone has 96 bytes.
fn keeping(place: &LogPlace) -> WalSettings {
    WalSettings {
        segment_bytes: 97,
        keep_bytes: 1 << 20,
        ..place.settings()
    }
}

#[test]
fn it_gets_again_what_the_log_has_kept() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&keeping(&place));
    for user in 1..=5 {
        running.append(&[user]).unwrap();
    }
    drain(&running, database.store()).unwrap();
    let backup = copy_of(&database, "backup.db");
    for user in 6..=20 {
        running.append(&[user]).unwrap();
    }
    drain(&running, database.store()).unwrap();
    assert_eq!(place.segments().len(), 20, "all is kept");
    restore(&database, &backup);
    assert_eq!(database.users(), [1, 2, 3, 4, 5]);
    drain(&running, database.store()).unwrap();
    assert_eq!(database.users(), (1..=20).collect::<Vec<_>>());

    // The next start stores them again as well.
    running.stop().unwrap();
    restore(&database, &backup);
    let running = start(&keeping(&place));
    drain(&running, database.store()).unwrap();
    assert_eq!(database.users(), (1..=20).collect::<Vec<_>>());
    assert_eq!(running.log.mismatch(), None);
    running.stop().unwrap();
}

#[test]
fn what_is_kept_takes_no_room_from_what_is_not_stored_until_it_has_to_be_stored_again() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&keeping(&place));
    running.append(&[1]).unwrap();
    drain(&running, database.store()).unwrap();
    let backup = copy_of(&database, "backup.db");
    let gate = Arc::clone(running.log.gate());
    running.append(&[2]).unwrap();
    let before = gate.bytes_used();
    for user in 3..=10 {
        running.append(&[user]).unwrap();
    }
    let full = gate.bytes_used();
    drain(&running, database.store()).unwrap();
    assert!(gate.bytes_used() <= before, "only the active segment counts");
    running.stop().unwrap();

    // A start knows what was flushed without asking the database.
    let running = start(&keeping(&place));
    let gate = Arc::clone(running.log.gate());
    assert!(gate.bytes_used() <= before);
    assert_eq!(running.log.known_flushed_through(), 10);
    restore(&database, &backup);
    block_on(async {
        let (mut flusher, ..) = flusher(&running, database.store(), FlushStop::Running);
        flusher.look_first().await.unwrap();
    });
    assert!(gate.bytes_used() > full / 2, "it counts again");
    drain(&running, database.store()).unwrap();
    assert!(gate.bytes_used() <= before);
    assert_eq!(database.users(), (1..=10).collect::<Vec<_>>());
    running.stop().unwrap();
}

#[test]
fn no_more_is_kept_than_was_asked_for() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let mut settings = keeping(&place);
    settings.keep_bytes = 1000;
    let running = start(&settings);
    for user in 1..=100 {
        running.append(&[user]).unwrap();
    }
    drain(&running, database.store()).unwrap();
    let sizes = place.segments().into_iter().rev().skip(1);
    let kept: Vec<_> = sizes.map(|path| path.metadata().unwrap().len()).collect();
    let sum: u64 = kept.iter().sum();
    assert!(sum >= 1000, "{sum}");
    assert!(sum - kept.last().unwrap() < 1000, "{sum}: one more than needed");
    running.stop().unwrap();
}

#[test]
fn a_database_that_has_gone_back_too_far_stops_the_flush_and_nothing_else() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    stay(&place, &database, &[1, 2, 3]);
    let backup = copy_of(&database, "backup.db");
    stay(&place, &database, &[4, 5]);
    stay(&place, &database, &[6]);
    restore(&database, &backup);

    let running = start(&place.settings());
    block_on(async {
        let (mut flusher, progress, stop) = flusher(&running, database.store(), FlushStop::Running);
        flusher.look_first().await.unwrap();
        let flushing = tokio::spawn(flusher.run());
        let reason = asked(&progress).await;
        assert!(reason.contains("from sequence 4 to 5 are neither"), "{reason}");
        assert_eq!(progress.flushed_through(), 3, "nobody is told otherwise");
        running.submit(&[7]).await.expect("ingestion goes on");
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    assert_eq!(database.users(), [1, 2, 3]);
    assert_eq!(running.log.mismatch(), None);
    running.stop().unwrap();
}
