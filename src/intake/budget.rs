//! One byte budget for all that is in flight: bodies being read and records waiting for their sync.
//!
//! It is what bounds memory. A reservation is taken before a body is read and given back when the last owner drops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be in flight at once.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    /// Bytes reserved now; raised by connections, lowered by whoever drops a reservation.
    reserved: AtomicUsize,
}

impl Budget {
    /// A budget of `bytes_max`, none of it reserved.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            reserved: AtomicUsize::new(0),
        })
    }

    /// Reserves `bytes`, or says `None` at once when that would exceed the budget.
    pub fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        self.reserved
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |reserved| {
                reserved
                    .checked_add(bytes)
                    .filter(|&sum| sum <= self.bytes_max)
            })
            .ok()?;
        Some(Reservation {
            budget: Arc::clone(self),
            bytes,
        })
    }

    /// Bytes reserved now.
    pub fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Acquire)
    }
}

/// A part of the budget, given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.reserved.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserves_up_to_the_budget_and_gives_back_on_drop() {
        let budget = Budget::new(100);
        let first = budget.try_reserve(60).unwrap();
        assert!(budget.try_reserve(41).is_none(), "one byte too many");
        let second = budget.try_reserve(40).unwrap();
        assert_eq!(budget.reserved(), 100);
        drop(first);
        drop(second);
        assert_eq!(budget.reserved(), 0);
        assert!(budget.try_reserve(usize::MAX).is_none(), "no overflow");
    }
}
