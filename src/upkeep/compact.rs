//! Compaction: deltas into parts, minutes into quarters, parts into sums of days.
//!
//! Each function here is one transaction under the rollup lock: it removes rows and writes their sum elsewhere, or
//! nothing happens at all. So a crash at any point leaves nothing half done, and after a COMMIT with an unknown outcome
//! nobody has to ask: the next run finds either the rows or their sum.

mod admission;
mod merge;

use std::collections::{BTreeMap, BTreeSet};

pub use self::admission::{Admitted, Room};
use self::merge::Addition;
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day, HOUR_MICROS, QUARTER_MICROS, floor};
use crate::rollup::fold::MINUTES_KEPT_MICROS;
use crate::rollup::{DAY_EXACT_MAX, Delta, SeriesId, SeriesKey, Tally, series_of};
use crate::store::{RollupStore, StoreError};
use crate::support::words::plural;

/// Parts that are read, merged and written at once. A part may take 10 KiB in memory, a delta is mostly much smaller.
const PARTS_AT_ONCE: usize = 1_000;

/// Divisor of the cap on pairs. Up to this share of the cap pairs are admitted unchecked; on a future day unknown pairs
/// get no more than this share.
const UNKNOWN_SHARE_DIVISOR: usize = 10;

/// How much one transaction does. SQLite's flush waits for it, PostgreSQL's does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deltas in one compaction. More would spare writes of parts that several compactions change, but a few thousand
    /// fall into some hundred parts already.
    pub deltas_max: usize,
    /// Parts of a minute in one compaction.
    pub minutes_max: usize,
    /// Days of a series that are looked at in one transaction.
    pub days_max: usize,
    /// Parts that are read for sums of days in one transaction; the day that reaches the limit is still summed up.
    /// About 20 busy series.
    pub day_parts_max: usize,
    /// Pairs of event name and channel that get a series on a day.
    pub pairs_per_day_max: usize,
}

impl Limits {
    /// Limits with this cap on pairs, and sizes that keep a transaction well under a second.
    pub fn new(pairs_per_day_max: usize) -> Self {
        Self {
            deltas_max: 5_000,
            minutes_max: 2_000,
            days_max: 500,
            day_parts_max: 2_000,
            pairs_per_day_max,
        }
    }
}

/// The result of a compaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Another process holds the rollup lock: nothing was done here, and nothing needs to be.
    pub is_locked_elsewhere: bool,
    /// Deltas that became parts.
    pub deltas: usize,
    /// Parts of a minute that became quarters.
    pub minutes: usize,
    /// Whether a limit was reached: there may be more.
    pub has_more: bool,
}

/// The result of summing up days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SummedUp {
    /// Another process holds the rollup lock: nothing was done here, and nothing needs to be.
    pub is_locked_elsewhere: bool,
    /// Days of a series that are summed up.
    pub days: usize,
    /// Whether a limit was reached: there may be more.
    pub has_more: bool,
}

/// The instant before which minutes are merged into quarters. It lies between two quarters, so that a quarter is
/// written once and not again for each of its minutes.
///
/// The hour on top of the time for which the flush writes minutes is for batches that waited in the log: their minutes
/// are not due as soon as they are written.
pub fn quarters_before(now: Timestamp) -> Timestamp {
    let kept_from = now.as_micros() - MINUTES_KEPT_MICROS - HOUR_MICROS;
    floor(Timestamp::from_micros(kept_from), QUARTER_MICROS)
}

/// Merges deltas into parts and old minutes into quarters, in one transaction and up to the limits.
///
/// # Errors
///
/// When the database fails. The connection must be dropped then; the transaction is done as a whole or not at all.
pub async fn compact(store: &mut dyn RollupStore, now: Timestamp, limits: &Limits) -> Result<Compacted, StoreError> {
    if !store.begin(false).await? {
        return Ok(Compacted {
            is_locked_elsewhere: true,
            ..Compacted::default()
        });
    }
    let before = quarters_before(now);
    let mut deltas = store.take_deltas(limits.deltas_max).await?;
    let minutes = store.take_minutes(before, limits.minutes_max).await?;
    let compacted = Compacted {
        is_locked_elsewhere: false,
        deltas: deltas.len(),
        minutes: minutes.len(),
        has_more: deltas.len() >= limits.deltas_max || minutes.len() >= limits.minutes_max,
    };

    deltas.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
    let (admitted, closed) = admit(store, &deltas, limits.pairs_per_day_max, now).await?;
    let mut additions = place(store, &deltas, &admitted, before).await?;
    let mut tallies: Vec<Tally> = deltas.into_iter().map(|delta| delta.tally).collect();
    for minute in minutes {
        additions.push(Addition {
            place: (minute.series, minute.bucket.quarter()),
            tally: tallies.len(),
        });
        tallies.push(minute.tally);
    }
    merge(store, &mut additions, &tallies).await?;
    store.commit().await?;
    for day in closed {
        warn_of_overflow(day, limits.pairs_per_day_max);
    }
    Ok(compacted)
}

/// Sums up stale past days, in one transaction and up to the limits.
///
/// A day counts as past once all of its minutes are due to be quarters, which is at least three hours after its end.
/// Sooner it would be summed up twice, because merging minutes makes it stale again.
///
/// # Errors
///
/// When the database fails. The connection must be dropped then; the transaction is done as a whole or not at all.
pub async fn sum_up_days(store: &mut dyn RollupStore, now: Timestamp, limits: &Limits) -> Result<SummedUp, StoreError> {
    if !store.begin(false).await? {
        return Ok(SummedUp {
            is_locked_elsewhere: true,
            ..SummedUp::default()
        });
    }
    let before = Day::of(quarters_before(now));
    let mut stale = store.stale_days(before, limits.days_max).await?;
    stale.sort_unstable();
    let mut sums = Vec::with_capacity(stale.len());
    let mut parts_read = 0;
    for &(series, day) in &stale {
        if parts_read >= limits.day_parts_max {
            break;
        }
        let parts = store.parts_of_day(series, day).await?;
        parts_read += parts.len();
        sums.push((series, day, merge::total(parts, DAY_EXACT_MAX)));
    }
    if !sums.is_empty() {
        store.put_days(&sums).await?;
    }
    store.commit().await?;
    Ok(SummedUp {
        is_locked_elsewhere: false,
        days: sums.len(),
        has_more: sums.len() < stale.len() || stale.len() >= limits.days_max,
    })
}

/// Sort key of deltas: which pair is admitted first must not depend on the order in which a database returns rows. The
/// day comes first, so that memory holds the series of one day at a time.
fn order(delta: &Delta) -> (Day, &str, &str, Bucket) {
    let Delta {
        event_name,
        channel,
        bucket,
        ..
    } = delta;
    (bucket.day(), event_name, channel, *bucket)
}

/// Decides which series count each delta, and returns the days that this closed as well. Deltas must be in [`order`].
///
/// Each compaction reads again which pairs were admitted before, because another process may have rebuilt a day in
/// between. That is one quick read for each day that the deltas touch, mostly one day.
async fn admit(
    store: &mut dyn RollupStore,
    deltas: &[Delta],
    pairs_max: usize,
    now: Timestamp,
) -> Result<(Vec<Admitted>, Vec<Day>), StoreError> {
    let share = pairs_max / UNKNOWN_SHARE_DIVISOR;
    let mut admitted = Vec::with_capacity(deltas.len());
    let mut closed = Vec::new();
    for of_one_day in deltas.chunk_by(|one, next| one.bucket.day() == next.bucket.day()) {
        let day = of_one_day[0].bucket.day();
        let was_closed = store.overflow_on(day).await?.is_some();
        let mut room = Room::new(store.series_on(day).await?, was_closed, pairs_max);
        // Far from the cap every pair has room.
        if !was_closed && room.pairs() + pairs_in(of_one_day) > share {
            let is_to_come = day > Day::of(now);
            let known = series_before(store, day).await?;
            room.expect(known, if is_to_come { share } else { usize::MAX });
        }
        let mut turned_away = 0;
        for delta in of_one_day {
            let was_open = !room.is_closed();
            let mut outcome = room.admit(&delta.event_name, &delta.channel);
            if was_open && room.is_closed() {
                mark_expected(store, day, room.let_expected_in()).await?;
                outcome = room.admit(&delta.event_name, &delta.channel);
            }
            if outcome != Admitted::Pair {
                turned_away += delta.tally.events;
            }
            admitted.push(outcome);
        }
        if turned_away > 0 {
            store.add_overflow(day, turned_away).await?;
        }
        if room.is_closed() && !was_closed {
            closed.push(day);
        }
    }
    Ok((admitted, closed))
}

/// Number of pairs among deltas, which must be in [`order`].
fn pairs_in(deltas: &[Delta]) -> usize {
    let is_same = |one: &Delta, next: &Delta| (&one.event_name, &one.channel) == (&next.event_name, &next.channel);
    deltas.chunk_by(is_same).count()
}

/// The series that at least two of the three days before have, or one where only one day has any. One day is not
/// enough: invented names must not get room kept on the next day. Three days, because the last of them may have just
/// begun, as when events of tomorrow arrive.
async fn series_before(store: &mut dyn RollupStore, day: Day) -> Result<Vec<SeriesKey>, StoreError> {
    let mut days_of: BTreeMap<SeriesKey, usize> = BTreeMap::new();
    let (mut before, mut days_with_series) = (day, 0);
    for _ in 0..3 {
        before = before.before();
        let series = store.series_on(before).await?;
        days_with_series += usize::from(!series.is_empty());
        for key in series {
            *days_of.entry(key).or_default() += 1;
        }
    }
    let days_min = days_with_series.min(2);
    days_of.retain(|_, days| *days >= days_min);
    Ok(days_of.into_keys().collect())
}

/// Admits pairs on a day on which they have no events yet: a row of the day for each of their series says so from now
/// on.
async fn mark_expected(store: &mut dyn RollupStore, day: Day, pairs: Vec<(String, String)>) -> Result<(), StoreError> {
    if pairs.is_empty() {
        return Ok(());
    }
    let series = pairs.iter().flat_map(|(event_name, channel)| {
        let [pair, name, _] = series_of(event_name, channel);
        [pair, name]
    });
    let keys: BTreeSet<SeriesKey> = series.collect();
    let ids = store.series_ids(&Vec::from_iter(keys)).await?;
    let days: Vec<_> = ids.into_iter().map(|series| (series, day)).collect();
    store.mark_stale(&days).await
}

/// Where each delta is added: to the bucket of every series that counts it.
async fn place(
    store: &mut dyn RollupStore,
    deltas: &[Delta],
    admitted: &[Admitted],
    quarters_before: Timestamp,
) -> Result<Vec<Addition>, StoreError> {
    let mut by_series: BTreeMap<SeriesKey, Vec<(Bucket, usize)>> = BTreeMap::new();
    for (tally, (delta, admitted)) in deltas.iter().zip(admitted).enumerate() {
        let bucket = if delta.bucket.start < quarters_before {
            delta.bucket.quarter()
        } else {
            delta.bucket
        };
        let series = series_of(&delta.event_name, &delta.channel);
        for key in series.into_iter().skip(admitted.first()) {
            by_series.entry(key).or_default().push((bucket, tally));
        }
    }
    if by_series.is_empty() {
        return Ok(Vec::new());
    }
    let (keys, places): (Vec<_>, Vec<_>) = by_series.into_iter().unzip();
    let ids = store.series_ids(&keys).await?;
    assert_eq!(ids.len(), keys.len(), "the store numbers each series");
    let additions = ids.into_iter().zip(places).flat_map(|(series, places)| {
        places.into_iter().map(move |(bucket, tally)| Addition {
            place: (series, bucket),
            tally,
        })
    });
    Ok(additions.collect())
}

/// Adds the tallies to the parts, and marks the days of the parts as stale.
async fn merge(store: &mut dyn RollupStore, additions: &mut [Addition], tallies: &[Tally]) -> Result<(), StoreError> {
    let by_place = merge::by_place(additions);
    for added in by_place.chunks(PARTS_AT_ONCE) {
        let places: Vec<_> = added.iter().map(|additions| additions[0].place).collect();
        let existing = store.parts_at(&places).await?;
        let parts = merge::merged(existing, added, tallies);
        store.put_parts(&parts).await?;
    }
    let touched = |additions: &&[Addition]| {
        let (series, bucket) = additions[0].place;
        (series, bucket.day())
    };
    let days: BTreeSet<(SeriesId, Day)> = by_place.iter().map(touched).collect();
    if !days.is_empty() {
        store.mark_stale(&Vec::from_iter(days)).await?;
    }
    Ok(())
}

/// Logged once for each day, by the compaction that closed it.
fn warn_of_overflow(day: Day, pairs_max: usize) {
    tracing::warn!(
        %day,
        pairs_max,
        "{day} has more than {} of event name and channel: later ones have no rollups on that day, so queries for them count \
         events, which is slow; look for ids in names or channels, or raise --rollup-pairs-max for days to come",
        plural(pairs_max, "pair")
    );
}

#[cfg(test)]
mod tests;
