//! The product's question and its answer: totals and unique users over a half-open range of time, whole or split into
//! groups.
//!
//! ```text
//!  http::query ─→ MetricsQuery ─→ answer ─→ MetricsReport ─→ http::query
//!                    plan: which rows can be used, what must be counted │ groups: rows to groups
//!                    calendar: where buckets of time begin              │ sums, counted: one group after the other
//!                                └──── snapshot: what a store hands over ┘   (memory: what all of it may hold)
//! ```
//!
//! Question and answer are plain values; `store` only hands over rows of one snapshot, so that every store gives the
//! same answers.

pub mod answer;
pub mod calendar;
mod counted;
pub mod error;
mod groups;
pub mod memory;
mod plan;
pub mod snapshot;
mod sums;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::tz::TimeZone;

pub use self::answer::answer;
pub use self::calendar::TimeBucket;
pub use self::error::AnswerError;
use crate::event::Timestamp;
use crate::event::bucket::TimeUnit;
use crate::rollup::users::UniqueUsers;

/// Most groups of one answer: more than a year of hours, and as much JSON as a client should be made to hold at once
/// (channel names included, a few megabytes).
pub const GROUPS_MAX: usize = 10_000;

/// What to count. Invariants, checked where the query is made: `from <= to`; `fill` needs a unit of time, `order` and
/// `limit` a grouping by name or channel; at most two groupings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsQuery {
    /// Only events of this name; `None` for every name.
    pub event_name: Option<String>,
    /// Only events of this channel.
    pub channel: Option<String>,
    /// Only events of this campaign.
    pub campaign_id: Option<String>,
    /// First instant of the range.
    pub from: Timestamp,
    /// First instant after the range.
    pub to: Timestamp,
    /// Where hours, days, weeks and months begin.
    pub zone: TimeZone,
    /// How to split the range, if at all.
    pub group_by: Grouping,
    /// Whether buckets of time without events get a group too.
    pub fill: bool,
    /// How names and channels are ordered, and which ones come first for `limit`.
    pub order: Order,
    /// How many names or channels get groups of their own; the others share one.
    pub limit: Option<usize>,
    /// Whether every user must be counted, however long that takes.
    pub exact: bool,
}

impl MetricsQuery {
    /// Everything of a name, ungrouped, in UTC.
    pub fn new(event_name: Option<String>, from: Timestamp, to: Timestamp) -> Self {
        Self {
            event_name,
            channel: None,
            campaign_id: None,
            from,
            to,
            zone: TimeZone::UTC,
            group_by: Grouping::default(),
            fill: false,
            order: Order::Name,
            limit: None,
            exact: false,
        }
    }
}

/// How the range is split into groups: by none, one or two of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grouping {
    /// By buckets of time.
    pub time: Option<TimeUnit>,
    /// By event name.
    pub event_name: bool,
    /// By channel.
    pub channel: bool,
}

impl Grouping {
    /// By channel alone.
    pub const CHANNEL: Self = Self {
        time: None,
        event_name: false,
        channel: true,
    };
    /// By event name alone.
    pub const EVENT_NAME: Self = Self {
        time: None,
        event_name: true,
        channel: false,
    };

    /// By time alone.
    pub const fn by(unit: TimeUnit) -> Self {
        Self {
            time: Some(unit),
            event_name: false,
            channel: false,
        }
    }

    /// Whether there is only one group, the whole range.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Whether groups differ by event name or channel.
    pub fn has_names(self) -> bool {
        self.event_name || self.channel
    }
}

/// As on the wire: `day,channel`.
impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.time.map(TimeUnit::as_str),
            self.event_name.then_some("event_name"),
            self.channel.then_some("channel"),
        ];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        f.write_str(&words.join(","))
    }
}

/// How names and channels are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// By their bytes.
    #[default]
    Name,
    /// Most events in the range first, ties by name.
    TotalEvents,
    /// Most users in the range first, ties by name.
    UniqueUsers,
}

/// Number of events and of distinct `user_id`s among them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Events.
    pub total_events: u64,
    /// Distinct users; for a whole range the union of its groups' users, never their sum.
    pub users: UniqueUsers,
}

impl Counts {
    /// Events, and an estimate of their users, which is cut to the number of events.
    pub fn new(total_events: u64, users: UniqueUsers) -> Self {
        Self {
            total_events,
            users: users.at_most(total_events),
        }
    }

    /// Exact numbers of events and users.
    pub fn exactly(total_events: u64, unique_users: u64) -> Self {
        Self {
            total_events,
            users: UniqueUsers::exactly(unique_users),
        }
    }
}

/// Where the numbers come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Source {
    /// From the rollups, and from events only where a rollup does not fit into the range or a group.
    #[default]
    Rollups,
    /// From the events alone: every number is exact.
    Events,
}

impl Source {
    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollups => "rollups",
            Self::Events => "events",
        }
    }
}

/// The answer to a [`MetricsQuery`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricsReport {
    /// Over the whole range.
    pub total: Counts,
    /// Where the numbers come from.
    pub source: Source,
    /// Whether events of some day had to be counted because its rollups do not tell all names and channels apart.
    pub overflowed: bool,
    /// In order of time, then in the order that the query asks for. Empty when the query does not group.
    pub groups: Vec<ReportGroup>,
}

/// One group of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportGroup {
    /// What the group stands for.
    pub key: GroupKey,
    /// What was counted in it.
    pub counts: Counts,
}

/// What a group stands for; `None` for what the query does not group by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupKey {
    /// A bucket of time: the bucket's own bounds, also where the range cuts it.
    pub bucket: Option<TimeBucket>,
    /// An event name.
    pub event_name: Option<String>,
    /// A channel.
    pub channel: Option<String>,
    /// Whether the group joins all names and channels beyond the query's limit; then both are `None`.
    pub is_other: bool,
}
