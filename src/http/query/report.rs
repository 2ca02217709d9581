//! A report as JSON.

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::event::EVERY_NAME;
use crate::flush::Behind;
use crate::query::{Counts, Group, MetricsQuery, MetricsReport};

/// The answer's body.
#[derive(Serialize)]
pub(super) struct ReportBody<'a> {
    event_name: &'a str,
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tz: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_by: Option<String>,
    #[serde(flatten)]
    total: CountsBody,
    source: &'static str,
    /// Says something only where it is true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    overflowed: bool,
    /// Events that this server has accepted and that are not counted yet, of whatever name; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_events: Option<u64>,
    /// While some are pending: all that this server had accepted before this time is counted; absent while events from before its start
    /// wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<GroupBody<'a>>>,
}

#[derive(Serialize)]
struct GroupBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    /// All names and channels beyond the limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    other: bool,
    #[serde(flatten)]
    counts: CountsBody,
}

#[derive(Serialize)]
struct CountsBody {
    total_events: u64,
    unique_users: u64,
    unique_users_error: ErrorBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_users_range: Option<[u64; 2]>,
}

/// A relative standard error.
#[derive(Serialize)]
#[serde(untagged)]
enum ErrorBody {
    /// The number was counted: 0.
    Exact(u8),
    /// Rounded up to four decimals, so that it never promises too much.
    About(f64),
}

impl<'a> ReportBody<'a> {
    /// `behind` is how far the flush was when the question was asked.
    pub(super) fn new(
        query: &'a MetricsQuery,
        report: &'a MetricsReport,
        behind: Option<Behind>,
    ) -> Self {
        let counted_until = behind.and_then(|behind| behind.since);
        let is_utc = query.zone == TimeZone::UTC;
        let is_grouped = !query.group_by.is_none();
        Self {
            event_name: query.event_name.as_deref().unwrap_or(EVERY_NAME),
            from: query.from.to_string(),
            to: query.to.to_string(),
            tz: query.zone.iana_name().filter(|_| !is_utc),
            group_by: is_grouped.then(|| query.group_by.to_string()),
            total: CountsBody::from(&report.total),
            source: report.source.as_str(),
            overflowed: report.overflowed,
            pending_events: behind.map(|behind| behind.events),
            counted_until: counted_until.map(|(clock, _)| clock.to_string()),
            groups: is_grouped.then(|| report.groups.iter().map(GroupBody::from).collect()),
        }
    }
}

impl<'a> From<&'a Group> for GroupBody<'a> {
    fn from(group: &'a Group) -> Self {
        let key = &group.key;
        Self {
            start: key.bucket.map(|bucket| bucket.start.to_string()),
            end: key.bucket.map(|bucket| bucket.end.to_string()),
            event_name: key.event_name.as_deref(),
            channel: key.channel.as_deref(),
            other: key.is_other,
            counts: CountsBody::from(&group.counts),
        }
    }
}

impl From<&Counts> for CountsBody {
    fn from(counts: &Counts) -> Self {
        let users = &counts.users;
        let is_exact = users.error == 0.0;
        Self {
            total_events: counts.total_events,
            unique_users: users.count,
            unique_users_error: if is_exact {
                ErrorBody::Exact(0)
            } else {
                ErrorBody::About((users.error * 10_000.0).ceil() / 10_000.0)
            },
            unique_users_range: (!is_exact).then_some([users.low, users.high]),
        }
    }
}
