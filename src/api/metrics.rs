//! The question `GET /metrics` by its parameters, and its answer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Every parameter of the query string.
pub const PARAMETERS: &[&str] = &[
    "event_name",
    "from",
    "to",
    "group_by",
    "tz",
    "channel",
    "campaign_id",
    "fill",
    "order",
    "limit",
    "exact",
    "after",
];

/// The answer. A server leaves out members that say nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer<'a> {
    /// What was asked for; `*` for every name.
    #[serde(default)]
    pub event_name: Cow<'a, str>,
    /// First instant of the range, in RFC 3339.
    pub from: String,
    /// First instant after the range.
    pub to: String,
    /// Name of the time zone in which buckets begin; absent for UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tz: Option<Cow<'a, str>>,
    /// The grouping that was asked for, such as `day,channel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<String>,
    /// Counts over the whole range.
    #[serde(flatten)]
    pub total: Counts,
    /// What the answer was computed from: `rollups` or `events`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Cow<'a, str>>,
    /// Whether events of some day had to be counted because its rollups do not tell all names and channels apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overflowed: bool,
    /// Events that this server has accepted and that are not counted yet, of whatever name; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_events: Option<u64>,
    /// While events are pending: all that this server accepted before this time is counted. Absent while events wait
    /// that were accepted before the server's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_until: Option<String>,
    /// Absent where nothing was grouped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Group<'a>>>,
}

impl<'a> Answer<'a> {
    /// All groups; none where nothing was grouped.
    pub fn groups(&self) -> &[Group<'a>] {
        self.groups.as_deref().unwrap_or_default()
    }
}

/// One group; only the members that it is grouped by are present.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group<'a> {
    /// First instant of its bucket of time, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// First instant after that bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Its event name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_name: Option<Cow<'a, str>>,
    /// Its channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Cow<'a, str>>,
    /// Whether the group stands for all names and channels beyond the limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other: bool,
    /// What was counted in the group.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Number of events and of distinct users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Number of events; always exact.
    pub total_events: u64,
    /// Distinct users of these events.
    pub unique_users: u64,
    /// How far off `unique_users` may be.
    #[serde(default)]
    pub unique_users_error: RelativeError,
    /// The range that most probably holds the true number of users; absent where users were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_users_range: Option<[u64; 2]>,
}

impl Counts {
    /// The range that most probably holds the true number of users.
    pub fn users_range(&self) -> [u64; 2] {
        self.unique_users_range
            .unwrap_or([self.unique_users, self.unique_users])
    }
}

/// A relative standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RelativeError {
    /// The number was counted: 0, without a decimal point.
    Exact(u8),
    /// The number was estimated.
    About(f64),
}

impl RelativeError {
    /// Wraps an error, 0 where the number was counted. Rounds it up to four decimals, so that it never promises too
    /// much.
    pub fn of(error: f64) -> Self {
        if error == 0.0 {
            Self::Exact(0)
        } else {
            Self::About((error * 10_000.0).ceil() / 10_000.0)
        }
    }

    /// The error, 0 where the number was counted.
    pub fn value(self) -> f64 {
        match self {
            Self::Exact(_) => 0.0,
            Self::About(error) => error,
        }
    }
}

impl Default for RelativeError {
    fn default() -> Self {
        Self::Exact(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_number_has_the_error_0_and_an_estimate_rounds_it_up() {
        let written = |error| serde_json::to_string(&RelativeError::of(error)).unwrap();
        assert_eq!(written(0.0), "0");
        assert_eq!(written(0.007_61), "0.0077");
        let read = |text| serde_json::from_str::<RelativeError>(text).unwrap().value();
        assert_eq!([read("0"), read("0.0"), read("0.0077")], [0.0, 0.0, 0.0077]);
    }
}
