//! How long to wait before asking a database again that has failed, and how often to say so.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
/// A database that is back is noticed this soon; asking more often would only load one that is struggling.
const LONGEST: Duration = Duration::from_secs(5);

/// Exponential backoff with jitter: between half and all of a span that doubles.
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
    /// The next wait.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let half = self.span / 2;
        self.span = (self.span * 2).min(LONGEST);
        half + half.mul_f64(fastrand::f64())
    }

    /// The last attempt went well.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// While a database stays away, the log says so this often.
const REMINDER: Duration = Duration::from_secs(60);

/// Says when a failure that goes on is worth a line in the log: at first, and then now and again.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    /// When it was last said; `None` while all is well.
    said_at: Option<Instant>,
}

impl Reminder {
    /// Whether to say it now; whoever asks does.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.said_at.is_none_or(|said_at| said_at.elapsed() >= REMINDER);
        if is_due {
            self.said_at = Some(Instant::now());
        }
        is_due
    }

    /// All is well. Returns whether something else was said before.
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
