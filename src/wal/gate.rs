//! Whether the log can take more: its bytes on disk against the cap, the disk's free-space floor, poison and draining.
//!
//! Connections reserve log space for a request in step with its body, and for all of it before it is submitted, so a
//! submitted record always fits. The log thread turns reservations into used space; the flush thread gives space back
//! when it retires segments.

use std::sync::Arc;

use super::refusal::Refusal;
use crate::support::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The state of the gate. One per process.
#[derive(Debug)]
pub struct Gate {
    bytes_max: u64,
    /// Size at which a full log opens again: below the cap, so that the gate does not open and close with each retired
    /// segment.
    bytes_reopen: u64,
    /// Bytes of segments on disk plus bytes reserved for admitted requests.
    bytes_used: AtomicU64,
    /// Set at the cap, cleared at the reopening mark.
    log_full: AtomicBool,
    /// Set and cleared by the log thread as it watches the disk's free space.
    disk_low: AtomicBool,
    poisoned: AtomicBool,
    draining: AtomicBool,
    /// Log and database do not belong together.
    mismatched: AtomicBool,
}

impl Gate {
    /// A gate for a log capped at `bytes_max` bytes that holds `bytes_used` already.
    pub fn new(bytes_max: u64, bytes_used: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            bytes_reopen: bytes_max / 10 * 9,
            bytes_used: AtomicU64::new(bytes_used),
            log_full: AtomicBool::new(bytes_used >= bytes_max),
            disk_low: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            mismatched: AtomicBool::new(false),
        })
    }

    /// Whether events can be accepted at all.
    pub fn check_open(&self) -> Result<(), Refusal> {
        if self.poisoned.load(Ordering::Acquire) {
            Err(Refusal::Poisoned)
        } else if self.draining.load(Ordering::Acquire) {
            Err(Refusal::Draining)
        } else if self.mismatched.load(Ordering::Acquire) {
            Err(Refusal::Mismatch)
        } else if self.log_full.load(Ordering::Acquire) || self.disk_low.load(Ordering::Acquire) {
            Err(Refusal::LogFull)
        } else {
            Ok(())
        }
    }

    /// Reserves space in the log for a request of at most `bytes`.
    ///
    /// A request that meets the cap closes the gate for all until at most nine tenths are used, so that the answer does
    /// not depend on a request's size.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<SpaceReservation, Refusal> {
        self.check_open()?;
        self.take(bytes)?;
        Ok(SpaceReservation {
            gate: Arc::clone(self),
            bytes,
        })
    }

    /// Whether [`Gate::reserve`] would find space for `bytes` now. Reserves nothing, but closes the gate likewise.
    pub fn check_space(&self, bytes: u64) -> Result<(), Refusal> {
        self.check_open()?;
        let fits = self
            .bytes_used()
            .checked_add(bytes)
            .is_some_and(|sum| sum <= self.bytes_max);
        if fits { Ok(()) } else { Err(self.met_cap()) }
    }

    /// Counts bytes that were written without a reservation: segment headers and markers.
    pub fn add_used(&self, bytes: u64) {
        self.bytes_used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Gives back the space of a retired segment.
    pub fn release(&self, bytes: u64) {
        self.bytes_used.fetch_sub(bytes, Ordering::SeqCst);
        self.reopen_below_mark();
    }

    /// Bytes on disk and reserved.
    pub fn bytes_used(&self) -> u64 {
        self.bytes_used.load(Ordering::Acquire)
    }

    /// Notes whether the disk is at its free-space floor.
    pub fn set_disk_low(&self, low: bool) {
        self.disk_low.store(low, Ordering::Release);
    }

    /// Closes the gate for good after a failed write or sync.
    pub fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// Closes the gate for good because the server is shutting down.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Closes the gate because log and database do not belong together, or opens it once a person has decided.
    pub fn set_mismatch(&self, mismatched: bool) {
        self.mismatched.store(mismatched, Ordering::Release);
    }

    fn take(&self, bytes: u64) -> Result<(), Refusal> {
        self.bytes_used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.bytes_max)
            })
            .map(|_| ())
            .map_err(|_| self.met_cap())
    }

    fn met_cap(&self) -> Refusal {
        self.log_full.store(true, Ordering::SeqCst);
        // Space may have been released just before this store, and then nobody else would open the gate again. All four
        // steps, here and in `release`, need one order (`SeqCst`): with less, this store may become visible only after
        // the load that follows it, and after the thread that released the space has opened the gate.
        self.reopen_below_mark();
        Refusal::LogFull
    }

    /// Whether few enough bytes are used now for a full log to open again.
    pub(crate) fn has_room_to_reopen(&self) -> bool {
        self.bytes_used.load(Ordering::SeqCst) <= self.bytes_reopen
    }

    fn reopen_below_mark(&self) {
        if self.has_room_to_reopen() {
            self.log_full.store(false, Ordering::SeqCst);
        }
    }
}

/// Space in the log for one record, given back on drop unless it was used.
#[derive(Debug)]
pub struct SpaceReservation {
    gate: Arc<Gate>,
    bytes: u64,
}

impl SpaceReservation {
    /// Makes the reservation at least `bytes` long.
    ///
    /// Only the cap and a failed log prevent that: an admitted request is not refused when the gate closes for another
    /// reason.
    ///
    /// # Errors
    ///
    /// [`Refusal::LogFull`] or [`Refusal::Poisoned`]; the reservation is as long as before.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Refusal> {
        if self.gate.poisoned.load(Ordering::Acquire) {
            return Err(Refusal::Poisoned);
        }
        let more = bytes.saturating_sub(self.bytes);
        self.gate.take(more)?;
        self.bytes += more;
        Ok(())
    }

    /// Makes the reservation as long as the record turned out to be: gives back the rest, or grows.
    ///
    /// # Errors
    ///
    /// As [`SpaceReservation::grow_to`].
    pub fn fit_to(&mut self, bytes: u64) -> Result<(), Refusal> {
        if bytes > self.bytes {
            return self.grow_to(bytes);
        }
        self.gate.release(self.bytes - bytes);
        self.bytes = bytes;
        Ok(())
    }

    /// Turns the reservation into used space, which is given back when the segment is retired.
    pub fn consume(mut self) {
        self.bytes = 0;
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.gate.release(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn closes_at_the_cap_and_opens_again_at_nine_tenths() {
        let gate = Gate::new(1000, 0);
        let first = gate.reserve(600).unwrap();
        let second = gate.reserve(400).unwrap();
        assert_eq!(gate.reserve(1).unwrap_err(), Refusal::LogFull);
        first.consume();
        second.consume();
        assert_eq!(gate.bytes_used(), 1000, "used space stays used");
        gate.release(99);
        assert_eq!(
            gate.check_open(),
            Err(Refusal::LogFull),
            "901 of 1000 is above the mark"
        );
        gate.release(1);
        assert_eq!(gate.check_open(), Ok(()), "900 of 1000 is at the mark");
    }

    #[test]
    fn a_dropped_or_shrunk_reservation_gives_space_back() {
        let gate = Gate::new(1000, 0);
        let mut reservation = gate.reserve(800).unwrap();
        reservation.fit_to(300).unwrap();
        assert_eq!(gate.bytes_used(), 300);
        drop(reservation);
        assert_eq!(gate.bytes_used(), 0);
    }

    #[test]
    fn a_reservation_grows_up_to_the_cap_and_also_while_the_gate_closes() {
        let gate = Gate::new(1000, 0);
        let mut inside = gate.reserve(100).unwrap();
        gate.check_space(900).unwrap();
        assert_eq!(gate.check_space(901), Err(Refusal::LogFull));
        assert_eq!(gate.check_space(u64::MAX), Err(Refusal::LogFull));
        assert_eq!(gate.bytes_used(), 100, "looking takes nothing");
        gate.drain();
        assert_eq!(inside.grow_to(1000), Ok(()));
        assert_eq!(inside.grow_to(1001), Err(Refusal::LogFull));
        assert_eq!(inside.grow_to(10), Ok(()), "it fits already");
        assert_eq!(gate.bytes_used(), 1000);
        gate.poison();
        assert_eq!(inside.grow_to(10), Err(Refusal::Poisoned));
        drop(inside);
        assert_eq!(gate.bytes_used(), 0);
    }

    #[test]
    fn a_big_request_that_does_not_fit_an_almost_empty_log_does_not_close_it() {
        let gate = Gate::new(1000, 0);
        assert_eq!(gate.reserve(1001).unwrap_err(), Refusal::LogFull);
        assert_eq!(gate.check_open(), Ok(()));
    }

    #[test]
    fn poison_wins_over_draining_that_over_a_mismatch_and_that_over_full() {
        let gate = Gate::new(10, 10);
        assert_eq!(gate.check_open(), Err(Refusal::LogFull));
        gate.set_mismatch(true);
        assert_eq!(gate.check_open(), Err(Refusal::Mismatch));
        gate.drain();
        assert_eq!(gate.check_open(), Err(Refusal::Draining));
        gate.poison();
        assert_eq!(gate.check_open(), Err(Refusal::Poisoned));
    }

    /// What [`crate::testing::schedules`] cannot show, because its threads take turns: a core's store that becomes
    /// visible after a later load of the same core.
    #[test]
    fn a_cap_met_while_space_comes_back_leaves_the_gate_open() {
        const ROUNDS: usize = 1_000_000;
        let gate = Gate::new(1000, 0);
        let arrived = AtomicUsize::new(0);
        // Spinning, because a barrier that sleeps wakes its threads too far apart for them to meet.
        let meet = |meeting: usize| {
            arrived.fetch_add(1, Ordering::SeqCst);
            let mut spins = 0;
            while arrived.load(Ordering::SeqCst) < 2 * meeting {
                spins += 1;
                if spins % 1000 == 0 {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
            }
        };
        let mut left_closed = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    meet(2 * round + 1);
                    gate.check_space(1).ok();
                    meet(2 * round + 2);
                }
            });
            for round in 0..ROUNDS {
                gate.add_used(1000);
                meet(2 * round + 1);
                gate.release(1000);
                meet(2 * round + 2);
                left_closed += usize::from(gate.check_open().is_err());
                gate.release(0);
            }
        });
        assert_eq!(left_closed, 0, "of {ROUNDS} rounds");
    }
}
