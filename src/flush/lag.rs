//! When the log stood where, as far as somebody looked: so a flushed sequence can be told as a time.
//!
//! The log keeps no times, and taking one with every record would cost each request. A look now and then is enough for
//! a person, and it errs on one side only: what was accepted before the time that is told has certainly been flushed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::event::Timestamp;
use crate::wal::id::Sequence;

/// Looks that are kept. Beyond, every other one goes, and their distance doubles: they reach back as far as ever.
const LOOKS_MAX: usize = 64;
/// Smallest distance to begin with.
const DISTANCE_MIN: Duration = Duration::from_millis(20);

/// One look at the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) clock: Timestamp,
    pub(super) at: Instant,
    durable_through: Sequence,
}

/// Looks at the log, oldest first, from the last one on behind which everything is flushed.
#[derive(Debug, Default)]
pub(super) struct Looks {
    looks: VecDeque<Look>,
    /// Nearer to each other they need not be, except the last one, which is always the newest.
    distance: Duration,
}

impl Looks {
    /// At this time everything that had been accepted was at or before this sequence.
    pub(super) fn add(&mut self, clock: Timestamp, at: Instant, durable_through: Sequence) {
        // The later one of two equal ones says more.
        let mut newest = self.looks.iter().rev();
        if let Some(last) = newest.next() {
            let is_near = |before: &Look| last.at.duration_since(before.at) < self.distance;
            if last.durable_through == durable_through || newest.next().is_some_and(is_near) {
                self.looks.pop_back();
            }
        }
        if self.looks.len() >= LOOKS_MAX {
            self.distance = (2 * self.distance).max(DISTANCE_MIN);
            let mut index = 0;
            self.looks.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.looks.push_back(Look {
            clock,
            at,
            durable_through,
        });
    }

    /// The last look behind which everything is flushed; `None` if what is flushed was accepted before the first one.
    pub(super) fn flushed(&mut self, flushed_through: Sequence) -> Option<Look> {
        let flushed = |look: &Look| look.durable_through <= flushed_through;
        while self.looks.get(1).is_some_and(flushed) {
            self.looks.pop_front();
        }
        if self.looks.len() <= 2 {
            self.distance = Duration::ZERO;
        }
        self.looks.front().copied().filter(flushed)
    }
}

/// How far the flush is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Events that are on disk and not known to be in the database.
    pub events: u64,
    /// Everything that was accepted before this is in the database, and for how long this has been the newest; `None`
    /// if what waits came before this process.
    pub since: Option<(Timestamp, Duration)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn the_time_that_is_told_is_never_too_late() {
        let mut looks = Looks::default();
        let begin = Instant::now();
        // One event a second, and a look every second.
        for second in 0..10_000_i64 {
            let at = begin + Duration::from_secs(second as u64);
            looks.add(clock(second), at, 100 + second as u64);
            assert!(looks.looks.len() <= LOOKS_MAX);
        }
        assert!(looks.flushed(99).is_none(), "all of that is from before");
        let mut told = Vec::new();
        for flushed_through in [100, 101, 5_000, 9_000, 10_098, 10_099] {
            let look = looks.flushed(flushed_through).expect("a look");
            assert!(look.clock <= clock(flushed_through as i64 - 100));
            told.push(look.clock);
        }
        assert!(told.is_sorted());
        assert!(told[2] > clock(4_500), "not too coarse: {told:?}");
        assert_eq!(told[5], clock(9_999));
    }

    #[test]
    fn of_a_log_that_does_not_grow_the_last_look_counts() {
        let mut looks = Looks::default();
        for second in 0..10 {
            looks.add(clock(second), Instant::now(), 7);
        }
        assert_eq!(looks.flushed(7).map(|look| look.clock), Some(clock(9)));
        assert!(looks.flushed(6).is_none());
    }
}
