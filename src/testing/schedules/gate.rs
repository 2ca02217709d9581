//! The gate and the budget under threads that reserve, use and give back at the same time.

use std::sync::Arc;

use shuttle::thread;

use super::{check, roll};
use crate::support::budget::Budget;
use crate::wal::gate::Gate;
use crate::wal::refusal::Refusal;

/// Whatever happens to a reservation, and whichever thread meets the cap: a gate with room to reopen is open.
#[test]
fn a_gate_with_room_is_never_left_closed() {
    check(|| {
        let gate = Gate::new(100, 0);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let gate = Arc::clone(&gate);
                thread::spawn(move || come_and_go(&gate))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(gate.bytes_used(), 0, "all was given back");
        assert_eq!(gate.check_open(), Ok(()));
    });
}

fn come_and_go(gate: &Arc<Gate>) {
    for _ in 0..2 {
        if roll(3) == 0 {
            gate.check_space(60).ok();
        }
        match gate.reserve(60) {
            Ok(mut reservation) => {
                if roll(2) == 0 {
                    reservation.grow_to(95).ok();
                }
                reservation.fit_to(50).unwrap();
                if roll(2) == 0 {
                    // The log thread writes it, the flush retires it.
                    reservation.consume();
                    gate.release(50);
                }
            }
            Err(refusal) => assert_eq!(refusal, Refusal::LogFull),
        }
        assert!(gate.bytes_used() <= 100, "the cap holds");
    }
}

#[test]
fn the_budget_holds_and_is_given_back() {
    check(|| {
        let budget = Budget::new(100);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let budget = Arc::clone(&budget);
                thread::spawn(move || {
                    for _ in 0..2 {
                        if let Some(mut reservation) = budget.try_reserve(40) {
                            reservation.try_grow_to(70);
                            assert!(budget.reserved() <= 100, "the budget holds");
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(budget.reserved(), 0);
    });
}
