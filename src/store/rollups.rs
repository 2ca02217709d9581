//! What keeping the rollups needs from a database: transactions over deltas, parts and days, held by one process at a
//! time.

use std::ops::Range;

use async_trait::async_trait;

use super::StoreError;
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::users::NewKey;
use crate::rollup::{Delta, Part, SeriesId, SeriesKey, Tally, UserKey};

/// One connection that keeps the rollups. The order of calls is `begin`, anything else, `commit`. After any error the
/// connection must be dropped, which rolls the transaction back.
///
/// Rows come out in no order unless said otherwise. Ranges are half-open; a bucket is in a range if it begins there.
#[async_trait]
pub trait RollupStore: Send {
    /// Whether the database has closed the connection while nobody used it, as far as that is known without asking.
    fn is_closed(&self) -> bool {
        false
    }

    /// Begins a transaction that holds the rollup lock: nobody else changes parts and days until it ends. Flushes go on
    /// and add deltas; what it reads is one snapshot.
    ///
    /// Returns `false`, with nothing begun, when another process holds the lock and `wait` is not set.
    async fn begin(&mut self, wait: bool) -> Result<bool, StoreError>;

    /// Begins a read-only transaction without the lock; what it reads is one snapshot.
    async fn begin_reading(&mut self) -> Result<(), StoreError>;

    /// Ends the transaction. On return what it changed is durable.
    async fn commit(&mut self) -> Result<(), StoreError>;

    /// Removes and returns up to `rows_max` deltas.
    async fn take_deltas(&mut self, rows_max: usize) -> Result<Vec<Delta>, StoreError>;

    /// Removes and returns up to `rows_max` parts of a minute that begin before an instant, oldest first.
    async fn take_minutes(&mut self, before: Timestamp, rows_max: usize) -> Result<Vec<Part>, StoreError>;

    /// The numbers of series, in the order of the keys; makes missing series.
    async fn series_ids(&mut self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError>;

    /// The parts with these series and buckets, where they exist.
    async fn parts_at(&mut self, keys: &[(SeriesId, Bucket)]) -> Result<Vec<Part>, StoreError>;

    /// Inserts the parts, replacing those that are there.
    async fn put_parts(&mut self, parts: &[Part]) -> Result<(), StoreError>;

    /// Marks days as changed since they were summed up; makes rows for days that have none.
    async fn mark_stale(&mut self, days: &[(SeriesId, Day)]) -> Result<(), StoreError>;

    /// Up to `rows_max` stale days before `before`.
    async fn stale_days(&mut self, before: Day, rows_max: usize) -> Result<Vec<(SeriesId, Day)>, StoreError>;

    /// All parts of a series on a day.
    async fn parts_of_day(&mut self, series: SeriesId, day: Day) -> Result<Vec<Part>, StoreError>;

    /// Stores the sums of days, which makes them no longer stale.
    async fn put_days(&mut self, days: &[(SeriesId, Day, Tally)]) -> Result<(), StoreError>;

    /// The (name, channel) pairs and (name, all) series that have parts on a day.
    async fn series_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError>;

    /// Number of events of a day whose (name, channel) pair got no series of its own; `None` if all pairs got one.
    async fn overflow_on(&mut self, day: Day) -> Result<Option<u64>, StoreError>;

    /// Adds events to the count of [`RollupStore::overflow_on`].
    async fn add_overflow(&mut self, day: Day, events: u64) -> Result<(), StoreError>;

    /// The first day before `before` that has overflow and is not settled, or whose overflow has more than doubled
    /// since.
    async fn unsettled_day(&mut self, before: Day) -> Result<Option<Day>, StoreError>;

    /// Notes that a day's pairs were chosen after the day had ended.
    async fn settle(&mut self, day: Day) -> Result<(), StoreError>;

    /// First and last day that has events, parts, deltas or sums; `None` when there is nothing at all. Reads many rows.
    async fn days_stored(&mut self) -> Result<Option<(Day, Day)>, StoreError>;

    /// The days that have parts, deltas, sums or overflow, in order. Reads all of these rows, once.
    async fn days_kept(&mut self) -> Result<Vec<Day>, StoreError>;

    /// Whether any event of a range is stored.
    async fn has_events(&mut self, range: Range<Timestamp>) -> Result<bool, StoreError>;

    /// Hands over every stored event of a range: name, channel, user, time.
    async fn read_events(
        &mut self,
        range: Range<Timestamp>,
        // Without `for`, async_trait would make the lifetime that of the call.
        each: &mut (dyn for<'e> FnMut(&'e str, &'e str, &'e str, Timestamp) + Send),
    ) -> Result<(), StoreError>;

    /// Up to `pairs_max` (name, channel) pairs with most stored events on a day, most first, ties in the order of their
    /// names' bytes.
    async fn pairs_on(&mut self, day: Day, pairs_max: usize) -> Result<Vec<SeriesKey>, StoreError>;

    /// All parts of a day, each with the key of its series.
    async fn parts_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, Part)>, StoreError>;

    /// All sums of a day that are not stale, each with the key of its series.
    async fn sums_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, SeriesId, Tally)>, StoreError>;

    /// The keys of the series whose sum of a day is stale.
    async fn stale_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError>;

    /// All deltas of a day; does not remove them.
    async fn deltas_on(&mut self, day: Day) -> Result<Vec<Delta>, StoreError>;

    /// Removes everything that the rollups hold of a day: parts, sums, the deltas that this snapshot sees, overflow.
    async fn clear_day(&mut self, day: Day) -> Result<(), StoreError>;

    /// The key with which the database's user ids are hashed.
    async fn user_key(&mut self) -> Result<UserKey, StoreError>;

    /// Makes a secret key if there is none, and notes that all rollups must be rebuilt. When this transaction is
    /// committed, no flush that read the old key is under way.
    async fn make_user_key(&mut self) -> Result<NewKey, StoreError>;

    /// Whether rollups must be built from stored events: events older than the rollups, or a new user key.
    async fn rebuild_needed(&mut self) -> Result<bool, StoreError>;

    /// The first day that is not rebuilt yet; `None` if no day is.
    async fn build_from(&mut self) -> Result<Option<Day>, StoreError>;

    /// Notes that all days before this one are rebuilt.
    async fn set_build_from(&mut self, day: Day) -> Result<(), StoreError>;

    /// Notes that all days are rebuilt.
    async fn set_rebuilt(&mut self) -> Result<(), StoreError>;
}
