//! Every fault at every operation that it can meet: then the process dies alone, or the power fails too, and the next
//! start dies at each of its operations in turn. Faults that no call reports are noticed later, or do no harm.

use super::ledger::{Ledger, Plan, stay};
use super::power_cut::{restart, restart_and_cut_everywhere, workload};
use super::*;
use crate::testing::disk::simulated::{Damage, Dice, Fault, FaultKind, SimulatedDisk};

/// Runs the workload with the fault at each place where it can strike, and passes disk and ledger to `then`; returns at
/// how many places it struck.
fn at_every_chance(
    kind: FaultKind,
    lasts: bool,
    mut then: impl FnMut(&SimulatedDisk, &Ledger, Result<(), WalError>, u64),
) -> usize {
    for at in 1.. {
        let disk = SimulatedDisk::new();
        let mut ledger = Ledger::default();
        let seed = at as u64;
        disk.arm(Fault { kind, at, lasts }, seed);
        let outcome = workload(&disk, &mut ledger);
        if disk.fired() == 0 {
            outcome.expect("no error without a fault");
            return at - 1;
        }
        then(&disk, &ledger, outcome, seed);
    }
    unreachable!("the workload ends")
}

/// Whether the fault was reported. Once the log is open, a full disk is reported to the requests only.
fn is_told(kind: FaultKind, outcome: &Result<(), WalError>) -> bool {
    matches!(outcome, Err(WalError::Io { .. })) || kind.is_full() && outcome.is_ok()
}

/// Checks one kind of fault at all its chances; returns how many events were turned away.
fn survive(kind: FaultKind, lasts: bool) -> usize {
    let mut turned_away = 0;
    let struck = at_every_chance(kind, lasts, |disk, ledger, outcome, seed| {
        turned_away += ledger.tally.turned_away;
        assert!(is_told(kind, &outcome), "{kind:?} at {seed}: {outcome:?}");
        let left = disk.after_process_death();
        restart_and_cut_everywhere(&left, ledger);
        for damage in Damage::ALL {
            let (survived, _) = disk.after_power_cut(damage, &mut Dice(seed));
            restart_and_cut_everywhere(&survived, ledger);
        }
        // Here a start comes between the fault and the power cut that shows what was never on the device.
        let mut ledger = ledger.clone();
        restart(&left, &mut ledger).expect("the log starts after the fault");
        for damage in [Damage::Lost, Damage::Mixed] {
            let (survived, _) = left.after_power_cut(damage, &mut Dice(seed));
            restart(&survived, &mut ledger.clone()).expect("the log starts after fault and cut");
        }
    });
    assert!(struck > 0, "{kind:?} never struck");
    turned_away
}

#[test]
fn a_failing_write_loses_nothing_acknowledged_wherever_it_strikes() {
    for kind in [FaultKind::WriteError, FaultKind::ShortWrite] {
        survive(kind, false);
        survive(kind, true);
    }
}

#[test]
fn a_full_disk_turns_requests_away_and_the_log_goes_on() {
    for kind in [FaultKind::WriteNoSpace, FaultKind::CreateNoSpace] {
        let turned_away = survive(kind, false) + survive(kind, true);
        assert!(turned_away > 10, "{kind:?}: only {turned_away}");
    }
}

/// A write that finds no space may have written whole records to the file, whose clients are told that they are not
/// stored.
#[test]
fn what_a_full_disk_took_of_a_refused_group_is_never_found() {
    let begun = SimulatedDisk::new();
    let mut before = Ledger::default();
    stay(&begun, &mut before, &Plan::of(&[&[1]])).unwrap();
    let mut turned_away = 0;
    for (seed, at) in (0..20).flat_map(|seed| (1..10).map(move |at| (seed, at))) {
        let disk = begun.after_process_death();
        let mut ledger = before.clone();
        let fault = Fault {
            kind: FaultKind::WriteNoSpace,
            at,
            lasts: true,
        };
        disk.arm(fault, seed);
        // Four records are one group.
        let outcome = stay(&disk, &mut ledger, &Plan::of(&[&[1, 1, 1, 1]]));
        assert!(is_told(FaultKind::WriteNoSpace, &outcome), "{outcome:?}");
        turned_away += ledger.tally.turned_away;
        restart(&disk.after_process_death(), &mut ledger).expect("the log starts");
    }
    assert!(turned_away > 50, "only {turned_away}");
}

#[test]
fn a_failing_sync_loses_nothing_acknowledged_wherever_it_strikes() {
    for kind in [FaultKind::SyncError, FaultKind::SyncDirError] {
        survive(kind, false);
        survive(kind, true);
    }
}

#[test]
fn a_failing_read_or_name_change_loses_nothing_acknowledged_wherever_it_strikes() {
    for kind in [FaultKind::ReadError, FaultKind::RenameError, FaultKind::RemoveError] {
        survive(kind, false);
        survive(kind, true);
    }
}

/// Disks with a torn tail, for the faults that only their recovery can meet.
fn torn_disks() -> Vec<(SimulatedDisk, Ledger)> {
    let mut torn = Vec::new();
    at_every_chance(FaultKind::ShortWrite, false, |disk, ledger, _, _| {
        let mut seen = ledger.clone();
        restart(&disk.after_process_death(), &mut seen).unwrap();
        if seen.tally.torn_tails > ledger.tally.torn_tails {
            torn.push((disk.after_process_death(), ledger.clone()));
        }
    });
    assert!(torn.len() > 5, "only {} torn tails", torn.len());
    torn
}

#[test]
fn any_fault_while_a_torn_tail_is_cut_leaves_a_log_that_starts_again() {
    let torn = torn_disks();
    for kind in FaultKind::RETURNED {
        let mut struck = 0;
        for (start, ledger) in &torn {
            for at in 1.. {
                let disk = start.copy();
                let mut ledger = ledger.clone();
                let fault = Fault { kind, at, lasts: false };
                disk.arm(fault, at as u64);
                let outcome = restart(&disk, &mut ledger);
                if disk.fired() == 0 {
                    break;
                }
                assert!(is_told(kind, &outcome), "{outcome:?}");
                struck += 1;
                restart(&disk.after_process_death(), &mut ledger.clone())
                    .expect("the log starts after a fault in recovery");
                for damage in Damage::ALL {
                    let (survived, _) = disk.after_power_cut(damage, &mut Dice(at as u64));
                    restart(&survived, &mut ledger.clone()).expect("the log starts after fault and cut");
                }
            }
        }
        assert!(struck > 0, "{kind:?} never struck");
    }
}

#[test]
fn a_lying_sync_is_found_out_or_harmless_once_something_follows_it() {
    for kind in FaultKind::LIES {
        let mut refused = 0;
        at_every_chance(kind, false, |disk, ledger, outcome, seed| {
            let mut ledger = ledger.clone();
            let gone_on = outcome.and_then(|()| restart(&disk.copy(), &mut ledger.clone()));
            if let Err(error) = gone_on {
                assert!(matches!(error, WalError::Damage { .. }), "{error}");
                refused += 1;
                return;
            }
            // A stay after the lie, with honest syncs, then a power cut: it shows what the device lacks.
            restart(disk, &mut ledger).unwrap();
            let (survived, _) = disk.after_power_cut(Damage::Lost, &mut Dice(seed));
            // The log either refuses, or has all that was acknowledged and is not yet in the database.
            if let Err(error) = restart(&survived, &mut ledger) {
                assert!(matches!(error, WalError::Damage { .. }), "{error}");
                refused += 1;
            }
        });
        assert!(refused > 0, "{kind:?} never did harm");
    }
}
