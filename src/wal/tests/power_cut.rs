//! The promise across a power cut: at every operation of a workload that appends, rotates, retires and restarts, and then again at
//! every operation of the recovery that follows.

use tokio::sync::oneshot;

use super::simulated_disk::{Dice, Lies, SimulatedDisk};
use super::*;
use crate::wal::reader::LogReader;
use crate::wal::record;

/// What the world outside knows when the power goes.
#[derive(Debug, Default, Clone)]
struct Ledger {
    /// Users in the order of their sequences, as far as they were sent.
    sent: Vec<u64>,
    /// The longest run of them that was acknowledged.
    acked: usize,
    /// Sequences up to here are in the database: their segments may be gone.
    flushed_through: usize,
    /// Syncing later than answering, so that an acknowledgement promises nothing.
    is_interval: bool,
}

/// One stay of a server on the disk: what it finds must be what was acknowledged, then it takes records, flushes some, and ends.
/// An error when the power goes, or when the log refuses to start.
fn stay(disk: &SimulatedDisk, ledger: &mut Ledger, records: &[&[u64]]) -> Result<(), WalError> {
    let sync = match ledger.is_interval {
        true => SyncMode::Interval(std::time::Duration::from_secs(3600)),
        false => SyncMode::Group,
    };
    let settings = WalSettings {
        sync,
        dir: PathBuf::from("/wal"),
        segment_bytes: 200,
        ..Place::new().settings()
    };
    let OpenedLog {
        log,
        committer,
        gate,
        ..
    } = open(disk.clone(), &settings)?;
    let recovered = log.recovered_through() as usize;
    assert!(
        recovered >= ledger.acked,
        "{recovered} events recovered of {} acknowledged",
        ledger.acked
    );
    assert!(recovered <= ledger.sent.len(), "events that nobody sent");
    ledger.sent.truncate(recovered);
    assert_eq!(
        read(&log, ledger.flushed_through)?,
        ledger.sent[ledger.flushed_through..],
        "other events than were sent"
    );
    ledger.acked = recovered;

    let (ring, submissions) = crossbeam_channel::unbounded();
    let mut acks = Vec::new();
    for users in records {
        let mut bytes = vec![0; record::HEADER_BYTES];
        users.iter().for_each(|user| encode_user(*user, &mut bytes));
        let (ack, acked) = oneshot::channel();
        let space = gate.reserve(bytes.len() as u64).unwrap();
        let in_flight = Budget::new(usize::MAX).try_reserve(bytes.len()).unwrap();
        let event_count = users.len() as u32;
        ring.send(Submission {
            record: bytes,
            event_count,
            ack,
            in_flight,
            space,
        })
        .unwrap();
        ledger.sent.extend_from_slice(users);
        acks.push((acked, users.len()));
    }
    drop(ring);
    // On this thread, so that the order of operations is the same in every run.
    let outcome = committer.run(&submissions);
    for (mut acked, events) in acks {
        if matches!(acked.try_recv(), Ok(Ok(_))) && !ledger.is_interval {
            ledger.acked += events;
        }
    }
    outcome?;
    ledger.flushed_through = (log.durable().through as usize).saturating_sub(1);
    log.retire_through(ledger.flushed_through as Sequence)
}

fn read(log: &Arc<Log<SimulatedDisk>>, after: usize) -> Result<Vec<u64>, WalError> {
    let mut batch = Batch::new(log.wal_id(), after as Sequence);
    LogReader::new(Arc::clone(log), after as Sequence).fill(&mut batch, 1000, 1 << 20)?;
    Ok(batch
        .view()
        .events()
        .map(|event| event.user_id.parse().unwrap())
        .collect())
}

/// Two stays with a clean stop between them.
fn workload(disk: &SimulatedDisk, ledger: &mut Ledger) -> Result<(), WalError> {
    stay(disk, ledger, &[&[1], &[2, 3], &[4], &[5], &[6, 7, 8], &[9]])?;
    stay(disk, ledger, &[&[10, 11], &[12], &[13], &[14, 15]])
}

/// How often the power went and something that was not synced was lost.
#[derive(Debug, Default)]
struct Tally {
    cuts: usize,
    cuts_with_loss: usize,
}

/// Cuts the power at every operation of `work`, and hands each surviving disk on.
fn at_every_operation(
    start: &SimulatedDisk,
    ledger: &Ledger,
    seeds: u64,
    tally: &mut Tally,
    work: impl Fn(&SimulatedDisk, &mut Ledger) -> Result<(), WalError>,
    mut then: impl FnMut(&SimulatedDisk, &Ledger, &mut Tally),
) {
    for operation in 1.. {
        let disk = start.copy();
        let mut ledger = ledger.clone();
        disk.cut_power_at(operation);
        let outcome = work(&disk, &mut ledger);
        if disk.operations_until_cut() > 0 {
            outcome.expect("no error before the cut");
            return;
        }
        for seed in 0..seeds {
            let (survived, lost) =
                disk.after_power_cut(&mut Dice(seed * 1_000_003 + operation as u64));
            tally.cuts += 1;
            tally.cuts_with_loss += usize::from(lost > 0);
            then(&survived, &ledger, tally);
        }
    }
}

/// The whole test; panics on any violation.
fn cut_everywhere(lies: Lies, is_interval: bool, seeds: u64) -> Tally {
    let mut tally = Tally::default();
    let start = SimulatedDisk::new(lies);
    at_every_operation(
        &start,
        &Ledger {
            is_interval,
            ..Ledger::default()
        },
        seeds,
        &mut tally,
        workload,
        |survived, ledger, tally| {
            let restart = |disk: &SimulatedDisk, ledger: &mut Ledger| {
                stay(disk, ledger, &[&[100, 101], &[102]])
            };
            restart(&survived.copy(), &mut ledger.clone())
                .expect("the log starts after a power cut");
            at_every_operation(survived, ledger, 2, tally, restart, |twice, ledger, _| {
                stay(twice, &mut ledger.clone(), &[&[200]])
                    .expect("the log starts after a power cut during recovery");
            });
        },
    );
    tally
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let tally = cut_everywhere(Lies::default(), false, 6);
    assert!(tally.cuts > 5_000, "{tally:?}");
    assert!(
        tally.cuts_with_loss > tally.cuts / 4,
        "the cuts must hurt: {tally:?}"
    );
}

#[test]
fn answering_before_the_sync_may_lose_events_but_never_damages_the_log() {
    let tally = cut_everywhere(Lies::default(), true, 6);
    assert!(
        tally.cuts_with_loss > tally.cuts / 4,
        "the cuts must hurt: {tally:?}"
    );
}

#[test]
fn this_test_would_notice_a_sync_that_does_nothing() {
    for lies in [
        Lies {
            data: true,
            directory: false,
        },
        Lies {
            data: false,
            directory: true,
        },
    ] {
        let noticed = std::panic::catch_unwind(|| cut_everywhere(lies, false, 6));
        assert!(noticed.is_err(), "{lies:?} went unnoticed");
    }
}
