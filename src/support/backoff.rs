//! How long to wait before the next try after a database has failed, and how often to log the failure.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
/// A database that has recovered is noticed within this time; more tries would only add load to one that struggles.
const LONGEST: Duration = Duration::from_secs(5);

/// Exponential backoff with jitter: each wait is between half and all of a span that doubles.
#[derive(Debug)]
pub(crate) struct Backoff {
    span: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { span: FIRST }
    }
}

impl Backoff {
    /// The wait before the next try, between 50 ms and 5 s.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let half = self.span / 2;
        self.span = (self.span * 2).min(LONGEST);
        half + half.mul_f64(fastrand::f64())
    }

    /// Starts over with the shortest span, after a try that succeeded.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Time between two log lines about a failure that lasts.
const REMINDER: Duration = Duration::from_secs(60);

/// Decides when a failure that lasts is logged: at once, and then every [`REMINDER`].
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    /// When the failure was last logged; `None` while there is none.
    said_at: Option<Instant>,
}

impl Reminder {
    /// Whether the caller must log the failure now; `true` counts as logged.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.said_at.is_none_or(|said_at| said_at.elapsed() >= REMINDER);
        if is_due {
            self.said_at = Some(Instant::now());
        }
        is_due
    }

    /// Ends the failure. Returns whether it was logged.
    pub(crate) fn end(&mut self) -> bool {
        self.said_at.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..10).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST, "{waits:?}");
        assert!(waits[9] >= LONGEST / 2 && waits[9] <= LONGEST, "{waits:?}");
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_said_at_first_and_then_once_a_minute() {
        let mut reminder = Reminder::default();
        assert!(!reminder.end());
        assert_eq!([reminder.is_due(), reminder.is_due()], [true, false]);
        tokio::time::advance(REMINDER).await;
        assert_eq!([reminder.is_due(), reminder.is_due()], [true, false]);
        assert!(reminder.end());
        assert!(reminder.is_due());
    }
}
