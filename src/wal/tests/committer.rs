//! Group commit, rotation and poison, on a disk that fails or waits on demand.

use std::sync::atomic::Ordering;

use crossbeam_channel::bounded;

use super::*;
use crate::testing::disk::faulty::{Faults, FaultyDisk};

fn start_faulty(place: &LogPlace, faults: Faults) -> (Running<FaultyDisk>, Arc<Faults>) {
    let faults = Arc::new(faults);
    let running = start_on(faults.disk(), &place.settings()).unwrap();
    (running, faults)
}

#[test]
fn a_failed_sync_is_final() {
    let place = LogPlace::new();
    let (running, faults) = start_faulty(&place, Faults::default());
    running.append(&[1]).unwrap();
    faults.fail_syncs.store(true, Ordering::SeqCst);
    faults.arm();

    assert_eq!(running.append(&[2]), Err(Refusal::Poisoned), "the waiter is refused");
    faults.fail_syncs.store(false, Ordering::SeqCst);
    assert_eq!(
        running.append(&[3]),
        Err(Refusal::Poisoned),
        "nothing is taken any more"
    );
    assert_eq!(running.log.durable().through, 1, "the watermark does not move");
    let error = running.stop().unwrap_err();
    assert!(matches!(error, WalError::Io { action: "sync", .. }), "{error}");
    assert_eq!(faults.syncs.load(Ordering::SeqCst), 1, "and never synced again");
}

#[test]
fn a_failed_write_is_final() {
    let place = LogPlace::new();
    let (running, faults) = start_faulty(&place, Faults::default());
    faults.fail_writes.store(true, Ordering::SeqCst);
    faults.arm();
    assert_eq!(running.append(&[1]), Err(Refusal::Poisoned));
    faults.fail_writes.store(false, Ordering::SeqCst);
    assert_eq!(running.append(&[2]), Err(Refusal::Poisoned));
    assert!(matches!(running.stop(), Err(WalError::Io { action: "write", .. })));
    assert_eq!(
        faults.syncs.load(Ordering::SeqCst),
        0,
        "what was not written is not synced"
    );
}

#[test]
fn requests_that_come_during_a_sync_share_the_next_one_and_nobody_is_answered_before_it() {
    let place = LogPlace::new();
    let (announce, announced) = bounded(0);
    let (let_go, go_on) = bounded(0);
    let (running, faults) = start_faulty(
        &place,
        Faults {
            hold: Some((announce, go_on)),
            ..Faults::default()
        },
    );
    faults.arm();

    block_on(async {
        let mut first = Box::pin(running.submit(&[1]));
        assert!(poll_once(&mut first).await.is_none());
        announced.recv().unwrap();
        // The first sync is running: these five have to wait for the second.
        let users: Vec<Vec<u64>> = (1..6).map(|count| vec![7; count]).collect();
        let mut others: Vec<_> = users.iter().map(|users| Box::pin(running.submit(users))).collect();
        for other in &mut others {
            assert!(poll_once(other).await.is_none());
        }
        assert!(
            poll_once(&mut first).await.is_none(),
            "no answer before the sync has returned"
        );
        let_go.send(()).unwrap();
        assert_eq!(first.await, Ok(1));

        announced.recv().unwrap();
        for other in &mut others {
            assert!(poll_once(other).await.is_none(), "no answer before their own sync");
        }
        let_go.send(()).unwrap();
        let mut acks = Vec::new();
        for other in others {
            acks.push(other.await.unwrap());
        }
        assert_eq!(acks, [2, 4, 7, 11, 16], "each has the sequence of its own last event");
    });
    assert_eq!(faults.syncs.load(Ordering::SeqCst), 2);
    faults.armed.store(false, Ordering::SeqCst);
    running.stop().unwrap();
}

/// Polls a future once; `None` while it is pending.
async fn poll_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[test]
fn segments_rotate_retire_and_give_their_space_back() {
    let place = LogPlace::new();
    let settings = WalSettings {
        segment_bytes: 300,
        ..place.settings()
    };
    let running = start(&settings);
    for user in 1..=40 {
        running.append(&[user]).unwrap();
    }
    assert!(place.segments().len() > 5, "{:?}", place.segments());
    assert_eq!(running.read_after(0).unwrap(), (1..=40).collect::<Vec<_>>());
    assert_eq!(running.read_after(17).unwrap(), (18..=40).collect::<Vec<_>>());
    let bytes_on_disk = || {
        place
            .segments()
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum::<u64>()
    };
    assert_eq!(running.log.gate().bytes_used(), bytes_on_disk());

    let second = segment::sequence_of(&place.segments()[1]).unwrap();
    running.log.retire_through(second - 2).unwrap();
    assert_eq!(
        running.log.directory().oldest_sequence(),
        1,
        "one event of the first segment is not in the database"
    );
    running.log.retire_through(second - 1).unwrap();
    assert_eq!(running.log.directory().oldest_sequence(), second);
    running.log.retire_through(40).unwrap();
    assert_eq!(place.segments().len(), 1, "the active segment stays");
    assert_eq!(running.log.gate().bytes_used(), bytes_on_disk());
    let log = Arc::clone(&running.log);
    running.stop().unwrap();
    assert_eq!(log.gate().bytes_used(), bytes_on_disk(), "markers count too");
}

#[test]
fn a_full_log_refuses_whole_requests_until_a_tenth_is_free() {
    let place = LogPlace::new();
    let settings = WalSettings {
        segment_bytes: 1100,
        bytes_max: 10_000,
        ..place.settings()
    };
    let running = start(&settings);
    let mut accepted = 0;
    let refusal = loop {
        match running.append(&[accepted + 1]) {
            Ok(through) => {
                accepted += 1;
                assert_eq!(through, accepted);
            }
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::LogFull);
    assert_eq!(
        running.log.durable().through,
        accepted,
        "what was refused is not in the log"
    );
    assert_eq!(running.append(&[99]), Err(Refusal::LogFull));
    running.log.retire_through(accepted / 2).unwrap();
    running.append(&[accepted + 1]).unwrap();
    running.stop().unwrap();
}

#[test]
fn a_disk_at_its_floor_closes_the_gate() {
    let place = LogPlace::new();
    let faults = Arc::<Faults>::default();
    faults.no_space.store(true, Ordering::SeqCst);
    let settings = WalSettings {
        disk_free_min: 1,
        ..place.settings()
    };
    let running = start_on(faults.disk(), &settings).unwrap();
    wait_until(|| running.append(&[1]) == Err(Refusal::LogFull));
    faults.no_space.store(false, Ordering::SeqCst);
    wait_until(|| running.append(&[1]).is_ok());
    running.stop().unwrap();
}

#[test]
fn at_the_disks_floor_what_the_database_has_makes_way() {
    let place = LogPlace::new();
    let faults = Arc::<Faults>::default();
    let settings = WalSettings {
        // One record per segment: the header alone has 96 bytes.
        segment_bytes: 97,
        keep_bytes: 1 << 30,
        disk_free_min: 1,
        ..place.settings()
    };
    let running = start_on(faults.disk(), &settings).unwrap();
    for user in 1..=10 {
        running.append(&[user]).unwrap();
    }
    running.log.retire_through(8).unwrap();
    assert_eq!(place.segments().len(), 10, "all are kept");
    faults.no_space.store(true, Ordering::SeqCst);
    wait_until(|| place.segments().len() == 2);
    assert_eq!(running.read_after(8).unwrap(), [9, 10]);
    running.stop().unwrap();
}

#[test]
fn a_log_whose_file_was_removed_stops_acknowledging() {
    let place = LogPlace::new();
    let running = start(&place.settings());
    running.append(&[1]).unwrap();
    fs::remove_dir_all(place.path()).unwrap();
    wait_until(|| running.append(&[2]) == Err(Refusal::Poisoned));
    assert!(matches!(
        running.stop(),
        Err(WalError::Io {
            action: "go on writing",
            ..
        })
    ));
}

#[test]
fn interval_mode_answers_before_the_sync_and_publishes_after_it() {
    let place = LogPlace::new();
    let settings = WalSettings {
        sync: SyncMode::Interval(std::time::Duration::from_secs(3600)),
        ..place.settings()
    };
    let (announce, announced) = bounded(0);
    let (let_go, go_on) = bounded(0);
    let faults = Arc::new(Faults {
        hold: Some((announce, go_on)),
        ..Faults::default()
    });
    let running = start_on(faults.disk(), &settings).unwrap();
    faults.arm();

    assert_eq!(running.append(&[1]), Ok(1));
    announced.recv().unwrap();
    assert_eq!(
        running.log.durable().through,
        0,
        "not synced, so the flush may not see it"
    );
    let_go.send(()).unwrap();
    wait_until(|| running.log.durable().through == 1);
    faults.armed.store(false, Ordering::SeqCst);
    running.stop().unwrap();
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_not_believed_by_the_next_start() {
    let place = LogPlace::new();
    let (running, faults) = start_faulty(&place, Faults::default());
    running.append(&[1]).unwrap();
    running.stop().unwrap();
    assert_eq!(
        faults.dropped.load(Ordering::SeqCst),
        0,
        "a fresh log has nothing to read"
    );

    let running = start_on(faults.disk(), &place.settings()).unwrap();
    assert_eq!(
        faults.dropped.load(Ordering::SeqCst),
        1,
        "the newest segment is read from the device"
    );
    running.stop().unwrap();
}

/// Waits for a condition that another thread brings about; the bound only ends a failing test.
fn wait_until(mut holds: impl FnMut() -> bool) {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < give_up, "the condition never held");
        thread::yield_now();
    }
}
