//! What the tables of the model hold; and the flush and the compaction in their simplest forms, to fill them.

use std::collections::{BTreeMap, BTreeSet};

use super::Row;
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::fold::Fold;
use crate::rollup::{DAY_EXACT_MAX, Delta, PART_EXACT_MAX, SeriesId, SeriesKey, Tally, UserKey, series_of};
use crate::upkeep::recount::Sum;

/// What the tables hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) events: Vec<Row>,
    /// By a growing number.
    pub(crate) deltas: BTreeMap<u64, Delta>,
    /// The number of the next delta.
    pub(super) next_delta: u64,
    /// The series' numbers are their places here.
    pub(crate) series: Vec<SeriesKey>,
    pub(crate) parts: BTreeMap<(SeriesId, Bucket), Tally>,
    /// Sums by series and day; `None`: the sum is stale.
    pub(crate) days: BTreeMap<(SeriesId, Day), Option<Tally>>,
    pub(crate) overflow: BTreeMap<Day, u64>,
    pub(crate) rebuild_needed: bool,
    pub(crate) build_from: Option<Day>,
}

impl Tables {
    /// What a series counts.
    pub(crate) fn key(&self, series: SeriesId) -> &SeriesKey {
        &self.series[usize::try_from(series).unwrap()]
    }

    /// A flush at an instant.
    pub(crate) fn flush(&mut self, events: &[Row], now: Timestamp) {
        let mut fold = Fold::new(now, UserKey::PUBLIC);
        for (name, channel, user, timestamp) in events {
            fold.add_one(name, channel, user, *timestamp);
        }
        for delta in fold.finish() {
            let delta = Delta {
                event_name: delta.event_name.to_owned(),
                channel: delta.channel.to_owned(),
                bucket: delta.bucket,
                tally: Tally {
                    events: delta.events,
                    users: delta.users,
                },
            };
            self.deltas.insert(self.next_delta, delta);
            self.next_delta += 1;
        }
        self.events.extend_from_slice(events);
    }

    /// Merges all deltas into parts, as long as there is room for their pairs, each in its own width.
    pub(crate) fn compact(&mut self, pairs_max: usize) {
        for (_, delta) in std::mem::take(&mut self.deltas) {
            let (day, [pair, name, all]) = (delta.bucket.day(), series_of(&delta.event_name, &delta.channel));
            let there = self.series_with_parts(day);
            let pairs = there.iter().filter(|key| key.channel.is_some()).count();
            let is_full = pairs >= pairs_max || self.overflow.contains_key(&day);
            let has_room = there.contains(&pair) || !is_full;
            if has_room {
                self.merge(pair, delta.bucket, &delta.tally);
            } else {
                *self.overflow.entry(day).or_default() += delta.tally.events;
            }
            if has_room || there.contains(&name) {
                self.merge(name, delta.bucket, &delta.tally);
            }
            self.merge(all, delta.bucket, &delta.tally);
        }
    }

    /// Merges the minutes before an instant into quarters.
    pub(crate) fn merge_minutes(&mut self, before: Timestamp) {
        for ((series, bucket), tally) in std::mem::take(&mut self.parts) {
            let bucket = if bucket.start < before {
                bucket.quarter()
            } else {
                bucket
            };
            self.merge(self.key(series).clone(), bucket, &tally);
        }
    }

    /// Sums up every stale day.
    pub(crate) fn sum_up(&mut self) {
        for (&(series, day), sum) in self.days.iter_mut().filter(|(_, sum)| sum.is_none()) {
            let mut total = Sum::new(DAY_EXACT_MAX);
            for ((of, bucket), tally) in &self.parts {
                if *of == series && bucket.day() == day {
                    total.add(tally.clone());
                }
            }
            *sum = Some(total.finish());
        }
    }

    fn series_with_parts(&self, day: Day) -> BTreeSet<SeriesKey> {
        self.parts
            .keys()
            .filter(|(_, bucket)| bucket.day() == day)
            .map(|(series, _)| self.key(*series).clone())
            .collect()
    }

    fn merge(&mut self, series: SeriesKey, bucket: Bucket, tally: &Tally) {
        let series = self.series_id(&series);
        let mut sum = Sum::new(PART_EXACT_MAX);
        if let Some(part) = self.parts.remove(&(series, bucket)) {
            sum.add(part);
        }
        sum.add(tally.clone());
        self.parts.insert((series, bucket), sum.finish());
        self.days.insert((series, bucket.day()), None);
    }

    pub(crate) fn series_id(&mut self, key: &SeriesKey) -> SeriesId {
        let index = self.series.iter().position(|series| series == key);
        let index = index.unwrap_or_else(|| {
            self.series.push(key.clone());
            self.series.len() - 1
        });
        index as SeriesId
    }
}
