//! What answering a metrics query asks of a store: rows of the rollups and of the events, all from one snapshot.

use std::ops::Range;

use crate::event::Timestamp;
use crate::rollup::{Bucket, Day};

/// Which values of a name a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// This one.
    One(String),
    /// Each of them, told apart.
    Each,
    /// All of them together.
    All,
}

/// Which series a question reads. Kept are (one or each, one or each), (one or each, all) and (all, all).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesFilter {
    /// Event names.
    pub event_names: Names,
    /// Channels.
    pub channels: Names,
}

/// Which events a question counts one by one, and how far they are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter {
    /// Event names; `All` and `Each` take every event, `Each` and `One` say its name.
    pub event_names: Names,
    /// Channels, likewise.
    pub channels: Names,
    /// Only events of this campaign.
    pub campaign_id: Option<String>,
}

/// A part or a delta. Its names are what tells it apart: `None` where the filter said `All`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollupRow {
    /// Event name.
    pub event_name: Option<String>,
    /// Channel.
    pub channel: Option<String>,
    /// When.
    pub bucket: Bucket,
    /// Number of events.
    pub events: u64,
    /// Their users, as `rollup::UserSet` encodes them.
    pub users: Vec<u8>,
}

/// A series on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayRow {
    /// Event name.
    pub event_name: Option<String>,
    /// Channel.
    pub channel: Option<String>,
    /// Which day.
    pub day: Day,
    /// Events and encoded users; `None` when the day is stale and its parts must be read instead.
    pub total: Option<(u64, Vec<u8>)>,
}

/// Events of one user in one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserCount<'a> {
    /// Index of the last start that is not after the events.
    pub group: usize,
    /// Their name, where it is told.
    pub event_name: Option<&'a str>,
    /// Their channel, where it is told.
    pub channel: Option<&'a str>,
    /// Their user.
    pub user_id: &'a str,
    /// How many they are.
    pub events: u64,
}

/// One consistent view of the database. All ranges are half-open. Every method fails with the store's own error, and after that the
/// snapshot is of no use.
pub trait Snapshot: Send {
    /// The store's own error.
    type Error: Send;

    /// The days of the series that begin in a range. A series that has no row for a day has no parts in it.
    fn days(
        &mut self,
        series: &SeriesFilter,
        range: Range<Timestamp>,
    ) -> impl Future<Output = Result<Vec<DayRow>, Self::Error>> + Send;

    /// The parts of the series that begin in one of the ranges.
    fn parts(
        &mut self,
        series: &SeriesFilter,
        ranges: &[Range<Timestamp>],
    ) -> impl Future<Output = Result<Vec<RollupRow>, Self::Error>> + Send;

    /// The deltas that begin in a range. They are always of one name and one channel; what the filter does not tell apart is `None` in
    /// the rows, which are not merged.
    fn deltas(
        &mut self,
        series: &SeriesFilter,
        range: Range<Timestamp>,
    ) -> impl Future<Output = Result<Vec<RollupRow>, Self::Error>> + Send;

    /// The days in a range that have pairs without a series, in order.
    fn overflowed_days(
        &mut self,
        range: Range<Timestamp>,
    ) -> impl Future<Output = Result<Vec<Day>, Self::Error>> + Send;

    /// Number of events of any name in the parts and deltas that begin in a range: what it would cost to read its events.
    fn events_stored(
        &mut self,
        range: Range<Timestamp>,
    ) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// Counts the events in a range by user, and by group: `starts` ascend, and the first one is not after the range. Each result is
    /// handed to `each`, in no order.
    fn count_users(
        &mut self,
        events: &EventFilter,
        range: Range<Timestamp>,
        starts: &[Timestamp],
        each: &mut (dyn FnMut(UserCount<'_>) + Send),
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
