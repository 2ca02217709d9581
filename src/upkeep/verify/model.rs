//! The rollup tables in memory, with transactions that see one snapshot while others commit; and the flush and the
//! compaction in their simplest forms, to fill them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::fold::Fold;
use crate::rollup::users::NewKey;
use crate::rollup::{DAY_EXACT_MAX, Delta, PART_EXACT_MAX, Part, SeriesId, SeriesKey, Tally, UserKey, series_of};
use crate::store::{RollupStore, StoreError};
use crate::upkeep::recount::Sum;

/// Name, channel, user, time in microseconds.
pub(crate) type Event = (&'static str, &'static str, String, i64);

/// What a database holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) events: Vec<Event>,
    pub(crate) deltas: BTreeMap<u64, Delta>,
    deltas_made: u64,
    pub(crate) series: Vec<SeriesKey>,
    pub(crate) parts: BTreeMap<(SeriesId, Bucket), Tally>,
    /// `None`: stale.
    pub(crate) days: BTreeMap<(SeriesId, Day), Option<Tally>>,
    pub(crate) overflow: BTreeMap<Day, u64>,
    pub(crate) rebuild_needed: bool,
    pub(crate) build_from: Option<Day>,
}

impl Tables {
    /// A flush at an instant.
    pub(crate) fn flush(&mut self, events: &[Event], now: i64) {
        let mut fold = Fold::new(Timestamp::from_micros(now), UserKey::PUBLIC);
        for (name, channel, user, micros) in events {
            fold.add_one(name, channel, user, Timestamp::from_micros(*micros));
        }
        for delta in fold.finish() {
            self.deltas_made += 1;
            let delta = Delta {
                event_name: delta.event_name.to_owned(),
                channel: delta.channel.to_owned(),
                bucket: delta.bucket,
                tally: Tally {
                    events: delta.events,
                    users: delta.users,
                },
            };
            self.deltas.insert(self.deltas_made, delta);
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
    pub(crate) fn merge_minutes(&mut self, before: i64) {
        for ((series, bucket), tally) in std::mem::take(&mut self.parts) {
            let bucket = if bucket.start.as_micros() < before {
                bucket.quarter()
            } else {
                bucket
            };
            self.merge(self.series[series as usize].clone(), bucket, &tally);
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
            .map(|(series, _)| self.series[*series as usize].clone())
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

    fn delta_ids(&self, day: Day) -> Vec<u64> {
        self.deltas
            .iter()
            .filter(|(_, delta)| delta.bucket.day() == day)
            .map(|(id, _)| *id)
            .collect()
    }
}

type Change = Box<dyn Fn(&mut Tables) + Send>;
type Interruption = Box<dyn FnOnce(&mut Tables) + Send>;

/// A connection. A writing transaction works on its snapshot and repeats its changes on the tables when it commits.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) tables: Arc<Mutex<Tables>>,
    snapshot: Option<Tables>,
    is_writing: bool,
    changes: Vec<Change>,
    /// What others commit before the next commit of a writing transaction.
    pub(crate) before_commit: Option<Interruption>,
    /// Fail instead of the commit with this number, counted from 1.
    pub(crate) fail_commit: Option<usize>,
    /// How often events were read.
    pub(crate) reads: HashMap<Day, usize>,
}

impl Model {
    pub(crate) fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap()
    }

    fn seen(&mut self) -> &mut Tables {
        self.snapshot.as_mut().expect("a transaction is open")
    }

    fn change(&mut self, change: impl Fn(&mut Tables) + Send + 'static) {
        assert!(self.is_writing, "a reading transaction writes");
        change(self.seen());
        self.changes.push(Box::new(change));
    }
}

#[async_trait]
impl RollupStore for Model {
    async fn begin(&mut self, _wait: bool) -> Result<bool, StoreError> {
        assert!(self.snapshot.is_none(), "a transaction is open already");
        let snapshot = self.tables().clone();
        self.snapshot = Some(snapshot);
        self.is_writing = true;
        Ok(true)
    }

    async fn begin_reading(&mut self) -> Result<(), StoreError> {
        self.begin(false).await?;
        self.is_writing = false;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        assert!(self.snapshot.take().is_some(), "no transaction is open");
        let changes = std::mem::take(&mut self.changes);
        if self.is_writing {
            if let Some(fail) = &mut self.fail_commit {
                *fail -= 1;
                if *fail == 0 {
                    return Err(StoreError::Unavailable("pulled the plug".to_owned()));
                }
            }
            let mut tables = self.tables.lock().unwrap();
            if let Some(interrupt) = self.before_commit.take() {
                interrupt(&mut tables);
            }
            for change in changes {
                change(&mut tables);
            }
        }
        Ok(())
    }

    async fn take_deltas(&mut self, _rows_max: usize) -> Result<Vec<Delta>, StoreError> {
        unreachable!("compaction's")
    }

    async fn take_minutes(&mut self, _before: Timestamp, _rows_max: usize) -> Result<Vec<Part>, StoreError> {
        unreachable!("compaction's")
    }

    async fn series_ids(&mut self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError> {
        let ids = keys.iter().map(|key| self.seen().series_id(key)).collect();
        let keys = keys.to_vec();
        self.change(move |tables| {
            for key in &keys {
                tables.series_id(key);
            }
        });
        Ok(ids)
    }

    async fn parts_at(&mut self, _keys: &[(SeriesId, Bucket)]) -> Result<Vec<Part>, StoreError> {
        unreachable!("compaction's")
    }

    async fn put_parts(&mut self, parts: &[Part]) -> Result<(), StoreError> {
        let parts = parts.to_vec();
        self.change(move |tables| {
            for part in &parts {
                let key = (part.series, part.bucket);
                tables.parts.insert(key, part.tally.clone());
            }
        });
        Ok(())
    }

    async fn mark_stale(&mut self, days: &[(SeriesId, Day)]) -> Result<(), StoreError> {
        let days = days.to_vec();
        self.change(move |tables| {
            tables.days.extend(days.iter().map(|day| (*day, None)));
        });
        Ok(())
    }

    async fn stale_days(&mut self, _before: Day, _rows_max: usize) -> Result<Vec<(SeriesId, Day)>, StoreError> {
        unreachable!("compaction's")
    }

    async fn parts_of_day(&mut self, _series: SeriesId, _day: Day) -> Result<Vec<Part>, StoreError> {
        unreachable!("compaction's")
    }

    async fn put_days(&mut self, days: &[(SeriesId, Day, Tally)]) -> Result<(), StoreError> {
        let days = days.to_vec();
        self.change(move |tables| {
            for (series, day, tally) in &days {
                tables.days.insert((*series, *day), Some(tally.clone()));
            }
        });
        Ok(())
    }

    async fn series_on(&mut self, _day: Day) -> Result<Vec<SeriesKey>, StoreError> {
        unreachable!("compaction's")
    }

    async fn overflow_on(&mut self, day: Day) -> Result<Option<u64>, StoreError> {
        Ok(self.seen().overflow.get(&day).copied())
    }

    async fn add_overflow(&mut self, day: Day, events: u64) -> Result<(), StoreError> {
        self.change(move |tables| *tables.overflow.entry(day).or_default() += events);
        Ok(())
    }

    async fn days_stored(&mut self) -> Result<Option<(Day, Day)>, StoreError> {
        let seen = self.seen();
        let mut days: BTreeSet<Day> = seen
            .events
            .iter()
            .map(|(.., micros)| Day::of(Timestamp::from_micros(*micros)))
            .collect();
        days.extend(seen.parts.keys().map(|(_, bucket)| bucket.day()));
        days.extend(seen.deltas.values().map(|delta| delta.bucket.day()));
        days.extend(seen.days.keys().map(|(_, day)| *day));
        Ok(days.first().copied().zip(days.last().copied()))
    }

    async fn days_kept(&mut self) -> Result<Vec<Day>, StoreError> {
        let seen = self.seen();
        let mut days: BTreeSet<Day> = seen.parts.keys().map(|(_, bucket)| bucket.day()).collect();
        days.extend(seen.deltas.values().map(|delta| delta.bucket.day()));
        days.extend(seen.days.keys().map(|(_, day)| *day));
        days.extend(seen.overflow.keys());
        Ok(days.into_iter().collect())
    }

    async fn has_events(&mut self, range: Range<Timestamp>) -> Result<bool, StoreError> {
        let mut events = self.seen().events.iter();
        Ok(events.any(|(.., micros)| range.contains(&Timestamp::from_micros(*micros))))
    }

    async fn read_events(
        &mut self,
        range: Range<Timestamp>,
        each: &mut (dyn for<'e> FnMut(&'e str, &'e str, &'e str, Timestamp) + Send),
    ) -> Result<(), StoreError> {
        *self.reads.entry(Day::of(range.start)).or_default() += 1;
        for (name, channel, user, micros) in &self.seen().events {
            let timestamp = Timestamp::from_micros(*micros);
            if range.contains(&timestamp) {
                each(name, channel, user, timestamp);
            }
        }
        Ok(())
    }

    async fn pairs_on(&mut self, day: Day, pairs_max: usize) -> Result<Vec<SeriesKey>, StoreError> {
        let mut pairs: BTreeMap<SeriesKey, u64> = BTreeMap::new();
        for (name, channel, _, micros) in &self.seen().events {
            if Day::of(Timestamp::from_micros(*micros)) == day {
                let [pair, ..] = series_of(name, channel);
                *pairs.entry(pair).or_default() += 1;
            }
        }
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        // Stable, so ties stay in the order of their names.
        pairs.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
        pairs.truncate(pairs_max);
        Ok(pairs.into_iter().map(|(pair, _)| pair).collect())
    }

    async fn parts_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, Part)>, StoreError> {
        let seen = self.seen();
        let parts = seen.parts.iter();
        let parts = parts.filter(|((_, bucket), _)| bucket.day() == day);
        Ok(parts
            .map(|(&(series, bucket), tally)| {
                let part = Part {
                    series,
                    bucket,
                    tally: tally.clone(),
                };
                (seen.series[series as usize].clone(), part)
            })
            .collect())
    }

    async fn sums_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, SeriesId, Tally)>, StoreError> {
        let seen = self.seen();
        let days = seen.days.iter().filter(|((_, of), _)| *of == day);
        let fresh = days.filter_map(|((series, _), sum)| Some((*series, sum.clone()?)));
        let named = |(id, sum): (SeriesId, Tally)| (seen.series[id as usize].clone(), id, sum);
        Ok(fresh.map(named).collect())
    }

    async fn stale_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError> {
        let seen = self.seen();
        let days = seen.days.iter();
        let stale = days.filter(|((_, of), sum)| *of == day && sum.is_none());
        let named = |((series, _), _): (&(SeriesId, Day), _)| seen.series[*series as usize].clone();
        Ok(stale.map(named).collect())
    }

    async fn deltas_on(&mut self, day: Day) -> Result<Vec<Delta>, StoreError> {
        let ids = self.seen().delta_ids(day);
        Ok(ids.iter().map(|id| self.seen().deltas[id].clone()).collect())
    }

    async fn clear_day(&mut self, day: Day) -> Result<(), StoreError> {
        let seen = self.seen().delta_ids(day);
        self.change(move |tables| {
            tables.deltas.retain(|id, _| !seen.contains(id));
            tables.parts.retain(|(_, bucket), _| bucket.day() != day);
            tables.days.retain(|(_, of), _| *of != day);
            tables.overflow.remove(&day);
        });
        Ok(())
    }

    async fn unsettled_day(&mut self, _: Day) -> Result<Option<Day>, StoreError> {
        Ok(None)
    }

    async fn settle(&mut self, _: Day) -> Result<(), StoreError> {
        Ok(())
    }

    async fn user_key(&mut self) -> Result<UserKey, StoreError> {
        Ok(UserKey::PUBLIC)
    }

    async fn make_user_key(&mut self) -> Result<NewKey, StoreError> {
        unreachable!("only the stores have keys")
    }

    async fn rebuild_needed(&mut self) -> Result<bool, StoreError> {
        Ok(self.seen().rebuild_needed)
    }

    async fn build_from(&mut self) -> Result<Option<Day>, StoreError> {
        Ok(self.seen().build_from)
    }

    async fn set_build_from(&mut self, day: Day) -> Result<(), StoreError> {
        self.change(move |tables| tables.build_from = Some(day));
        Ok(())
    }

    async fn set_rebuilt(&mut self) -> Result<(), StoreError> {
        self.change(|tables| tables.rebuild_needed = false);
        Ok(())
    }
}
