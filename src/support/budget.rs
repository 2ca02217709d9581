//! One byte budget for all that is in flight: bodies being read and records waiting for their sync.
//!
//! The budget bounds memory. A reservation is taken before a body is read, grows with the bytes that have arrived, and
//! is given back when its owner drops it.

use std::sync::Arc;

use crate::support::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be in flight at once.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    /// Most bytes reserved in all after a reservation grows. The rest is for new reservations, which begin small.
    growth_max: usize,
    /// Bytes reserved now; raised by connections, lowered by each reservation that is dropped.
    reserved: AtomicUsize,
}

impl Budget {
    /// A budget of `bytes_max`, none of it reserved.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Self::with_share_for_small(bytes_max, 0)
    }

    /// A budget of `bytes_max` with a share that only new reservations may use, not growing ones: otherwise a few large
    /// bodies that stall would keep every small one out.
    pub fn with_share_for_small(bytes_max: usize, share: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            growth_max: bytes_max.saturating_sub(share),
            reserved: AtomicUsize::new(0),
        })
    }

    /// Reserves `bytes`, or returns `None` at once when that would exceed the budget.
    pub fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        self.try_take(bytes, self.bytes_max).then(|| Reservation {
            budget: Arc::clone(self),
            bytes,
        })
    }

    /// Whether reservations could grow by `bytes` now. Reserves nothing.
    pub fn can_grow_by(&self, bytes: usize) -> bool {
        self.reserved()
            .checked_add(bytes)
            .is_some_and(|sum| sum <= self.growth_max)
    }

    /// Bytes reserved now.
    pub fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Acquire)
    }

    fn try_take(&self, bytes: usize, reserved_max: usize) -> bool {
        self.reserved
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |reserved| {
                reserved.checked_add(bytes).filter(|&sum| sum <= reserved_max)
            })
            .is_ok()
    }
}

/// A part of the budget, given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Grows the reservation to `bytes`, or returns `false` and changes nothing when that would exceed the budget.
    /// Never shrinks it.
    pub fn try_grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = more == 0 || self.budget.try_take(more, self.budget.growth_max);
        if fits {
            self.bytes = self.bytes.max(bytes);
        }
        fits
    }
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

    #[test]
    fn what_grows_leaves_a_share_to_what_is_new() {
        let budget = Budget::with_share_for_small(100, 20);
        let mut large = budget.try_reserve(10).unwrap();
        assert!(budget.can_grow_by(70) && !budget.can_grow_by(71));
        assert!(!large.try_grow_to(81), "into the share");
        assert!(large.try_grow_to(80));
        let small = budget.try_reserve(20).unwrap();
        assert!(budget.try_reserve(1).is_none(), "one byte too many");
        assert!(large.try_grow_to(80), "it has that already");
        drop((large, small));
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn a_reservation_grows_within_the_budget() {
        let budget = Budget::new(100);
        let mut growing = budget.try_reserve(10).unwrap();
        let other = budget.try_reserve(30).unwrap();
        assert!(budget.can_grow_by(60) && !budget.can_grow_by(61) && !budget.can_grow_by(usize::MAX));
        assert!(growing.try_grow_to(70));
        assert!(!growing.try_grow_to(71), "one byte too many");
        assert!(growing.try_grow_to(5), "it fits already");
        assert_eq!(budget.reserved(), 100);
        drop(growing);
        drop(other);
        assert_eq!(budget.reserved(), 0);
    }
}
