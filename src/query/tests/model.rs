//! A store in memory: events, and rollups made from them in any state that flushing and compaction could leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::event::Timestamp;
use crate::event::bucket::DAY_MICROS;
use crate::event::bucket::{Bucket, Day, Width};
use crate::query::memory::{Holding, OutOfMemory, QueryMemory};
use crate::query::snapshot::{
    DayRow, EachUser, EventFilter, Names, RollupRow, RollupState, SeriesFilter, Snapshot, UserCount,
};
use crate::rollup::{DAY_EXACT_MAX, PART_EXACT_MAX, SeriesKey, UserHash, UserKey, UserSet, UserUnion, series_of};

/// Numbers that look random and are the same in every run (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: i64) -> i64 {
        (self.next() % end as u64) as i64
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as i64) as usize]
    }
}

#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) event_name: String,
    pub(super) channel: String,
    pub(super) campaign_id: Option<String>,
    pub(super) user_id: String,
    pub(super) micros: i64,
}

/// Events of a series in a bucket.
type Parts = BTreeMap<(SeriesKey, Bucket), (u64, Vec<UserHash>)>;

pub(super) struct Model {
    pub(super) events: Vec<Event>,
    /// Rows of the compacted series.
    parts: Vec<RollupRow>,
    deltas: Vec<RollupRow>,
    days: Vec<DayRow>,
    overflowed: BTreeSet<Day>,
    pub(super) rebuild_needed: bool,
    /// How often the summing-up paused.
    pub(super) breaths: usize,
    /// What a question may hold.
    pub(super) memory: Holding,
    calls: Calls,
}

/// What was asked of the model.
#[derive(Default)]
struct Calls {
    days_used: usize,
    parts_ranges: usize,
    counted: Vec<Range<i64>>,
}

impl Model {
    /// A model with everything compacted into quarters and summed up.
    pub(super) fn compacted(events: Vec<Event>) -> Self {
        let mut parts = Parts::new();
        for event in &events {
            for series in series_of(&event.event_name, &event.channel) {
                add(&mut parts, series, event, Width::Quarter);
            }
        }
        Self::with(events, parts, Parts::new(), BTreeSet::new(), |_| false)
    }

    /// Some events around a day, and rollups in any state.
    pub(super) fn random(random: &mut Random, day_micros: i64) -> Self {
        let count = 40 + random.below(160);
        let events: Vec<Event> = (0..count).map(|_| random_event(random, day_micros)).collect();
        // On some days only some pairs have a series, and only names with such a pair.
        let mut overflowed = BTreeSet::new();
        let mut admitted: BTreeMap<(Day, String, String), bool> = BTreeMap::new();
        for day in -1..6 {
            let day = Day::of(Timestamp::from_micros(day_micros + day * DAY_MICROS));
            let overflows = random.chance(25);
            for name in ["a", "b", "c"] {
                for channel in ["x", "y", "z"] {
                    let is_admitted = !overflows || random.chance(40);
                    if !is_admitted {
                        overflowed.insert(day);
                    }
                    admitted.insert((day, name.to_owned(), channel.to_owned()), is_admitted);
                }
            }
        }
        let fresh = random.pick(&[0, 20, 100]);
        let (mut parts, mut deltas) = (Parts::new(), Parts::new());
        for event in &events {
            let [pair, name, all] = series_of(&event.event_name, &event.channel);
            let mut width = || random.pick(&[Width::Minute, Width::Quarter]);
            let widths = [width(), width(), width()];
            if random.chance(fresh) {
                add(&mut deltas, pair, event, widths[0]);
                continue;
            }
            let day = Day::of(Timestamp::from_micros(event.micros));
            let has_series = |channel: &str| admitted[&(day, event.event_name.clone(), channel.to_owned())];
            if has_series(&event.channel) {
                add(&mut parts, pair, event, widths[0]);
            }
            if ["x", "y", "z"].into_iter().any(has_series) {
                add(&mut parts, name, event, widths[1]);
            }
            add(&mut parts, all, event, widths[2]);
        }
        let stale = random.pick(&[0, 10, 100]);
        Self::with(events, parts, deltas, overflowed, |_| random.chance(stale))
    }

    fn with(
        events: Vec<Event>,
        parts: Parts,
        deltas: Parts,
        overflowed: BTreeSet<Day>,
        mut is_stale: impl FnMut(Day) -> bool,
    ) -> Self {
        let mut days: BTreeMap<(SeriesKey, Day), (u64, UserUnion)> = BTreeMap::new();
        for ((series, bucket), (events, users)) in &parts {
            let sum = days
                .entry((series.clone(), bucket.day()))
                .or_insert_with(|| (0, UserUnion::new(DAY_EXACT_MAX)));
            sum.0 += events;
            sum.1.add_set(set(users));
        }
        let day = |((series, day), (events, users)): ((SeriesKey, Day), (u64, UserUnion))| DayRow {
            event_name: series.event_name,
            channel: series.channel,
            day,
            total: (!is_stale(day)).then(|| (events, users.finish().encode())),
        };
        let row = |((series, bucket), (events, users)): ((SeriesKey, Bucket), (u64, Vec<_>))| RollupRow {
            event_name: series.event_name,
            channel: series.channel,
            bucket,
            events,
            users: set(&users).encode(),
        };
        Self {
            events,
            days: days.into_iter().map(day).collect(),
            parts: parts.into_iter().map(row).collect(),
            deltas: deltas.into_iter().map(row).collect(),
            overflowed,
            rebuild_needed: false,
            breaths: 0,
            memory: QueryMemory::new(64 << 20).question(),
            calls: Calls::default(),
        }
    }

    /// Makes every set unreadable.
    pub(super) fn damage(&mut self) {
        self.parts.iter_mut().for_each(|row| row.users.clear());
    }

    pub(super) fn forget_calls(&mut self) {
        self.calls = Calls::default();
    }

    /// Days that were handed over with a sum.
    pub(super) fn days_used(&self) -> usize {
        self.calls.days_used
    }

    /// In how many stretches parts were read.
    pub(super) fn parts_ranges(&self) -> usize {
        self.calls.parts_ranges
    }

    /// Where events were counted.
    pub(super) fn counted(&self) -> Vec<Range<i64>> {
        self.calls.counted.clone()
    }
}

fn random_event(random: &mut Random, day_micros: i64) -> Event {
    let mut micros = day_micros + random.below(4 * DAY_MICROS);
    // Ends of buckets are where mistakes are made.
    if random.chance(30) {
        micros -= micros.rem_euclid(30 * 60_000_000);
        micros -= random.below(2);
    }
    Event {
        event_name: random.pick(&["a", "a", "b", "c"]).to_owned(),
        channel: random.pick(&["x", "x", "y", "z"]).to_owned(),
        campaign_id: random.chance(30).then(|| "spring".to_owned()),
        user_id: format!("user-{}", random.below(12)),
        micros,
    }
}

fn add(parts: &mut Parts, series: SeriesKey, event: &Event, width: Width) {
    let bucket = Bucket::of(Timestamp::from_micros(event.micros), width);
    let part = parts.entry((series, bucket)).or_default();
    part.0 += 1;
    part.1.push(UserKey::PUBLIC.hash(&event.user_id));
}

fn set(users: &[UserHash]) -> UserSet {
    let mut union = UserUnion::new(PART_EXACT_MAX);
    users.iter().for_each(|user| union.add(*user));
    union.finish()
}

/// Whether a series has what the filter is about: a name, or all of them.
fn is_kept(filter: &Names, name: Option<&str>) -> bool {
    match filter {
        Names::One(one) => name == Some(one),
        Names::Each => name.is_some(),
        Names::All => name.is_none(),
    }
}

/// The name of an event as far as the filter tells it; `None` if the filter leaves the event out.
fn told<'a>(filter: &Names, name: &'a str) -> Option<Option<&'a str>> {
    match filter {
        Names::One(one) => (one == name).then_some(Some(name)),
        Names::Each => Some(Some(name)),
        Names::All => Some(None),
    }
}

impl Snapshot for Model {
    type Error = OutOfMemory;

    async fn days(&mut self, series: &SeriesFilter, range: Range<Timestamp>) -> Result<Vec<DayRow>, OutOfMemory> {
        assert_kept(series);
        let is_asked = |row: &&DayRow| {
            range.contains(&row.day.start())
                && is_kept(&series.event_names, row.event_name.as_deref())
                && is_kept(&series.channels, row.channel.as_deref())
        };
        let rows: Vec<DayRow> = self.days.iter().filter(is_asked).cloned().collect();
        self.calls.days_used += rows.iter().filter(|row| row.total.is_some()).count();
        Ok(rows)
    }

    async fn parts(
        &mut self,
        series: &SeriesFilter,
        ranges: &[Range<Timestamp>],
    ) -> Result<Vec<RollupRow>, OutOfMemory> {
        assert_kept(series);
        assert!(ranges.iter().all(|range| range.start < range.end));
        assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        self.calls.parts_ranges += ranges.len();
        let is_asked = |row: &&RollupRow| {
            ranges.iter().any(|range| range.contains(&row.bucket.start))
                && is_kept(&series.event_names, row.event_name.as_deref())
                && is_kept(&series.channels, row.channel.as_deref())
        };
        Ok(self.parts.iter().filter(is_asked).cloned().collect())
    }

    async fn deltas(&mut self, series: &SeriesFilter, range: Range<Timestamp>) -> Result<Vec<RollupRow>, OutOfMemory> {
        let row = |row: &RollupRow| {
            let event_name = told(&series.event_names, row.event_name.as_deref()?)?;
            let channel = told(&series.channels, row.channel.as_deref()?)?;
            Some(RollupRow {
                event_name: event_name.map(str::to_owned),
                channel: channel.map(str::to_owned),
                ..row.clone()
            })
        };
        let begins = |row: &&RollupRow| range.contains(&row.bucket.start);
        Ok(self.deltas.iter().filter(begins).filter_map(row).collect())
    }

    async fn rollup_state(&mut self, range: Range<Timestamp>) -> Result<Option<RollupState>, OutOfMemory> {
        let days = self.overflowed.iter().copied();
        let overflowed = days.filter(|day| range.contains(&day.start())).collect();
        Ok((!self.rebuild_needed).then_some(RollupState {
            user_key: UserKey::PUBLIC,
            overflowed,
        }))
    }

    fn memory(&self) -> &Holding {
        &self.memory
    }

    async fn pause(&mut self) -> Result<(), OutOfMemory> {
        self.breaths += 1;
        Ok(())
    }

    async fn events_stored(&mut self, range: Range<Timestamp>) -> Result<u64, OutOfMemory> {
        let is_all = |row: &&RollupRow| row.event_name.is_none();
        let rows = self.parts.iter().filter(is_all).chain(&self.deltas);
        let begun = rows.filter(|row| range.contains(&row.bucket.start));
        Ok(begun.map(|row| row.events).sum())
    }

    async fn count_users(
        &mut self,
        filter: &EventFilter,
        range: Range<Timestamp>,
        starts: &[Timestamp],
        each: &mut EachUser<'_>,
    ) -> Result<(), OutOfMemory> {
        assert!(range.start < range.end && starts[0] <= range.start);
        assert!(starts.is_sorted_by(|a, b| a < b) && starts[starts.len() - 1] < range.end);
        let micros = range.start.as_micros()..range.end.as_micros();
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for event in &self.events {
            let names = told(&filter.event_names, &event.event_name).zip(told(&filter.channels, &event.channel));
            let (Some((event_name, channel)), true) = (names, micros.contains(&event.micros)) else {
                continue;
            };
            if filter.campaign_id.is_some() && filter.campaign_id != event.campaign_id {
                continue;
            }
            let group = starts.partition_point(|start| start.as_micros() <= event.micros) - 1;
            let key = (group, event_name, channel, event.user_id.as_str());
            *counts.entry(key).or_default() += 1;
        }
        for ((group, event_name, channel, user_id), events) in counts {
            each(UserCount {
                group,
                event_name,
                channel,
                user_id,
                events,
            })?;
        }
        self.calls.counted.push(micros);
        Ok(())
    }
}

/// Compaction keeps no series of one channel and all names.
fn assert_kept(series: &SeriesFilter) {
    assert!(series.event_names != Names::All || series.channels == Names::All);
}
