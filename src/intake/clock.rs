//! Whether the wall clock can be believed.
//!
//! A machine without a battery behind its clock boots in 1970, or whenever it was last seen, until it has asked the
//! network. By such a clock every event is from the future, which is a 400, which clients take as final. So events are
//! refused for now instead.

use crate::event::Timestamp;
use crate::wal::refusal::Refusal;

/// 2026-11-28T00:00:00Z: a day that was over when this release was made. A release moves it on, and a test sees to
/// that: it must not be older than the newest migration by more than a day. Whoever builds it, and whenever, gets the
/// same program, and no clock that is right is ever before it.
pub const RELEASED_AFTER: Timestamp = Timestamp::from_micros(1_795_824_000_000_000);

/// Where the time comes from by which events are judged.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    now: fn() -> Timestamp,
}

impl Clock {
    /// The system's.
    pub const SYSTEM: Self = Self::of(Timestamp::now);

    /// Another one, for tests.
    pub const fn of(now: fn() -> Timestamp) -> Self {
        Self { now }
    }

    /// The time.
    ///
    /// # Errors
    ///
    /// [`Refusal::ClockUnset`] while the clock stands before this program was made.
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
