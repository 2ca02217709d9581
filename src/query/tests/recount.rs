//! The answer by the shortest way: look at every event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::model::Event;
use crate::query::calendar::Calendar;
use crate::query::{Counts, GroupKey, MetricsQuery, MetricsReport, Order, ReportGroup, TimeBucket};

type Names = (Option<String>, Option<String>);

#[derive(Default)]
struct Tally<'a> {
    events: u64,
    users: BTreeSet<&'a str>,
}

impl<'a> Tally<'a> {
    fn add(&mut self, event: &'a Event) {
        self.events += 1;
        self.users.insert(&event.user_id);
    }

    fn counts(&self) -> Counts {
        Counts::exactly(self.events, self.users.len() as u64)
    }
}

/// Counts every event for the question. Leaves source and overflow at their defaults.
pub(super) fn recount(events: &[Event], query: &MetricsQuery) -> MetricsReport {
    let is_asked = |event: &&Event| {
        let range = query.from.as_micros()..query.to.as_micros();
        range.contains(&event.micros)
            && query.event_name.as_ref().is_none_or(|name| *name == event.event_name)
            && query.channel.as_ref().is_none_or(|channel| *channel == event.channel)
            && (query.campaign_id.is_none() || query.campaign_id == event.campaign_id)
    };
    let events: Vec<&Event> = events.iter().filter(is_asked).collect();
    let mut total = Tally::default();
    events.iter().for_each(|event| total.add(event));
    let report = MetricsReport {
        total: total.counts(),
        ..MetricsReport::default()
    };
    if query.group_by.is_none() {
        return report;
    }

    let names_of = |event: &Event| -> Names {
        (
            query.group_by.event_name.then(|| event.event_name.clone()),
            query.group_by.channel.then(|| event.channel.clone()),
        )
    };
    let mut of_names: BTreeMap<Names, Tally<'_>> = BTreeMap::new();
    for event in &events {
        of_names.entry(names_of(event)).or_default().add(event);
    }
    let mut order: Vec<(Names, u64)> = of_names
        .into_iter()
        .map(|(names, tally)| {
            let weight = match query.order {
                Order::Name => 0,
                Order::TotalEvents => tally.events,
                Order::UniqueUsers => tally.users.len() as u64,
            };
            (names, weight)
        })
        .collect();
    order.sort_by_key(|(_, weight)| Reverse(*weight));
    let limit = query.limit.unwrap_or(usize::MAX);
    let place_of = |names: &Names| {
        let place = order.iter().position(|(found, _)| found == names).unwrap();
        place.min(limit)
    };

    let mut calendar = query.group_by.time.map(|unit| Calendar::new(unit, query.zone.clone()));
    let mut groups: BTreeMap<(Option<TimeBucket>, usize), Tally<'_>> = BTreeMap::new();
    for event in &events {
        let bucket = calendar
            .as_mut()
            .map(|calendar| calendar.bucket_of(crate::event::Timestamp::from_micros(event.micros)));
        let key = (bucket, place_of(&names_of(event)));
        groups.entry(key).or_default().add(event);
    }
    if let Some(calendar) = calendar.as_mut().filter(|_| query.fill) {
        let places = match query.group_by.has_names() {
            true => order.len().min(limit.saturating_add(1)),
            false => 1,
        };
        for bucket in calendar.buckets_of(query.from..query.to, usize::MAX) {
            for place in 0..places {
                groups.entry((Some(bucket), place)).or_default();
            }
        }
    }
    let group = |((bucket, place), tally): ((Option<TimeBucket>, usize), Tally<'_>)| {
        let names = order.get(place).filter(|_| place < limit);
        let (event_name, channel) = names.map(|(names, _)| names.clone()).unwrap_or_default();
        let key = GroupKey {
            bucket,
            event_name,
            channel,
            is_other: place == limit,
        };
        ReportGroup {
            key,
            counts: tally.counts(),
        }
    };
    MetricsReport {
        groups: groups.into_iter().map(group).collect(),
        ..report
    }
}
