//! The product's question and its answer: totals and unique users of one event name over a half-open range of time.
//!
//! Both are plain values. `http::query` translates them from and to the wire, `store` answers them, and rollups will answer the
//! same type later.

pub mod snapshot;

use crate::event::Timestamp;

/// Most groups of one answer: more than a year of hours, and as much JSON as a client should be made to hold at once (channel names
/// included, a few megabytes).
pub const GROUPS_MAX: usize = 10_000;
/// Microseconds in an hour.
pub const HOUR_MICROS: i64 = 3_600_000_000;
/// Microseconds in a day.
pub const DAY_MICROS: i64 = 24 * HOUR_MICROS;

/// What to count. Invariant: `from <= to`, checked where the query is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsQuery {
    /// Only events of this name.
    pub event_name: String,
    /// First instant of the range.
    pub from: Timestamp,
    /// First instant after the range.
    pub to: Timestamp,
    /// How to split the range, if at all.
    pub group_by: Option<GroupBy>,
}

/// How the range is split into groups. Days and hours are UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// One group a UTC day.
    Day,
    /// One group an hour.
    Hour,
    /// One group a channel.
    Channel,
}

impl GroupBy {
    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Channel => "channel",
        }
    }

    /// Width of the time bucket in microseconds; `None` for a grouping that is not by time.
    pub fn bucket_micros(self) -> Option<i64> {
        match self {
            Self::Day => Some(DAY_MICROS),
            Self::Hour => Some(HOUR_MICROS),
            Self::Channel => None,
        }
    }
}

/// Number of events and of distinct `user_id`s among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub total_events: u64,
    /// Distinct users: of a whole range a union, never the sum of its groups.
    pub unique_users: u64,
}

/// The answer to a [`MetricsQuery`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsReport {
    /// Over the whole range.
    pub total: Counts,
    /// Groups that have events, by time or by channel name (bytewise). Empty when the query does not group.
    pub groups: Vec<Group>,
}

/// One group of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What the group stands for.
    pub key: GroupKey,
    /// What was counted in it.
    pub counts: Counts,
}

/// What a group stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupKey {
    /// A bucket of time, `[start, end)`: the bucket's own bounds, also where the range cuts it.
    Bucket {
        /// First instant of the bucket.
        start: Timestamp,
        /// First instant after it.
        end: Timestamp,
    },
    /// A channel.
    Channel(String),
}
