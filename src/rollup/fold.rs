//! A batch folded into deltas: what its events add to the rollups.

use std::collections::HashMap;

use super::{Bucket, PART_EXACT_MAX, UserHash, UserSet, UserUnion, Width};
use crate::event::{EventRef, Timestamp};

/// How long minutes are worth keeping apart: dashboards of the last hour, with an hour to spare. Older events go to quarters at once.
pub const MINUTES_KEPT_MICROS: i64 = 2 * 3_600_000_000;

/// Deltas in the making. Names are borrowed from the batch.
#[derive(Debug)]
pub struct Fold<'a> {
    /// From here on events go to minutes.
    minutes_from: Timestamp,
    tallies: HashMap<Key<'a>, Sum>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key<'a> {
    event_name: &'a str,
    channel: &'a str,
    bucket: Bucket,
}

#[derive(Debug)]
struct Sum {
    events: u64,
    users: UserUnion,
}

/// A delta whose names are still in the batch.
#[derive(Debug)]
pub struct DeltaRef<'a> {
    /// Name of the events.
    pub event_name: &'a str,
    /// Channel of the events.
    pub channel: &'a str,
    /// When they happened.
    pub bucket: Bucket,
    /// How many they are.
    pub events: u64,
    /// Whose they are.
    pub users: UserSet,
}

impl<'a> Fold<'a> {
    /// Nothing folded yet. Which events are fresh enough for minutes is judged at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            minutes_from: Timestamp::from_micros(now.as_micros() - MINUTES_KEPT_MICROS),
            tallies: HashMap::new(),
        }
    }

    /// Adds an event that is stored in the same transaction as the deltas will be.
    pub fn add(&mut self, event: &EventRef<'a>) {
        self.add_one(
            event.event_name,
            event.channel,
            event.user_id,
            event.timestamp,
        );
    }

    /// The same, from what of an event matters.
    pub fn add_one(
        &mut self,
        event_name: &'a str,
        channel: &'a str,
        user_id: &str,
        timestamp: Timestamp,
    ) {
        let width = if timestamp >= self.minutes_from {
            Width::Minute
        } else {
            Width::Quarter
        };
        let key = Key {
            event_name,
            channel,
            bucket: Bucket::of(timestamp, width),
        };
        let sum = self.tallies.entry(key).or_insert_with(|| Sum {
            events: 0,
            users: UserUnion::new(PART_EXACT_MAX),
        });
        sum.events += 1;
        sum.users.add(UserHash::of(user_id));
    }

    /// The deltas, in order of name, channel and time.
    pub fn finish(self) -> Vec<DeltaRef<'a>> {
        let mut tallies: Vec<_> = self.tallies.into_iter().collect();
        tallies.sort_unstable_by_key(|(key, _)| *key);
        let delta = |(key, sum): (Key<'a>, Sum)| DeltaRef {
            event_name: key.event_name,
            channel: key.channel,
            bucket: key.bucket,
            events: sum.events,
            users: sum.users.finish(),
        };
        tallies.into_iter().map(delta).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_769_938_200_000_000;

    #[test]
    fn events_fall_into_their_name_channel_and_bucket() {
        let mut fold = Fold::new(Timestamp::from_micros(NOW));
        let old = NOW - MINUTES_KEPT_MICROS - 1;
        for (name, channel, user, micros) in [
            ("view", "web", "ann", NOW),
            ("view", "web", "ann", NOW + 1),
            ("view", "web", "bob", NOW + 59_999_999),
            ("view", "web", "bob", NOW + 60_000_000),
            ("view", "app", "ann", NOW),
            ("click", "web", "ann", old),
            ("click", "web", "bob", old - 1),
        ] {
            fold.add_one(name, channel, user, Timestamp::from_micros(micros));
        }
        let deltas: Vec<_> = fold
            .finish()
            .into_iter()
            .map(|delta| {
                let (start, minutes) =
                    (delta.bucket.start.as_micros(), delta.bucket.width.minutes());
                (
                    delta.event_name,
                    delta.channel,
                    start,
                    minutes,
                    delta.events,
                    delta.users.count().count,
                )
            })
            .collect();
        let quarter = NOW - MINUTES_KEPT_MICROS - 900_000_000;
        let expected = [
            ("click", "web", quarter, 15, 2, 2),
            ("view", "app", NOW, 1, 1, 1),
            ("view", "web", NOW, 1, 3, 2),
            ("view", "web", NOW + 60_000_000, 1, 1, 1),
        ];
        assert_eq!(deltas, expected);
    }
}
