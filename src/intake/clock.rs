//! Whether the wall clock can be trusted.
//!
//! A machine whose clock has no battery boots in 1970, or at the time when it last ran, until it has asked the network.
//! By such a clock every event is from the future and would get a 400, which clients take as final. So events are
//! refused for the moment instead.

use crate::event::Timestamp;
use crate::wal::refusal::Refusal;

/// 2026-11-28T00:00:00Z: a time before this release was made. Each release moves it on, and a test checks that: it must
/// not be older than the newest migration by more than a day. It is a constant, so that every build gives the same
/// program; a correct clock is never before it.
pub const RELEASED_AFTER: Timestamp = Timestamp::from_micros(1_795_824_000_000_000);

/// Source of the time with which timestamps of events are compared.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    now: fn() -> Timestamp,
}

impl Clock {
    /// The system's clock.
    pub const SYSTEM: Self = Self::of(Timestamp::now);

    /// Another clock, for tests.
    pub const fn of(now: fn() -> Timestamp) -> Self {
        Self { now }
    }

    /// The current time.
    ///
    /// # Errors
    ///
    /// [`Refusal::ClockUnset`] while the clock is before [`RELEASED_AFTER`].
    pub fn now(self) -> Result<Timestamp, Refusal> {
        let now = (self.now)();
        if now < RELEASED_AFTER {
            return Err(Refusal::ClockUnset);
        }
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_from_before_the_release_is_not_believed() {
        let before = || Timestamp::from_micros(RELEASED_AFTER.as_micros() - 1);
        assert_eq!(Clock::of(before).now(), Err(Refusal::ClockUnset));
        let from_then_on = Clock::of(|| RELEASED_AFTER).now();
        assert_eq!(from_then_on, Ok(RELEASED_AFTER));
        assert!(Clock::SYSTEM.now().is_ok(), "the clock of this machine");
    }
}
