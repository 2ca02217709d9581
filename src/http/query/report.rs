//! From a report of `query` to the JSON answer of `GET /metrics`.

use std::borrow::Cow;

use jiff::tz::TimeZone;

use crate::api::metrics::{Answer, Counts, Group, RelativeError};
use crate::event::EVERY_NAME;
use crate::flush::Behind;
use crate::query::{self, MetricsQuery, MetricsReport};

/// The answer. `behind` is how far the flush was behind just before the query ran.
pub(super) fn answer<'a>(query: &'a MetricsQuery, report: &'a MetricsReport, behind: Option<Behind>) -> Answer<'a> {
    let counted_until = behind.and_then(|behind| behind.since);
    let is_utc = query.zone == TimeZone::UTC;
    let is_grouped = !query.group_by.is_none();
    let zone = query.zone.iana_name().filter(|_| !is_utc);
    Answer {
        event_name: query.event_name.as_deref().unwrap_or(EVERY_NAME).into(),
        from: query.from.to_string(),
        to: query.to.to_string(),
        tz: zone.map(Cow::from),
        group_by: is_grouped.then(|| query.group_by.to_string()),
        total: counts(&report.total),
        source: Some(report.source.as_str().into()),
        overflowed: report.overflowed,
        pending_events: behind.map(|behind| behind.events),
        counted_until: counted_until.map(|(clock, _)| clock.to_string()),
        groups: is_grouped.then(|| report.groups.iter().map(group).collect()),
    }
}

fn group(group: &query::ReportGroup) -> Group<'_> {
    let key = &group.key;
    Group {
        start: key.bucket.map(|bucket| bucket.start.to_string()),
        end: key.bucket.map(|bucket| bucket.end.to_string()),
        event_name: key.event_name.as_deref().map(Cow::from),
        channel: key.channel.as_deref().map(Cow::from),
        other: key.is_other,
        counts: counts(&group.counts),
    }
}

fn counts(counts: &query::Counts) -> Counts {
    let users = &counts.users;
    let is_estimate = users.error != 0.0;
    Counts {
        total_events: counts.total_events,
        unique_users: users.count,
        unique_users_error: RelativeError::of(users.error),
        unique_users_range: is_estimate.then_some([users.low, users.high]),
    }
}
