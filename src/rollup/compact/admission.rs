//! The cap on (name, channel) pairs a day: who gets a series, and who is only counted.
//!
//! An id that somebody sends as a name or a channel would otherwise make a series of its own for each event, and rollups would grow
//! like the events. Once a day is full it stays closed: a pair that found no room at first must not get a series later, because that
//! series would lack its first events. A name is let in with its first pair and never without, for the same reason.

use std::collections::{HashMap, HashSet};

use crate::rollup::SeriesKey;

/// Which of the three series of [`series_of`](crate::rollup::series_of) count an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// All three.
    Pair,
    /// Its name's and the one of everything.
    Name,
    /// The one of everything.
    Neither,
}

impl Admitted {
    /// Index of the first series that counts, and those behind it count, too.
    pub fn first(self) -> usize {
        match self {
            Self::Pair => 0,
            Self::Name => 1,
            Self::Neither => 2,
        }
    }
}

/// The room for series on one day.
#[derive(Debug)]
pub struct Room {
    /// Channels of each name that has a series.
    channels: HashMap<String, HashSet<String>>,
    pairs: usize,
    pairs_max: usize,
    is_closed: bool,
}

impl Room {
    /// As the store knows it: `series` are those that the day has, `is_closed` says that somebody was turned away before.
    pub fn new(series: Vec<SeriesKey>, is_closed: bool, pairs_max: usize) -> Self {
        let mut room = Self {
            channels: HashMap::new(),
            pairs: 0,
            pairs_max,
            is_closed,
        };
        for key in series {
            let Some(event_name) = key.event_name else {
                continue;
            };
            let channels = room.channels.entry(event_name).or_default();
            if let Some(channel) = key.channel {
                room.pairs += usize::from(channels.insert(channel));
            }
        }
        room
    }

    /// Lets a pair in if it is in already or there is room; closes the day if there is none.
    pub fn admit(&mut self, event_name: &str, channel: &str) -> Admitted {
        let channels = self.channels.get(event_name);
        if channels.is_some_and(|channels| channels.contains(channel)) {
            return Admitted::Pair;
        }
        let is_name_in = channels.is_some();
        self.is_closed |= self.pairs >= self.pairs_max;
        if !self.is_closed {
            let channels = self.channels.entry(event_name.to_owned()).or_default();
            channels.insert(channel.to_owned());
            self.pairs += 1;
            Admitted::Pair
        } else if is_name_in {
            Admitted::Name
        } else {
            Admitted::Neither
        }
    }

    /// Whether a pair was turned away, now or before.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollup::series_of;

    /// What a store would say about a day with these pairs.
    fn series(pairs: &[(&str, &str)]) -> Vec<SeriesKey> {
        let keys = pairs.iter().flat_map(|(name, channel)| {
            let [pair, name, _] = series_of(name, channel);
            [pair, name]
        });
        keys.collect()
    }

    #[test]
    fn pairs_come_in_until_the_day_is_full() {
        let mut room = Room::new(series(&[("a", "x")]), false, 3);
        assert_eq!(room.admit("a", "x"), Admitted::Pair);
        assert_eq!(room.admit("a", "y"), Admitted::Pair);
        assert_eq!(room.admit("b", "x"), Admitted::Pair);
        assert!(!room.is_closed());
        assert_eq!(room.admit("a", "z"), Admitted::Name);
        assert!(room.is_closed());
        assert_eq!(room.admit("c", "x"), Admitted::Neither);
        assert_eq!(room.admit("b", "x"), Admitted::Pair);
        assert_eq!(room.admit("b", "y"), Admitted::Name);
    }

    #[test]
    fn a_closed_day_lets_nobody_in_whatever_the_cap() {
        let mut room = Room::new(series(&[("a", "x")]), true, 1_000);
        assert_eq!(room.admit("a", "x"), Admitted::Pair);
        assert_eq!(room.admit("a", "y"), Admitted::Name);
        assert_eq!(room.admit("b", "x"), Admitted::Neither);
    }

    #[test]
    fn a_lowered_cap_turns_nobody_out() {
        let mut room = Room::new(series(&[("a", "x"), ("b", "x")]), false, 1);
        assert_eq!(room.admit("b", "x"), Admitted::Pair);
        assert!(!room.is_closed());
        assert_eq!(room.admit("c", "x"), Admitted::Neither);
        assert!(room.is_closed());
    }
}
