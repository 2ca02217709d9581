//! What keeping the rollups asks of a database: transactions over deltas, parts and days, held by one process at a
//! time.

use std::ops::Range;

use async_trait::async_trait;

use super::StoreError;
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::users::NewKey;
use crate::rollup::{Delta, Part, SeriesId, SeriesKey, Tally, UserKey};

/// One connection that keeps the rollups. Its calls belong into the order `begin`, anything else, `commit`. After any
/// error it must be dropped, which undoes what was begun.
///
/// Rows come out in no order unless said otherwise. Ranges are half-open and are about where a bucket begins.
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

    /// The numbers of series, in the order of the keys; makes those that are missing.
    async fn series_ids(&mut self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError>;

    /// The parts with these series and buckets, where they exist.
    async fn parts_at(&mut self, keys: &[(SeriesId, Bucket)]) -> Result<Vec<Part>, StoreError>;

    /// Inserts the parts, replacing those that are there.
    async fn put_parts(&mut self, parts: &[Part]) -> Result<(), StoreError>;

    /// Marks days as changed since they were summed up, making rows for those that have none.
    async fn mark_stale(&mut self, days: &[(SeriesId, Day)]) -> Result<(), StoreError>;

    /// Up to `rows_max` stale days before `before`.
    async fn stale_days(&mut self, before: Day, rows_max: usize) -> Result<Vec<(SeriesId, Day)>, StoreError>;

    /// All parts of a series on a day.
    async fn parts_of_day(&mut self, series: SeriesId, day: Day) -> Result<Vec<Part>, StoreError>;

    /// Stores the sums of days, which makes them no longer stale.
    async fn put_days(&mut self, days: &[(SeriesId, Day, Tally)]) -> Result<(), StoreError>;

    /// The (name, channel) pairs and (name, all) series that have parts on a day.
    async fn series_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError>;

    /// Events of a day that found no room for a series of their own; `None` when all did.
    async fn overflow_on(&mut self, day: Day) -> Result<Option<u64>, StoreError>;

    /// Adds to [`RollupStore::overflow_on`].
    async fn add_overflow(&mut self, day: Day, events: u64) -> Result<(), StoreError>;

    /// The first day before `before` that has overflow and is not settled, or has got twice as much since.
    async fn unsettled_day(&mut self, before: Day) -> Result<Option<Day>, StoreError>;

    /// Notes that a day's pairs were chosen when it was over.
    async fn settle(&mut self, day: Day) -> Result<(), StoreError>;

    /// First and last day that has events, parts, deltas or sums; `None` when there is nothing at all. Reads a lot.
    async fn days_stored(&mut self) -> Result<Option<(Day, Day)>, StoreError>;

    /// The days that have parts, deltas, sums or overflow, in order. Reads all of these rows, once.
    async fn days_kept(&mut self) -> Result<Vec<Day>, StoreError>;

    /// Whether any event of a range is stored.
    async fn has_events(&mut self, range: Range<Timestamp>) -> Result<bool, StoreError>;

    /// Hands over every stored event of a range: name, channel, user, time.
    async fn read_events(
        &mut self,
        range: Range<Timestamp>,
        // `for`: left out, async_trait would make the lifetime one of the call.
        each: &mut (dyn for<'e> FnMut(&'e str, &'e str, &'e str, Timestamp) + Send),
    ) -> Result<(), StoreError>;

    /// Up to `pairs_max` (name, channel) pairs with most stored events on a day, most first, ties in the order of their
    /// names' bytes.
    async fn pairs_on(&mut self, day: Day, pairs_max: usize) -> Result<Vec<SeriesKey>, StoreError>;

    /// All parts of a day, with what their series count.
    async fn parts_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, Part)>, StoreError>;

    /// All sums of a day that are not stale, with what their series count.
    async fn sums_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, SeriesId, Tally)>, StoreError>;

    /// What those series count whose sum of a day is stale.
    async fn stale_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError>;

    /// All deltas of a day, which stay where they are.
    async fn deltas_on(&mut self, day: Day) -> Result<Vec<Delta>, StoreError>;

    /// Removes everything that the rollups hold of a day: parts, sums, the deltas that this snapshot sees, overflow.
    async fn clear_day(&mut self, day: Day) -> Result<(), StoreError>;

    /// What the database hashes user ids with.
    async fn user_key(&mut self) -> Result<UserKey, StoreError>;

    /// Makes a secret key where there is none, and notes that all rollups must be made afresh. No flush that knew the
    /// old one is under way when this transaction is committed.
    async fn make_user_key(&mut self) -> Result<NewKey, StoreError>;

    /// Whether events were stored before there were rollups and are not counted yet.
    async fn rebuild_needed(&mut self) -> Result<bool, StoreError>;

    /// The first day of those events that is not counted yet; `None` when not one is.
    async fn build_from(&mut self) -> Result<Option<Day>, StoreError>;

    /// Notes that all days before this one are counted.
    async fn set_build_from(&mut self, day: Day) -> Result<(), StoreError>;

    /// Notes that all events are counted.
    async fn set_rebuilt(&mut self) -> Result<(), StoreError>;
}
