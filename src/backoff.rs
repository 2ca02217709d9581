//! How long to wait before asking a database again that has failed.

use std::time::Duration;

use crate::random;

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
        half + half.mul_f64(random::fraction())
    }

    /// The last attempt went well.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
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
}
