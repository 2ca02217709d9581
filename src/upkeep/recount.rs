//! A recount of a day's events, one by one: what the day's rollups should be.
//!
//! Memory grows with the series and their buckets, never with the events. The bytes of a set of users depend only on
//! its members, so a recount equals, byte for byte, what flushes and compaction get by way of deltas and minutes: a set
//! is a sketch exactly when its bucket has more than [`PART_EXACT_MAX`] users, because no smaller piece of a bucket can
//! have more users than the bucket.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day, Width};
use crate::rollup::{PART_EXACT_MAX, SeriesKey, Tally, UserHash, UserKey, UserUnion};
use crate::store::{RollupStore, StoreError};

/// The tallies of one series, by bucket.
pub type Buckets = BTreeMap<Bucket, Tally>;

/// The names and pairs that have a series, on a day with more pairs than the cap.
#[derive(Debug, Clone, Default)]
pub struct Admitted {
    /// Channels of the pairs, by event name.
    names: HashMap<String, HashSet<String>>,
}

impl Admitted {
    /// Admits the pair or name of a series; the series of all events needs no admission.
    pub fn insert(&mut self, series: &SeriesKey) {
        let Some(event_name) = &series.event_name else {
            return;
        };
        let channels = entry(&mut self.names, event_name);
        channels.extend(series.channel.clone());
    }

    /// Whether a name has a series: it has one as soon as one of its pairs has.
    pub fn has_name(&self, event_name: &str) -> bool {
        self.names.contains_key(event_name)
    }

    /// Whether a pair has a series.
    pub fn has_pair(&self, event_name: &str, channel: &str) -> bool {
        self.names
            .get(event_name)
            .is_some_and(|channels| channels.contains(channel))
    }
}

/// A count under way.
#[derive(Debug)]
pub struct Recount {
    /// Events from this instant on are counted by the minute.
    minutes_from: Timestamp,
    /// The key that the database keeps.
    user_key: UserKey,
    /// `None`: everything has a series.
    admitted: Option<Admitted>,
    names: HashMap<String, NameSums>,
    all: Sums,
    events: u64,
    overflow: u64,
}

/// The result of counting a day's events.
#[derive(Debug)]
pub struct Recounted {
    /// Number of events.
    pub events: u64,
    /// Number of those whose pair has no series.
    pub overflow: u64,
    /// Each series that has events.
    pub series: BTreeMap<SeriesKey, Buckets>,
}

type Sums = HashMap<Bucket, Sum>;

#[derive(Debug, Default)]
struct NameSums {
    all: Sums,
    channels: HashMap<String, Sums>,
}

/// A tally under way.
#[derive(Debug)]
pub struct Sum {
    events: u64,
    users: UserUnion,
}

impl Sum {
    /// An empty sum, which names up to `exact_max` users one by one.
    pub fn new(exact_max: usize) -> Self {
        Self {
            events: 0,
            users: UserUnion::new(exact_max),
        }
    }

    /// Adds a tally.
    pub fn add(&mut self, tally: Tally) {
        self.events += tally.events;
        self.users.add_set(tally.users);
    }

    /// The tally of all that was added.
    pub fn finish(self) -> Tally {
        Tally {
            events: self.events,
            users: self.users.finish(),
        }
    }
}

impl Recount {
    /// A count of nothing yet. Events from `minutes_from` on are counted by the minute, all others by the quarter;
    /// events whose pair has no series count as overflow.
    pub fn new(minutes_from: Timestamp, user_key: UserKey, admitted: Option<Admitted>) -> Self {
        Self {
            user_key,
            minutes_from,
            admitted,
            names: HashMap::new(),
            all: Sums::new(),
            events: 0,
            overflow: 0,
        }
    }

    /// Adds the stored events of a day.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn read(&mut self, store: &mut dyn RollupStore, day: Day) -> Result<(), StoreError> {
        let mut add = |event_name: &str, channel: &str, user_id: &str, timestamp| {
            self.add(event_name, channel, user_id, timestamp);
        };
        store.read_events(day.start()..day.end(), &mut add).await
    }

    /// Counts an event.
    pub fn add(&mut self, event_name: &str, channel: &str, user_id: &str, timestamp: Timestamp) {
        let width = if timestamp >= self.minutes_from {
            Width::Minute
        } else {
            Width::Quarter
        };
        let bucket = Bucket::of(timestamp, width);
        let user = self.user_key.hash(user_id);
        let (has_name, has_pair) = self.admitted.as_ref().map_or((true, true), |admitted| {
            (admitted.has_name(event_name), admitted.has_pair(event_name, channel))
        });
        self.events += 1;
        self.overflow += u64::from(!has_pair);
        count(&mut self.all, bucket, user);
        if has_name {
            let name = entry(&mut self.names, event_name);
            count(&mut name.all, bucket, user);
            if has_pair {
                count(entry(&mut name.channels, channel), bucket, user);
            }
        }
    }

    /// The result. Series without events are left out.
    pub fn finish(self) -> Recounted {
        let mut series = BTreeMap::new();
        let mut insert = |event_name: Option<&str>, channel: Option<String>, sums: Sums| {
            let buckets: Buckets = sums.into_iter().map(|(bucket, sum)| (bucket, sum.finish())).collect();
            if !buckets.is_empty() {
                let event_name = event_name.map(str::to_owned);
                let key = SeriesKey { event_name, channel };
                series.insert(key, buckets);
            }
        };
        insert(None, None, self.all);
        for (event_name, name) in self.names {
            insert(Some(&event_name), None, name.all);
            for (channel, sums) in name.channels {
                insert(Some(&event_name), Some(channel), sums);
            }
        }
        Recounted {
            events: self.events,
            overflow: self.overflow,
            series,
        }
    }
}

/// Sums up parts of a series, naming up to `exact_max` users one by one.
pub fn sum_up<'a>(tallies: impl IntoIterator<Item = &'a Tally>, exact_max: usize) -> Tally {
    let mut sum = Sum::new(exact_max);
    for tally in tallies {
        sum.add(tally.clone());
    }
    sum.finish()
}

fn count(sums: &mut Sums, bucket: Bucket, user: UserHash) {
    let sum = sums.entry(bucket).or_insert_with(|| Sum::new(PART_EXACT_MAX));
    sum.events += 1;
    sum.users.add(user);
}

/// The entry of `key`; unlike the map's own `entry`, it copies the key only when it is new.
fn entry<'m, V: Default>(map: &'m mut HashMap<String, V>, key: &str) -> &'m mut V {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), V::default());
    }
    map.get_mut(key).expect("inserted above")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::bucket::QUARTER_MICROS;

    const DAY: i64 = 1_769_904_000_000_000;

    fn key(event_name: Option<&str>, channel: Option<&str>) -> SeriesKey {
        SeriesKey {
            event_name: event_name.map(str::to_owned),
            channel: channel.map(str::to_owned),
        }
    }

    /// Series, start, minutes, events and users of everything counted.
    fn told(recounted: &Recounted) -> Vec<(SeriesKey, i64, i16, u64, u64)> {
        let mut told = Vec::new();
        for (series, buckets) in &recounted.series {
            for (bucket, tally) in buckets {
                told.push((
                    series.clone(),
                    (bucket.start.as_micros() - DAY) / 60_000_000,
                    bucket.width.minutes(),
                    tally.events,
                    tally.users.count().count,
                ));
            }
        }
        told
    }

    fn fed(minutes_from: i64, admitted: Option<Admitted>) -> Recounted {
        let mut recount = Recount::new(Timestamp::from_micros(minutes_from), UserKey::PUBLIC, admitted);
        for (name, channel, user, after) in [
            ("view", "web", "ann", 0),
            ("view", "web", "ann", QUARTER_MICROS - 1),
            ("view", "web", "bob", QUARTER_MICROS),
            ("view", "app", "ann", 5),
            ("click", "web", "cid", 0),
        ] {
            recount.add(name, channel, user, Timestamp::from_micros(DAY + after));
        }
        recount.finish()
    }

    #[test]
    fn an_event_counts_in_its_pair_its_name_and_everything() {
        let recounted = fed(i64::MAX, None);
        let (view, click) = (Some("view"), Some("click"));
        let expected = [
            (key(None, None), 0, 15, 4, 2),
            (key(None, None), 15, 15, 1, 1),
            (key(click, None), 0, 15, 1, 1),
            (key(click, Some("web")), 0, 15, 1, 1),
            (key(view, None), 0, 15, 3, 1),
            (key(view, None), 15, 15, 1, 1),
            (key(view, Some("app")), 0, 15, 1, 1),
            (key(view, Some("web")), 0, 15, 2, 1),
            (key(view, Some("web")), 15, 15, 1, 1),
        ];
        assert_eq!(told(&recounted), expected);
        assert_eq!((recounted.events, recounted.overflow), (5, 0));
    }

    #[test]
    fn fresh_events_are_counted_by_the_minute() {
        let recounted = fed(DAY + QUARTER_MICROS - 1, None);
        let all: Vec<_> = recounted.series[&key(None, None)]
            .iter()
            .map(|(bucket, tally)| {
                let start = (bucket.start.as_micros() - DAY) / 60_000_000;
                (start, bucket.width.minutes(), tally.events)
            })
            .collect();
        assert_eq!(all, [(0, 15, 3), (14, 1, 1), (15, 1, 1)]);
    }

    #[test]
    fn pairs_that_are_not_admitted_overflow_and_a_name_counts_all_of_its_pairs() {
        let mut one = Admitted::default();
        one.insert(&key(Some("view"), Some("web")));
        assert!(one.has_pair("view", "web") && !one.has_pair("view", "app"));
        assert!(one.has_name("view") && !one.has_name("click"));

        let recounted = fed(i64::MAX, Some(one));
        assert_eq!((recounted.events, recounted.overflow), (5, 2));
        let view = Some("view");
        let expected = [
            (key(None, None), 0, 15, 4, 2),
            (key(None, None), 15, 15, 1, 1),
            (key(view, None), 0, 15, 3, 1),
            (key(view, None), 15, 15, 1, 1),
            (key(view, Some("web")), 0, 15, 2, 1),
            (key(view, Some("web")), 15, 15, 1, 1),
        ];
        assert_eq!(told(&recounted), expected);
    }
}
