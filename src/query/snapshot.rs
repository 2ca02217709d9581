//! What a store must provide for answering metrics queries: rows of the rollups and of the events, all from one
//! snapshot.

use std::ops::Range;

use super::memory::{Holding, OutOfMemory};
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::UserKey;

/// Most rollup rows that one query may touch: 10,000 pairs over a day of quarter hours, or thousands of series over a
/// year.
pub const ROWS_MAX: usize = 1_000_000;
/// Bytes that a row takes beside its users and names: the row, and its later forms on the way to its group, with spare
/// room.
pub const ROW_BYTES: usize = 224;

/// A question that would read more than its [`Allowance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryTooLarge {
    /// Too many rows.
    #[error("the question touches too many rollup rows: ask for a shorter range or fewer groups")]
    Rows,
    /// Too much memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// What one question may still read of the rollups.
#[derive(Debug, Clone)]
pub struct Allowance {
    rows: usize,
    memory: Holding,
}

impl Allowance {
    /// An allowance of `rows` rows, whose bytes are taken from `memory`.
    pub fn new(rows: usize, memory: Holding) -> Self {
        Self { rows, memory }
    }

    /// What the question holds.
    pub fn memory(&self) -> &Holding {
        &self.memory
    }

    /// Rows that are left. A store need not read more than one beyond, which shows that there are too many.
    pub fn rows_left(&self) -> usize {
        self.rows
    }

    /// Takes one row with its names and its users.
    ///
    /// # Errors
    ///
    /// [`QueryTooLarge`] when that is more than is left.
    pub fn take(&mut self, names: [Option<&str>; 2], users_bytes: usize) -> Result<(), QueryTooLarge> {
        self.rows = self.rows.checked_sub(1).ok_or(QueryTooLarge::Rows)?;
        let names_bytes: usize = names.into_iter().flatten().map(str::len).sum();
        Ok(self.memory.take(ROW_BYTES + names_bytes + users_bytes)?)
    }
}

/// Which event names, or which channels, a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Only this one.
    One(String),
    /// Each of them, told apart.
    Each,
    /// All of them together.
    All,
}

/// Which series a question reads. The rollups have (one or each, one or each), (one or each, all) and (all, all).
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

/// A part or a delta. Name and channel are `None` where the filter said `All`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollupRow {
    /// Event name.
    pub event_name: Option<String>,
    /// Channel.
    pub channel: Option<String>,
    /// The minute or quarter of an hour that the row is about.
    pub bucket: Bucket,
    /// Number of events.
    pub events: u64,
    /// Their users, as `rollup::UserSet` encodes them.
    pub users: Vec<u8>,
}

/// The sum of a series on a UTC day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayRow {
    /// Event name.
    pub event_name: Option<String>,
    /// Channel.
    pub channel: Option<String>,
    /// The UTC day.
    pub day: Day,
    /// Events and encoded users; `None` when the day is stale and its parts must be read instead.
    pub total: Option<(u64, Vec<u8>)>,
}

/// The key of the users' hashes, and the days of a range that have overflow.
#[derive(Debug, Clone)]
pub struct RollupState {
    /// The key with which users are hashed.
    pub user_key: UserKey,
    /// The days that have pairs without a series, in order.
    pub overflowed: Vec<Day>,
}

/// Events of one user in one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserCount<'a> {
    /// Index of the group: of the last of `starts` that is not after the events.
    pub group: usize,
    /// Name of the events; `None` where the filter said `All`.
    pub event_name: Option<&'a str>,
    /// Channel of the events; `None` where the filter said `All`.
    pub channel: Option<&'a str>,
    /// The user of the events.
    pub user_id: &'a str,
    /// Number of the events.
    pub events: u64,
}

/// Callback that is handed each counted user.
pub type EachUser<'e> = dyn FnMut(UserCount<'_>) -> Result<(), OutOfMemory> + Send + 'e;

/// One consistent view of the database. All ranges are half-open. Every method fails with the store's own error, after
/// which the snapshot must not be used.
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

    /// The deltas that begin in a range. They are always of one name and one channel; what the filter does not tell
    /// apart is `None` in the rows, which are not merged.
    fn deltas(
        &mut self,
        series: &SeriesFilter,
        range: Range<Timestamp>,
    ) -> impl Future<Output = Result<Vec<RollupRow>, Self::Error>> + Send;

    /// State of the rollups of a range; `None` when they are not built yet, and must not be used.
    fn rollup_state(
        &mut self,
        range: Range<Timestamp>,
    ) -> impl Future<Output = Result<Option<RollupState>, Self::Error>> + Send;

    /// Number of events of any name in the parts and deltas that begin in a range: what it would cost to read its
    /// events.
    fn events_stored(&mut self, range: Range<Timestamp>) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// Counts the events in a range by user, and by group: `starts` ascend, and the first one is not after the range.
    /// Each result is handed to `each`, in no order; an error of `each` ends the counting and becomes the store's own
    /// error.
    fn count_users(
        &mut self,
        events: &EventFilter,
        range: Range<Timestamp>,
        starts: &[Timestamp],
        each: &mut EachUser<'_>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// What the question holds.
    fn memory(&self) -> &Holding;

    /// To be called every few milliseconds while what was read is summed up: lets others have the thread, and fails
    /// when the question's time is up or nobody waits for the answer.
    fn pause(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

#[cfg(test)]
mod tests {
    use super::super::memory::QueryMemory;
    use super::*;

    #[test]
    fn an_allowance_is_used_up_by_rows_and_by_bytes() {
        let memory = QueryMemory::new(2 * ROW_BYTES + 107);
        let mut rows = Allowance::new(2, memory.question());
        assert_eq!([rows.take([None; 2], 0), rows.take([None; 2], 0)], [Ok(()), Ok(())]);
        let refused = Err(QueryTooLarge::Rows);
        assert_eq!((rows.rows_left(), rows.take([None; 2], 0)), (0, refused));
        drop(rows);
        let mut bytes = Allowance::new(10, memory.question());
        assert_eq!(
            [bytes.take([Some("view"), Some("web")], 60), bytes.take([None; 2], 40)],
            [Ok(()), Ok(())]
        );
        assert!(matches!(bytes.take([None; 2], 1), Err(QueryTooLarge::Memory(_))));
    }
}
