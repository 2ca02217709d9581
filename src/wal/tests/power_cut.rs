//! The promise across a power cut: at every operation of a workload that appends, rotates, retires and restarts, and
//! then again at every operation of the recovery that follows.

use super::ledger::{Ledger, Plan, stay};
use super::*;
use crate::testing::disk::simulated::{Damage, Dice, Fault, FaultKind, SimulatedDisk};

/// Two stays with a clean stop between them: rotations, a retire, markers, bulks over several sectors, and groups of
/// one and of more.
pub(super) fn workload(disk: &SimulatedDisk, ledger: &mut Ledger) -> Result<(), WalError> {
    let first = Plan {
        unflushed: 12,
        ..Plan::of(&[&[1], &[2, 1], &[12], &[1], &[3], &[14, 1], &[2]])
    };
    stay(disk, ledger, &first)?;
    stay(disk, ledger, &Plan::of(&[&[2, 1], &[10], &[1], &[6], &[1]]))
}

pub(super) fn restart(disk: &SimulatedDisk, ledger: &mut Ledger) -> Result<(), WalError> {
    stay(disk, ledger, &Plan::of(&[&[2], &[1]]))
}

/// How often the power was cut, and how often that lost something that was not synced.
#[derive(Debug, Default)]
struct Cuts {
    all: usize,
    with_loss: usize,
}

/// Cuts the power at every operation of `work`, and passes each surviving disk to `then`.
fn at_every_operation(
    start: &SimulatedDisk,
    ledger: &Ledger,
    damages: &[Damage],
    work: impl Fn(&SimulatedDisk, &mut Ledger) -> Result<(), WalError>,
    mut then: impl FnMut(&SimulatedDisk, &Ledger, usize),
) {
    for operation in 1.. {
        let disk = start.copy();
        let mut ledger = ledger.clone();
        disk.cut_power_at(operation);
        let outcome = work(&disk, &mut ledger);
        if !disk.is_power_gone() {
            outcome.expect("no error before the cut");
            return;
        }
        for (index, damage) in damages.iter().enumerate() {
            let mut dice = Dice((index * 1_000_003 + operation) as u64);
            let (survived, lost) = disk.after_power_cut(*damage, &mut dice);
            then(&survived, &ledger, lost);
        }
    }
}

/// Checks that a restart succeeds, and so does the one after a power cut at any operation of it.
pub(super) fn restart_and_cut_everywhere(disk: &SimulatedDisk, ledger: &Ledger) {
    restart(&disk.copy(), &mut ledger.clone()).expect("the log starts after a fault");
    at_every_operation(disk, ledger, &[Damage::Mixed], restart, |twice, ledger, _| {
        restart(twice, &mut ledger.clone()).expect("the log starts after a cut during recovery");
    });
}

/// The whole test; panics on any violation.
fn cut_everywhere(disk: &SimulatedDisk, is_interval: bool) -> Cuts {
    let mut cuts = Cuts::default();
    let ledger = Ledger {
        is_interval,
        ..Ledger::default()
    };
    at_every_operation(disk, &ledger, &Damage::ALL, workload, |survived, ledger, lost| {
        cuts.all += 1;
        cuts.with_loss += usize::from(lost > 0);
        restart_and_cut_everywhere(survived, ledger);
    });
    cuts
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let cuts = cut_everywhere(&SimulatedDisk::new(), false);
    assert!(cuts.all > 250, "{cuts:?}");
    assert!(cuts.with_loss > cuts.all * 3 / 10, "the cuts must hurt: {cuts:?}");
}

#[test]
fn answering_before_the_sync_may_lose_events_but_never_damages_the_log() {
    let cuts = cut_everywhere(&SimulatedDisk::new(), true);
    assert!(cuts.with_loss > cuts.all * 3 / 10, "the cuts must hurt: {cuts:?}");
}

#[test]
fn this_test_would_notice_a_sync_that_does_nothing() {
    for kind in FaultKind::LIES {
        let noticed = std::panic::catch_unwind(|| {
            let disk = SimulatedDisk::new();
            let lie = Fault {
                kind,
                at: 1,
                lasts: true,
            };
            disk.arm(lie, 0);
            cut_everywhere(&disk, false)
        });
        assert!(noticed.is_err(), "{kind:?} went unnoticed");
    }
}
