//! How long to wait before a request is tried again, and when to stop trying.

use std::time::{Duration, Instant};

/// Shortest wait: too short for a user to notice, long enough not to flood a server that is starting.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// Longest wait without a `Retry-After`: a server that is up again is noticed within seconds.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// An outage shorter than this gets no message: a quick restart of the server is within it.
const QUIET: Duration = Duration::from_secs(1);

/// How long all attempts have failed. Shared by all workers: a verdict for one of them shows that the server is up.
#[derive(Debug)]
pub(super) struct Outage {
    give_up_after: Duration,
    /// Time of the first failure after the last verdict. Not the time of the verdict: standard input may have been
    /// silent for long since then.
    since: Option<Instant>,
    announced: bool,
}

/// What to do about a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Try again, after at most `left`.
    TryAgain {
        /// Time until the run gives up.
        left: Duration,
        /// Whether to tell the user, which is done once for each outage.
        announce: bool,
    },
    /// The outage has lasted too long.
    GiveUp,
}

impl Outage {
    /// A state without an outage.
    pub(super) fn new(give_up_after: Duration) -> Self {
        Self {
            give_up_after,
            since: None,
            announced: false,
        }
    }

    /// Notes that an attempt failed at `now`.
    pub(super) fn failed(&mut self, now: Instant) -> Decision {
        let lasted = now.saturating_duration_since(*self.since.get_or_insert(now));
        let left = self.give_up_after.saturating_sub(lasted);
        if left.is_zero() {
            return Decision::GiveUp;
        }
        let announce = lasted >= QUIET && !self.announced;
        self.announced |= announce;
        Decision::TryAgain { left, announce }
    }

    /// Notes a verdict of the server. Returns whether that ends an outage that the user was told of.
    pub(super) fn end(&mut self) -> bool {
        self.since = None;
        std::mem::take(&mut self.announced)
    }
}

/// The wait after failed attempt number `attempt`, counted from 0: as long as the server asked for, else twice as long
/// each time. `random` in `0.0..1.0` spreads the connections, so that they do not all retry in the same moment.
pub(super) fn wait(attempt: u32, asked_for: Option<Duration>, random: f64) -> Duration {
    match asked_for {
        Some(asked_for) => asked_for.max(WAIT_MIN) + WAIT_MIN.mul_f64(random),
        None => {
            let longest = (2 * WAIT_MIN * 2_u32.pow(attempt.min(10))).min(WAIT_MAX);
            longest.mul_f64(0.5 + random / 2.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_from_100_ms_to_5_s() {
        assert_eq!(wait(0, None, 0.0), Duration::from_millis(100));
        assert_eq!(wait(2, None, 0.0), Duration::from_millis(400));
        assert_eq!(wait(2, None, 1.0), Duration::from_millis(800));
        assert_eq!(wait(1_000_000, None, 1.0), WAIT_MAX);
    }

    #[test]
    fn the_server_is_left_alone_for_as_long_as_it_asks() {
        assert_eq!(wait(0, Some(30 * SECOND), 0.0), 30 * SECOND);
        assert!(wait(9, Some(30 * SECOND), 0.99) < 31 * SECOND);
        assert_eq!(wait(0, Some(Duration::ZERO), 0.0), WAIT_MIN);
    }

    #[test]
    fn it_gives_up_only_when_nothing_gets_through() {
        let start = Instant::now();
        let mut outage = Outage::new(10 * SECOND);
        let again = |left, announce| Decision::TryAgain {
            left: left * SECOND,
            announce,
        };
        assert_eq!(outage.failed(start), again(10, false));
        assert_eq!(outage.failed(start + 4 * SECOND), again(6, true));
        assert_eq!(outage.failed(start + 5 * SECOND), again(5, false));
        assert!(outage.end());
        assert!(!outage.end());
        assert_eq!(
            outage.failed(start + 60 * SECOND),
            again(10, false),
            "silence before is no outage"
        );
        assert_eq!(outage.failed(start + 70 * SECOND), Decision::GiveUp);
    }
}
