//! Merging additions into existing parts: pure functions.

use std::collections::HashMap;

use crate::event::bucket::Bucket;
use crate::rollup::{PART_EXACT_MAX, Part, SeriesId, Tally, UserSet, UserUnion};

/// The place of a part, which identifies it.
pub(super) type RollupPlace = (SeriesId, Bucket);

/// A tally, by its index, to be added to the part at a place. One tally may go to several parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Addition {
    pub(super) place: RollupPlace,
    pub(super) tally: usize,
}

/// Sorts additions by place and returns those of each place.
pub(super) fn by_place(additions: &mut [Addition]) -> Vec<&[Addition]> {
    additions.sort_unstable();
    additions.chunk_by(|one, next| one.place == next.place).collect()
}

/// The existing parts with the additions merged in, in order of their places.
///
/// One union is open at a time: each may hold a matrix of 64 KiB.
pub(super) fn merged(existing: Vec<Part>, added: &[&[Addition]], tallies: &[Tally]) -> Vec<Part> {
    let mut existing: HashMap<RollupPlace, Tally> = existing
        .into_iter()
        .map(|part| ((part.series, part.bucket), part.tally))
        .collect();
    let part = |additions: &&[Addition]| {
        let place = additions[0].place;
        let mut sum = Sum::new(PART_EXACT_MAX);
        if let Some(tally) = existing.remove(&place) {
            sum.add(tally.events, tally.users);
        }
        for addition in *additions {
            let tally = &tallies[addition.tally];
            sum.add(tally.events, tally.users.clone());
        }
        let (series, bucket) = place;
        Part {
            series,
            bucket,
            tally: sum.finish(),
        }
    };
    added.iter().map(part).collect()
}

/// The sum of parts over a longer time; it names up to `exact_max` users one by one.
pub(super) fn total(parts: Vec<Part>, exact_max: usize) -> Tally {
    let mut sum = Sum::new(exact_max);
    for part in parts {
        sum.add(part.tally.events, part.tally.users);
    }
    sum.finish()
}

struct Sum {
    events: u64,
    users: UserUnion,
}

impl Sum {
    fn new(exact_max: usize) -> Self {
        Self {
            events: 0,
            users: UserUnion::new(exact_max),
        }
    }

    fn add(&mut self, events: u64, users: UserSet) {
        self.events += events;
        self.users.add_set(users);
    }

    fn finish(self) -> Tally {
        Tally {
            events: self.events,
            users: self.users.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;
    use crate::event::bucket::{MINUTE_MICROS, Width};
    use crate::rollup::UserKey;

    fn users(range: std::ops::Range<u64>, exact_max: usize) -> UserSet {
        let mut union = UserUnion::new(exact_max);
        range.for_each(|n| union.add(UserKey::PUBLIC.hash(&n.to_string())));
        union.finish()
    }

    fn tally(events: u64, users: UserSet) -> Tally {
        Tally { events, users }
    }

    fn place(series: SeriesId, minute: i64) -> RollupPlace {
        let start = Timestamp::from_micros(minute * MINUTE_MICROS);
        (series, Bucket::of(start, Width::Minute))
    }

    fn seen(parts: &[Part]) -> Vec<(RollupPlace, u64, Vec<u8>)> {
        let seen = |part: &Part| ((part.series, part.bucket), part.tally.events, part.tally.users.encode());
        parts.iter().map(seen).collect()
    }

    #[test]
    fn parts_take_in_what_is_added_at_their_place() {
        let tallies = [
            tally(2, users(0..2, PART_EXACT_MAX)),
            tally(70, users(1..71, PART_EXACT_MAX)),
            tally(60, users(60..120, PART_EXACT_MAX)),
        ];
        let addition = |place, tally| Addition { place, tally };
        let mut additions = [
            addition(place(2, 5), 2),
            addition(place(1, 6), 0),
            addition(place(2, 5), 1),
            addition(place(1, 5), 0),
        ];
        let existing = vec![
            Part {
                series: 1,
                bucket: place(1, 6).1,
                tally: tally(10, users(1..6, PART_EXACT_MAX)),
            },
            Part {
                series: 2,
                bucket: place(2, 5).1,
                tally: tally(1, users(500..501, PART_EXACT_MAX)),
            },
        ];
        let added = by_place(&mut additions);
        let mut all = UserUnion::new(PART_EXACT_MAX);
        all.add_set(users(1..120, PART_EXACT_MAX));
        all.add_set(users(500..501, PART_EXACT_MAX));
        let expected = [
            (place(1, 5), 2, users(0..2, PART_EXACT_MAX).encode()),
            (place(1, 6), 12, users(0..6, PART_EXACT_MAX).encode()),
            (place(2, 5), 131, all.finish().encode()),
        ];
        assert_eq!(seen(&merged(existing, &added, &tallies)), expected);
    }

    #[test]
    fn a_total_is_exact_up_to_its_own_limit() {
        let part = |minute, range: std::ops::Range<u64>| Part {
            series: 1,
            bucket: place(1, minute).1,
            tally: tally(range.end - range.start, users(range, PART_EXACT_MAX)),
        };
        let sum = total(vec![part(0, 0..80), part(1, 50..150)], 600);
        assert_eq!((sum.events, sum.users.encode()), (180, users(0..150, 600).encode()));
        assert_eq!(total(Vec::new(), 600).events, 0);
    }
}
