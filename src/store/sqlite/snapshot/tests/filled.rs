//! A database with parts, days and deltas, the events that they count, and ways to count these one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::event::bucket::DAY_MICROS;
use crate::event::bucket::{Bucket, Day, QUARTER_MICROS, Width};
use crate::event::{EventRef, Timestamp, codec};
use crate::query::snapshot::{Names, RollupRow, SeriesFilter};
use crate::rollup::{PART_EXACT_MAX, Part, SeriesKey, Tally, UserKey, UserUnion, series_of};
use crate::store::sqlite::rollups::SqliteRollups;
use crate::store::sqlite::sink::SqliteSink;
use crate::store::sqlite::snapshot::SqliteSnapshot;
use crate::store::sqlite::testing::{DatabasePlace, now};
use crate::store::{EventSink as _, RollupStore as _};
use crate::wal::batch::Batch;
use crate::wal::id::{Mark, WalId};

/// 2026-02-01T00:00:00Z.
pub(super) const FEBRUARY: i64 = 1_769_904_000_000_000;

#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) event_name: &'static str,
    pub(super) channel: &'static str,
    pub(super) user_id: String,
    pub(super) campaign_id: Option<&'static str>,
    pub(super) micros: i64,
}

/// Events of three days, always the same ones.
pub(super) fn events() -> Vec<Event> {
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let event = |_| Event {
        event_name: ["view", "click", "buy"][random(3)],
        channel: ["web", "app"][random(2)],
        user_id: format!("user-{}", random(40)),
        campaign_id: [None, Some("spring")][random(2)],
        // A few quarter hours a day, so that buckets hold several events, some at a bucket's first instant.
        micros: FEBRUARY
            + random(3) as i64 * DAY_MICROS
            + random(4) as i64 * 5 * QUARTER_MICROS
            + [0, 1, 61_000_000, QUARTER_MICROS - 1][random(4)],
    };
    (0..600).map(event).collect()
}

/// What is in parts, what is in deltas and the database that holds both.
pub(super) struct Filled {
    pub(super) place: DatabasePlace,
    pub(super) in_parts: Vec<Event>,
    pub(super) in_deltas: Vec<Event>,
}

impl Filled {
    pub(super) fn new() -> Self {
        let place = DatabasePlace::new();
        // Without a secret key, so that the sets are known.
        let writer = rusqlite::Connection::open(&place.path).unwrap();
        writer.execute("UPDATE rollup_state SET user_key = NULL", []).unwrap();
        let mut in_parts = events();
        let in_deltas = in_parts.split_off(400);
        let wal_id = WalId(uuid::Uuid::from_u128(1));
        let mut sink = SqliteSink::open(&place.path).unwrap();
        now(sink.create_checkpoint(wal_id, 0, Mark::default())).unwrap();
        flush(&mut sink, 0, &in_parts);
        // The deltas of these become parts, in a way of their own that mixes widths.
        let mut rollups = SqliteRollups::open(&place.path).unwrap();
        assert!(now(rollups.begin(true)).unwrap());
        now(rollups.take_deltas(usize::MAX)).unwrap();
        let keys: Vec<SeriesKey> = series(&in_parts).into_iter().collect();
        let ids = now(rollups.series_ids(&keys)).unwrap();
        for (key, id) in keys.iter().zip(ids) {
            let of_series = |event: &&Event| counts_in(event, key);
            let of_series: Vec<&Event> = in_parts.iter().filter(of_series).collect();
            let mut days = BTreeSet::new();
            for (bucket, tally) in tallies(&of_series, part_bucket) {
                days.insert((id, bucket.day()));
                let part = Part {
                    series: id,
                    bucket,
                    tally,
                };
                now(rollups.put_parts(&[part])).unwrap();
            }
            now(rollups.mark_stale(&days.into_iter().collect::<Vec<_>>())).unwrap();
            // The second day is summed up, the others are stale.
            for (day, tally) in tallies(&of_series, day_of) {
                if day == nth_day(1) {
                    now(rollups.put_days(&[(id, day, tally)])).unwrap();
                }
            }
        }
        now(rollups.add_overflow(nth_day(2), 5)).unwrap();
        now(rollups.add_overflow(nth_day(0), 5)).unwrap();
        now(rollups.commit()).unwrap();
        flush(&mut sink, in_parts.len() as u64, &in_deltas);
        Self {
            place,
            in_parts,
            in_deltas,
        }
    }

    pub(super) fn ask<T>(&self, question: impl FnOnce(&mut SqliteSnapshot<'_>) -> rusqlite::Result<T>) -> T {
        SqliteSnapshot::with(&mut self.place.reader(), super::memory(), question).unwrap()
    }

    pub(super) fn all(&self) -> Vec<Event> {
        [&self.in_parts[..], &self.in_deltas].concat()
    }
}

pub(super) fn flush(sink: &mut SqliteSink, after: u64, events: &[Event]) {
    let mut batch = Batch::new(WalId(uuid::Uuid::from_u128(1)), after);
    for event in events {
        let mut encoded = Vec::new();
        let event = EventRef {
            event_name: event.event_name,
            channel: event.channel,
            user_id: &event.user_id,
            timestamp: Timestamp::from_micros(event.micros),
            event_id: None,
            campaign_id: event.campaign_id,
            tags: None,
            metadata: None,
        };
        codec::encode(&event, &mut encoded);
        batch.push(&encoded);
    }
    now(sink.flush(batch.view())).unwrap();
}

pub(super) fn series(events: &[Event]) -> BTreeSet<SeriesKey> {
    let series = |event: &Event| series_of(event.event_name, event.channel);
    events.iter().flat_map(series).collect()
}

pub(super) fn counts_in(event: &Event, key: &SeriesKey) -> bool {
    series_of(event.event_name, event.channel).contains(key)
}

pub(super) fn part_bucket(event: &Event) -> Bucket {
    let width = match event.campaign_id {
        Some(_) => Width::Minute,
        None => Width::Quarter,
    };
    Bucket::of(Timestamp::from_micros(event.micros), width)
}

pub(super) fn delta_bucket(event: &Event) -> Bucket {
    Bucket::of(Timestamp::from_micros(event.micros), Width::Quarter)
}

pub(super) fn day_of(event: &Event) -> Day {
    Day::of(Timestamp::from_micros(event.micros))
}

pub(super) fn nth_day(n: i64) -> Day {
    Day::of(Timestamp::from_micros(FEBRUARY + n * DAY_MICROS))
}

pub(super) fn tallies<K: Ord>(events: &[&Event], key: impl Fn(&Event) -> K) -> BTreeMap<K, Tally> {
    let mut sums: BTreeMap<K, (u64, UserUnion)> = BTreeMap::new();
    for event in events {
        let sum = sums.entry(key(event)).or_insert((0, UserUnion::new(PART_EXACT_MAX)));
        sum.0 += 1;
        sum.1.add(UserKey::PUBLIC.hash(&event.user_id));
    }
    let tally = |(key, (events, users)): (K, (u64, UserUnion))| {
        let users = users.finish();
        (key, Tally { events, users })
    };
    sums.into_iter().map(tally).collect()
}

pub(super) fn names(one: &str) -> [Names; 3] {
    [Names::One(one.to_owned()), Names::Each, Names::All]
}

/// The kinds of series that are kept, each way to ask for them, and some that match nothing.
pub(super) fn series_filters() -> Vec<SeriesFilter> {
    let mut filters = Vec::new();
    for event_names in names("view") {
        for channels in names("web") {
            if event_names != Names::All || channels == Names::All {
                filters.push(SeriesFilter {
                    event_names: event_names.clone(),
                    channels,
                });
            }
        }
    }
    for (event_name, channels) in [
        ("none", Names::Each),
        ("", Names::All),
        ("view", Names::One(String::new())),
    ] {
        filters.push(SeriesFilter {
            event_names: Names::One(event_name.to_owned()),
            channels,
        });
    }
    filters
}

pub(super) fn takes(names: &Names, name: &str) -> bool {
    match names {
        Names::One(one) => one == name,
        Names::Each | Names::All => true,
    }
}

pub(super) fn telling(names: &Names, name: &str) -> Option<String> {
    (*names != Names::All).then(|| name.to_owned())
}

/// The rows that a filter should give, by names and bucket, counted event by event.
pub(super) fn recount(events: &[Event], filter: &SeriesFilter, bucket_of: impl Fn(&Event) -> Bucket) -> Vec<RollupRow> {
    let matching: Vec<&Event> = events
        .iter()
        .filter(|event| takes(&filter.event_names, event.event_name))
        .filter(|event| takes(&filter.channels, event.channel))
        .collect();
    let key = |event: &Event| {
        let name = telling(&filter.event_names, event.event_name);
        let channel = telling(&filter.channels, event.channel);
        (name, channel, bucket_of(event))
    };
    let row = |((event_name, channel, bucket), tally): (_, Tally)| RollupRow {
        event_name,
        channel,
        bucket,
        events: tally.events,
        users: tally.users.encode(),
    };
    tallies(&matching, key).into_iter().map(row).collect()
}

pub(super) fn sorted(mut rows: Vec<RollupRow>) -> Vec<RollupRow> {
    rows.sort_by(|a, b| {
        let key = |row: &RollupRow| (row.event_name.clone(), row.channel.clone(), row.bucket);
        key(a).cmp(&key(b))
    });
    rows
}

pub(super) fn range(from: i64, to: i64) -> Range<Timestamp> {
    Timestamp::from_micros(FEBRUARY + from)..Timestamp::from_micros(FEBRUARY + to)
}
