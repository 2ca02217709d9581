//! A batch folded into deltas: what its events add to the rollups.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{PART_EXACT_MAX, UserHash, UserKey, UserSet};
use crate::event::bucket::{Bucket, Width};
use crate::event::{EventRef, Timestamp};

/// Age up to which events are counted by the minute: enough for dashboards of the last hour, with an hour to spare.
/// Older events are counted by the quarter of an hour at once.
pub const MINUTES_KEPT_MICROS: i64 = 2 * 3_600_000_000;

/// Deltas that are being built. Names are borrowed from the batch.
#[derive(Debug)]
pub struct Fold<'a> {
    /// Events from this instant on are counted by the minute.
    minutes_from: Timestamp,
    /// The database's key for hashing users.
    user_key: UserKey,
    sums: Vec<Sum<'a>>,
    /// Index in `sums` of each key's sum.
    places: HashMap<Key<'a>, usize, SeededState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key<'a> {
    event_name: &'a str,
    channel: &'a str,
    bucket: Bucket,
}

#[derive(Debug)]
struct Sum<'a> {
    key: Key<'a>,
    /// The user of each event. Repetitions are removed only at the end: sorting once is cheaper than a look-up for each
    /// event.
    users: Vec<UserHash>,
}

/// A delta whose names are still in the batch.
#[derive(Debug)]
pub struct DeltaRef<'a> {
    /// Name of the events.
    pub event_name: &'a str,
    /// Channel of the events.
    pub channel: &'a str,
    /// Bucket of time in which they happened.
    pub bucket: Bucket,
    /// Number of events.
    pub events: u64,
    /// Users of the events.
    pub users: UserSet,
}

impl<'a> Fold<'a> {
    /// An empty fold. The age of events is measured at `now`. The key is that of the database, read in the transaction
    /// that stores the deltas.
    pub fn new(now: Timestamp, user_key: UserKey) -> Self {
        Self {
            user_key,
            minutes_from: Timestamp::from_micros(now.as_micros() - MINUTES_KEPT_MICROS),
            sums: Vec::new(),
            places: HashMap::with_hasher(SeededState(fastrand::u64(..))),
        }
    }

    /// Adds an event that is stored in the same transaction as the deltas will be.
    pub fn add(&mut self, event: &EventRef<'a>) {
        self.add_one(event.event_name, event.channel, event.user_id, event.timestamp);
    }

    /// Adds an event, given the fields that rollups use.
    pub fn add_one(&mut self, event_name: &'a str, channel: &'a str, user_id: &str, timestamp: Timestamp) {
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
        let place = *self.places.entry(key).or_insert_with(|| {
            let users = Vec::new();
            self.sums.push(Sum { key, users });
            self.sums.len() - 1
        });
        self.sums[place].users.push(self.user_key.hash(user_id));
    }

    /// The deltas, in order of name, channel and time.
    pub fn finish(self) -> Vec<DeltaRef<'a>> {
        let mut sums = self.sums;
        sums.sort_unstable_by_key(|sum| sum.key);
        let delta = |Sum { key, users }: Sum<'a>| DeltaRef {
            event_name: key.event_name,
            channel: key.channel,
            bucket: key.bucket,
            events: users.len() as u64,
            users: UserSet::of(users, PART_EXACT_MAX),
        };
        sums.into_iter().map(delta).collect()
    }
}

/// Hashes of keys, with a seed of its own for each fold: a client that chooses names must not be able to choose
/// collisions.
#[derive(Debug)]
struct SeededState(u64);

struct SeededHasher(u64);

impl BuildHasher for SeededState {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0)
    }
}

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// A text's end mark.
    fn write_u8(&mut self, byte: u8) {
        self.write_i64(i64::from(byte));
    }

    /// The width of a bucket.
    fn write_isize(&mut self, number: isize) {
        self.write_i64(number as i64);
    }

    fn write_i64(&mut self, number: i64) {
        self.0 = (self.0.rotate_left(32) ^ number.cast_unsigned()).wrapping_mul(ODD);
    }

    fn finish(&self) -> u64 {
        // The table uses the highest and the lowest bits; the best mixed bits of a product are in its middle.
        self.0 ^ (self.0 >> 29)
    }
}

/// 2^64 divided by the golden ratio, which spreads neighbours far apart (D. Knuth, "The Art of Computer Programming" 3,
/// 6.4).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_769_938_200_000_000;

    #[test]
    fn events_fall_into_their_name_channel_and_bucket() {
        let mut fold = Fold::new(Timestamp::from_micros(NOW), UserKey::PUBLIC);
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
                let (start, minutes) = (delta.bucket.start.as_micros(), delta.bucket.width.minutes());
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
