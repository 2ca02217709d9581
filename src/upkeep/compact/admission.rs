//! The cap on (name, channel) pairs a day: which pairs get a series, and which count as overflow.
//!
//! Without a cap, ids sent as names or channels would make a new series for each event, and rollups would grow like the
//! events. Once a day is full it stays closed: a pair that found no room at first must not get a series later, because
//! that series would lack the pair's first events. For the same reason a name is admitted with its first pair or never.
//!
//! Invented pairs must not keep out the pairs that a product really has. So room is kept for pairs that several days
//! before had, and when a day is closed they are admitted at once, with series that have no parts yet. Future days have
//! only a small share for unknown pairs. Invented pairs that still got a series lose it after the day: the keeper then
//! rebuilds the day, which chooses the pairs with most events.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::rollup::SeriesKey;

/// Which of the three series of [`series_of`](crate::rollup::series_of) count an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// All three: the pair's, the name's and the one of all events.
    Pair,
    /// The name's and the one of all events.
    Name,
    /// Only the one of all events.
    Neither,
}

impl Admitted {
    /// Index of the first series that counts the event; those after it count it too.
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
    /// Pairs known from the days before that this day has not seen yet: room is kept for them.
    expected: BTreeSet<(String, String)>,
    /// How many pairs unknown to the days before may still be admitted.
    unknown_left: usize,
    is_closed: bool,
}

impl Room {
    /// The room as the store knows it: `series` are those that the day has, `is_closed` says that a pair was refused
    /// before.
    pub fn new(series: Vec<SeriesKey>, is_closed: bool, pairs_max: usize) -> Self {
        let mut room = Self {
            channels: HashMap::new(),
            pairs: 0,
            pairs_max,
            expected: BTreeSet::new(),
            unknown_left: usize::MAX,
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

    /// Keeps room for pairs of the days before, and admits no more than `unknown_max` others.
    pub fn expect(&mut self, known: Vec<SeriesKey>, unknown_max: usize) {
        let mut known_in = 0;
        for key in known {
            if let (Some(event_name), Some(channel)) = (key.event_name, key.channel) {
                if self.has(&event_name, &channel) {
                    known_in += 1;
                } else {
                    self.expected.insert((event_name, channel));
                }
            }
        }
        let unknown_in = self.pairs.saturating_sub(known_in);
        self.unknown_left = unknown_max.saturating_sub(unknown_in);
    }

    fn has(&self, event_name: &str, channel: &str) -> bool {
        let channels = self.channels.get(event_name);
        channels.is_some_and(|channels| channels.contains(channel))
    }

    /// Admits a pair if it is admitted already or there is room; closes the day if there is none.
    pub fn admit(&mut self, event_name: &str, channel: &str) -> Admitted {
        if self.has(event_name, channel) {
            return Admitted::Pair;
        }
        if !self.is_closed && self.has_room_for(event_name, channel) {
            self.let_in(event_name.to_owned(), channel.to_owned());
            return Admitted::Pair;
        }
        self.is_closed = true;
        if self.channels.contains_key(event_name) {
            Admitted::Name
        } else {
            Admitted::Neither
        }
    }

    /// Whether there is room for the pair; uses up the room that was kept for it, or one of the unknown pairs' places.
    fn has_room_for(&mut self, event_name: &str, channel: &str) -> bool {
        let key = (event_name.to_owned(), channel.to_owned());
        if self.expected.remove(&key) {
            return self.pairs < self.pairs_max;
        }
        let fits = self.pairs + self.expected.len() < self.pairs_max && self.unknown_left > 0;
        self.unknown_left -= usize::from(fits);
        fits
    }

    fn let_in(&mut self, event_name: String, channel: String) {
        let channels = self.channels.entry(event_name).or_default();
        self.pairs += usize::from(channels.insert(channel));
    }

    /// Admits the expected pairs, as far as there is room, when the day is closed. Returns them: the day must have
    /// their series at once.
    pub fn let_expected_in(&mut self) -> Vec<(String, String)> {
        let room = self.pairs_max.saturating_sub(self.pairs);
        let expected = std::mem::take(&mut self.expected);
        let some: Vec<_> = expected.into_iter().take(room).collect();
        for (event_name, channel) in &some {
            self.let_in(event_name.clone(), channel.clone());
        }
        some
    }

    /// Number of admitted pairs.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Whether a pair was refused, now or before.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollup::series_of;

    /// The series that a store has for a day with these pairs.
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
    fn invented_pairs_do_not_take_the_room_of_those_of_the_days_before() {
        let mut room = Room::new(series(&[("a", "x")]), false, 4);
        room.expect(series(&[("a", "x"), ("a", "y"), ("b", "x")]), usize::MAX);
        assert_eq!(room.admit("invented", "1"), Admitted::Pair);
        assert_eq!(room.admit("invented", "2"), Admitted::Name);
        assert!(room.is_closed());
        let marked = room.let_expected_in();
        let pair = |name: &str, channel: &str| (name.to_owned(), channel.to_owned());
        assert_eq!(marked, [pair("a", "y"), pair("b", "x")]);
        assert_eq!(room.admit("b", "x"), Admitted::Pair);
        assert_eq!(room.admit("b", "y"), Admitted::Name);
    }

    #[test]
    fn a_day_to_come_has_a_share_for_pairs_that_nobody_has_seen() {
        let mut room = Room::new(series(&[("a", "x"), ("new", "1")]), false, 100);
        room.expect(series(&[("a", "x"), ("a", "y")]), 2);
        assert_eq!(room.admit("new", "2"), Admitted::Pair);
        assert_eq!(room.admit("a", "y"), Admitted::Pair);
        assert!(!room.is_closed());
        assert_eq!(room.admit("other", "3"), Admitted::Neither);
        assert!(room.is_closed());
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
