//! Samples of where the log ended at which time, so that a flushed sequence can be given as a time.
//!
//! The log keeps no times, and taking one with every record would cost each request. A sample (a *look*) now and then
//! is enough for a person, and it errs on one side only: what was accepted before the reported time has certainly been
//! flushed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::event::Timestamp;
use crate::wal::id::Sequence;

/// Most looks that are kept. Beyond, every other one is dropped and their distance doubles, so they reach back as far
/// as before.
const LOOKS_MAX: usize = 64;
/// Distance after looks were dropped for the first time.
const DISTANCE_MIN: Duration = Duration::from_millis(20);

/// One look at the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) clock: Timestamp,
    pub(super) at: Instant,
    durable_through: Sequence,
}

/// Looks at the log, oldest first. The first one is the last whose events are all flushed, if there is one.
#[derive(Debug, Default)]
pub(super) struct Looks {
    looks: VecDeque<Look>,
    /// Smallest time between two looks, except before the last one: the newest look is always kept.
    distance: Duration,
}

impl Looks {
    /// Adds a look: at this time everything that had been accepted was at or before `durable_through`.
    pub(super) fn add(&mut self, clock: Timestamp, at: Instant, durable_through: Sequence) {
        // Of two looks at the same sequence, the later one says more.
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

    /// The last look whose events are all flushed; `None` if not even the first one's are. Drops the looks before it.
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
    /// A time before which everything accepted is in the database, and how long ago that time is; `None` if the oldest
    /// waiting events were accepted before this process looked.
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
