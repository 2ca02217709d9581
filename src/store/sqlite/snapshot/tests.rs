mod filled;

use std::collections::BTreeMap;

use self::filled::*;
use super::*;
use crate::event::bucket::DAY_MICROS;
use crate::event::bucket::{Bucket, QUARTER_MICROS, Width};
use crate::query::memory::{Holding, QueryMemory};
use crate::store::sqlite::sink::SqliteSink;
use crate::store::sqlite::testing::{DatabasePlace, now, plan};

/// Enough memory for every question here.
fn memory() -> Holding {
    QueryMemory::new(64 << 20).question()
}

#[test]
fn parts_are_those_of_the_series_and_ranges() {
    let filled = Filled::new();
    let ranges = [
        // Begins with a bucket, ends with the first instant of another.
        range(5 * QUARTER_MICROS, 10 * QUARTER_MICROS),
        range(DAY_MICROS + 1, 2 * DAY_MICROS),
        range(9 * DAY_MICROS, 10 * DAY_MICROS),
        range(2 * DAY_MICROS, 2 * DAY_MICROS),
    ];
    for filter in series_filters() {
        let parts = filled.ask(|snapshot| now(snapshot.parts(&filter, &ranges)));
        let mut expected = recount(&filled.in_parts, &filter, part_bucket);
        expected.retain(|row| ranges.iter().any(|range| range.contains(&row.bucket.start)));
        assert_eq!(sorted(parts), expected, "{filter:?}");
        let nothing = filled.ask(|snapshot| now(snapshot.parts(&filter, &[])));
        assert_eq!(nothing, []);
    }
}

#[test]
fn days_are_those_of_the_series_and_say_which_are_stale() {
    let filled = Filled::new();
    for filter in series_filters() {
        // The range begins within the first day, so that day is left out.
        let days = filled.ask(|snapshot| now(snapshot.days(&filter, range(1, 9 * DAY_MICROS))));
        let days: BTreeMap<_, _> = days
            .into_iter()
            .map(|row| ((row.event_name, row.channel, row.day), row.total))
            .collect();
        let whole_day = |event: &Event| Bucket {
            start: day_of(event).start(),
            width: Width::Quarter,
        };
        let expected: BTreeMap<_, _> = recount(&filled.in_parts, &filter, whole_day)
            .into_iter()
            .filter(|row| row.bucket.day() != nth_day(0))
            .map(|row| {
                let day = row.bucket.day();
                let total = (day == nth_day(1)).then_some((row.events, row.users));
                ((row.event_name, row.channel, day), total)
            })
            .collect();
        assert_eq!(days, expected, "{filter:?}");
    }
}

#[test]
fn deltas_are_told_apart_as_far_as_the_filter_says() {
    let filled = Filled::new();
    let within = range(5 * QUARTER_MICROS, DAY_MICROS + 5 * QUARTER_MICROS);
    for filter in series_filters() {
        let deltas = filled.ask(|snapshot| now(snapshot.deltas(&filter, within.clone())));
        // Rows are not merged: each is of one name and channel, whether it says so or not.
        let mut expected = Vec::new();
        for key in series(&filled.in_deltas) {
            let (Some(name), Some(channel)) = (key.event_name, key.channel) else {
                continue;
            };
            if takes(&filter.event_names, &name) && takes(&filter.channels, &channel) {
                let pair = SeriesFilter {
                    event_names: Names::One(name.clone()),
                    channels: Names::One(channel.clone()),
                };
                let rows = recount(&filled.in_deltas, &pair, delta_bucket);
                expected.extend(rows.into_iter().map(|row| RollupRow {
                    event_name: telling(&filter.event_names, &name),
                    channel: telling(&filter.channels, &channel),
                    ..row
                }));
            }
        }
        expected.retain(|row| within.contains(&row.bucket.start));
        let in_order = |rows: Vec<RollupRow>| {
            let mut rows = sorted(rows);
            rows.sort_by_key(|row| (row.bucket, row.events, row.users.clone()));
            rows
        };
        assert_eq!(in_order(deltas), in_order(expected), "{filter:?}");
    }
}

#[test]
fn overflowed_days_and_stored_events_are_those_of_the_range() {
    let filled = Filled::new();
    let overflowed = |range| {
        let state = filled.ask(|snapshot| now(snapshot.rollup_state(range)));
        state.map(|state| state.overflowed)
    };
    assert_eq!(overflowed(range(0, 9 * DAY_MICROS)), Some(vec![nth_day(0), nth_day(2)]));
    assert_eq!(overflowed(range(1, 2 * DAY_MICROS)), Some(vec![]));
    for within in [
        range(0, 3 * DAY_MICROS),
        range(1, DAY_MICROS + 5 * QUARTER_MICROS),
        range(7 * DAY_MICROS, 8 * DAY_MICROS),
    ] {
        let stored = filled.ask(|snapshot| now(snapshot.events_stored(within.clone())));
        let count = |events: &[Event], bucket_of: fn(&Event) -> Bucket| {
            let inside = |event: &&Event| within.contains(&bucket_of(event).start);
            events.iter().filter(inside).count() as u64
        };
        let expected = count(&filled.in_parts, part_bucket) + count(&filled.in_deltas, delta_bucket);
        assert_eq!(stored, expected, "{within:?}");
    }
    let empty = DatabasePlace::new();
    let stored = SqliteSnapshot::with(&mut empty.reader(), memory(), |snapshot| {
        now(snapshot.events_stored(range(0, 1)))
    });
    assert_eq!(stored.unwrap(), 0);
}

/// Every filter of events, with and without a campaign.
fn event_filters() -> Vec<EventFilter> {
    let mut filters = Vec::new();
    for event_names in names("view") {
        for channels in names("web") {
            for campaign_id in [None, Some("spring".to_owned())] {
                filters.push(EventFilter {
                    event_names: event_names.clone(),
                    channels: channels.clone(),
                    campaign_id,
                });
            }
        }
    }
    filters
}

#[test]
fn users_are_counted_by_group_and_name() {
    let filled = Filled::new();
    let (from, to) = (1, 2 * DAY_MICROS + 5 * QUARTER_MICROS + 1);
    let within = range(from, to);
    let one_start = vec![range(0, 0).start];
    // The second start is not after any event, the last one is after all.
    let starts: Vec<_> = [0, 1, 5 * QUARTER_MICROS, DAY_MICROS, DAY_MICROS + 1, 9 * DAY_MICROS]
        .map(|micros| range(micros, 0).start)
        .into();
    for (filter, starts) in event_filters()
        .iter()
        .flat_map(|filter| [(filter, &one_start), (filter, &starts)])
    {
        let mut counted = BTreeMap::new();
        filled.ask(|snapshot| {
            now(snapshot.count_users(filter, within.clone(), starts, &mut |users| {
                let name = users.event_name.map(str::to_owned);
                let channel = users.channel.map(str::to_owned);
                let key = (users.group, name, channel, users.user_id.to_owned());
                *counted.entry(key).or_insert(0) += users.events;
                Ok(())
            }))
        });
        let mut expected = BTreeMap::new();
        for event in filled.all() {
            let timestamp = Timestamp::from_micros(event.micros);
            if within.contains(&timestamp)
                && takes(&filter.event_names, event.event_name)
                && takes(&filter.channels, event.channel)
                && (filter.campaign_id.is_none() || filter.campaign_id.as_deref() == event.campaign_id)
            {
                let group = starts.iter().rposition(|start| *start <= timestamp).unwrap();
                let name = telling(&filter.event_names, event.event_name);
                let channel = telling(&filter.channels, event.channel);
                *expected.entry((group, name, channel, event.user_id)).or_insert(0) += 1;
            }
        }
        assert!(!expected.is_empty());
        assert_eq!(counted, expected, "{filter:?} {starts:?}");
    }
}

#[test]
fn a_snapshot_does_not_see_what_is_flushed_meanwhile() {
    let filled = Filled::new();
    let everything = || range(0, 9 * DAY_MICROS);
    let all = SeriesFilter {
        event_names: Names::All,
        channels: Names::All,
    };
    let look = |snapshot: &mut SqliteSnapshot<'_>| -> rusqlite::Result<_> {
        let stored = now(snapshot.events_stored(everything()))?;
        let deltas = now(snapshot.deltas(&all, everything()))?;
        let filter = EventFilter {
            event_names: Names::All,
            channels: Names::All,
            campaign_id: None,
        };
        let mut counted = 0;
        let starts = [everything().start];
        now(snapshot.count_users(&filter, everything(), &starts, &mut |users| {
            counted += users.events;
            Ok(())
        }))?;
        Ok((stored, deltas.len(), counted))
    };
    let mut reader = filled.place.reader();
    let (before, during) = SqliteSnapshot::with(&mut reader, memory(), |snapshot| {
        let before = look(snapshot)?;
        let mut sink = SqliteSink::open(&filled.place.path).unwrap();
        flush(&mut sink, 600, &events()[..7]);
        Ok::<_, rusqlite::Error>((before, look(snapshot)?))
    })
    .unwrap();
    assert_eq!(before, during);
    assert_eq!((before.0, before.2), (600, 600));
    let after = SqliteSnapshot::with(&mut reader, memory(), look).unwrap();
    assert_eq!((after.0, after.2), (607, 607));
}

#[test]
fn a_snapshot_ends_also_when_its_work_fails() {
    let place = DatabasePlace::new();
    let mut reader = place.reader();
    let failed = SqliteSnapshot::with(&mut reader, memory(), |_| {
        Err::<(), _>(rusqlite::Error::QueryReturnedNoRows)
    });
    assert!(failed.is_err());
    assert!(reader.is_autocommit());
}

#[test]
fn statements_find_their_rows_by_an_index() {
    let place = DatabasePlace::new();
    let reader = place.reader();
    let by_name = "USING INDEX events_name_ts (event_name=? AND ts>? AND ts<?)";
    for filter in event_filters() {
        for starts in [1, 2] {
            let sql = count::sql(&filter, starts);
            let steps = plan(&reader, &sql);
            let search = format!("SEARCH events {by_name}");
            assert!(steps.contains(&search), "{sql}: {steps:#?}");
            // One sort, that of the users.
            let sorts = steps.iter().filter(|step| step.contains("B-TREE"));
            assert_eq!(sorts.count(), 1, "{sql}: {steps:#?}");
            assert!(!steps.contains(&"SCAN events".to_owned()), "{steps:#?}");
        }
    }
    let by_key = "sqlite_autoindex_rollups_1 (series_id=? AND bucket>? AND bucket<?)";
    let by_day = "sqlite_autoindex_rollup_days_1 (series_id=? AND day>? AND day<?)";
    let deltas = "rollup_deltas_name_bucket (event_name=? AND bucket>? AND bucket<?)";
    for filter in series_filters() {
        for (sql, index) in [
            (parts_sql(&filter), by_key),
            (days_sql(&filter), by_day),
            (deltas_sql(&filter), deltas),
            (events_stored_sql(), by_key),
            (events_stored_sql(), deltas),
        ] {
            let steps = plan(&reader, &sql);
            assert!(steps.iter().any(|step| step.contains(index)), "{sql}: {steps:#?}");
            assert!(!steps.iter().any(|step| step.contains("B-TREE")), "{steps:#?}");
            let is_scan = |step: &String| step.starts_with("SCAN s") && !step.contains("steps");
            assert!(!steps.iter().any(is_scan), "{sql}: {steps:#?}");
        }
    }
}
