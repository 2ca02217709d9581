//! Rebuilding: a day's rollups are thrown away and made afresh from its events, while the server runs.
//!
//! Each day is one transaction under the rollup lock. Everything in it is judged by one snapshot: the events that are
//! counted are exactly those whose deltas [`clear_day`](RollupStore::clear_day) sees and removes, because a flush
//! commits an event and its delta together. A flush that commits meanwhile is in neither, and its deltas stay. So at
//! every instant, and wherever an interruption falls, a day is either old or new, and nothing is lost or counted twice.
//!
//! A day with rollups and without a single event is left alone, unless told otherwise: its events were removed, and the
//! rollups are all that is left of it.

use std::ops::Range;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::compact::quarters_before;
use super::recount::{Admitted, Recount, Recounted, sum_up};
use crate::event::Timestamp;
use crate::event::bucket::{DAY_MICROS, Day};
use crate::rollup::users::NewKey;
use crate::rollup::{DAY_EXACT_MAX, Part, SeriesKey, fold};
use crate::store::{RollupStore, StoreError};

/// Most (name, channel) pairs that get a series on one day, unless told otherwise: 100 names in 100 channels, each of
/// which may take 96 quarters.
pub const PAIRS_MAX_DEFAULT: usize = 10_000;

/// Series that are written at once: all their parts are some megabytes.
const SERIES_AT_ONCE: usize = 100;
/// Shortest rest after a day: many days have hardly any events, and their transactions would follow each other without
/// a gap.
const REST_MIN: Duration = Duration::from_millis(20);
/// Longest rest after a day: a flush looks every 100 ms.
const REST_MAX: Duration = Duration::from_secs(1);
/// Parts in one call of the store.
const PARTS_AT_ONCE: usize = 1_000;

/// How days are rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Pairs of event name and channel that get a series on a day.
    pub pairs_max: usize,
    /// Whether the rollups of a day go whose events are all gone. They are the only history of such a day: somebody
    /// removed old events to save room, and wants to keep their numbers.
    pub forget: bool,
}

impl Rules {
    /// With a cap on pairs; nothing is forgotten.
    pub fn new(pairs_max: usize) -> Self {
        Self {
            pairs_max,
            forget: false,
        }
    }
}

/// What became of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuiltDay {
    /// It has rollups for so many events, maybe none.
    Rebuilt(u64),
    /// It has rollups, but no events any more, and was left alone.
    Kept,
    /// It had rollups, but no events any more, and has neither now.
    Forgotten,
}

/// What was rebuilt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Days that have events.
    pub days: u64,
    /// Events on them.
    pub events: u64,
    /// Days that were left alone because their events are gone.
    pub kept: u64,
    /// Days whose rollups were removed because their events are gone.
    pub forgotten: u64,
}

impl Rebuilt {
    /// Adds what became of a day.
    pub fn add(&mut self, day: RebuiltDay) {
        match day {
            RebuiltDay::Rebuilt(events) => self.add_day(events),
            RebuiltDay::Kept => self.kept += 1,
            RebuiltDay::Forgotten => self.forgotten += 1,
        }
    }

    /// Adds a day with so many events.
    pub fn add_day(&mut self, events: u64) {
        self.days += u64::from(events > 0);
        self.events += events;
    }
}

/// Makes a day's rollups afresh. What it wrote is durable when it returns.
///
/// Fresh events go to minutes, as a flush at `now` would have it, everything else to quarters. Days that have no
/// minutes any more get their sums at once, all others are left to compaction.
///
/// # Errors
///
/// What is wrong with the database. Nothing of the day has changed then, and the store must be dropped.
pub async fn rebuild_day(
    store: &mut dyn RollupStore,
    day: Day,
    rules: Rules,
    now: Timestamp,
) -> Result<RebuiltDay, StoreError> {
    begin(store).await?;
    let rebuilt = rebuild(store, day, rules, now).await?;
    store.commit().await?;
    Ok(rebuilt)
}

/// As [`rebuild_day`], then rests for as long as that took. In SQLite a rebuild is the only writer most of its time,
/// and a flush that waits looks only now and again whether it is its turn; without a rest it might never be.
///
/// # Errors
///
/// As [`rebuild_day`].
pub async fn rebuild_day_and_rest(
    store: &mut dyn RollupStore,
    day: Day,
    rules: Rules,
) -> Result<RebuiltDay, StoreError> {
    let began_at = Instant::now();
    let rebuilt = rebuild_day(store, day, rules, Timestamp::now()).await?;
    sleep(began_at.elapsed().clamp(REST_MIN, REST_MAX)).await;
    Ok(rebuilt)
}

/// Most events of a day that is rebuilt beside everything else: some ten megabytes and a second, also where each event
/// has a pair of its own.
const SETTLE_EVENTS_MAX: u64 = 100_000;

/// What became of a day with overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It was rebuilt: the pairs with most events have series.
    Rebuilt(Day),
    /// It has too many events for that; `rollup rebuild` does it.
    LeftAlone(Day),
}

/// Rebuilds one day that had more pairs than the cap and is over, so that those with most events have series; `None` if
/// there is none.
///
/// # Errors
///
/// As [`rebuild_day`].
pub async fn settle_one_day(
    store: &mut dyn RollupStore,
    pairs_max: usize,
    now: Timestamp,
) -> Result<Option<Settled>, StoreError> {
    store.begin_reading().await?;
    let day = store.unsettled_day(Day::of(quarters_before(now))).await?;
    store.commit().await?;
    let Some(day) = day else {
        return Ok(None);
    };
    begin(store).await?;
    let mut events = 0;
    for series in store.series_ids(&[SeriesKey::EVERYTHING]).await? {
        let parts = store.parts_of_day(series, day).await?;
        events += parts.iter().map(|part| part.tally.events).sum::<u64>();
    }
    let settled = if events > SETTLE_EVENTS_MAX {
        store.settle(day).await?;
        Settled::LeftAlone(day)
    } else {
        rebuild(store, day, Rules::new(pairs_max), now).await?;
        Settled::Rebuilt(day)
    };
    store.commit().await?;
    Ok(Some(settled))
}

/// All of a day's transaction but its beginning and its end.
async fn rebuild(
    store: &mut dyn RollupStore,
    day: Day,
    rules: Rules,
    now: Timestamp,
) -> Result<RebuiltDay, StoreError> {
    let minutes_from = Timestamp::from_micros(now.as_micros() - fold::MINUTES_KEPT_MICROS);
    let recounted = recount(store, day, rules.pairs_max, minutes_from).await?;
    let are_events_gone = recounted.events == 0 && has_rollups(store, day).await?;
    let has_minutes = day.end() > minutes_from;
    if are_events_gone && !rules.forget {
        store.settle(day).await?;
        return Ok(RebuiltDay::Kept);
    }
    store.clear_day(day).await?;
    if are_events_gone {
        return Ok(RebuiltDay::Forgotten);
    }
    let (events, overflow) = (recounted.events, recounted.overflow);
    write(store, day, recounted, has_minutes).await?;
    if overflow > 0 {
        store.add_overflow(day, overflow).await?;
        // Of a day that goes on nobody knows yet who will have most events.
        if !has_minutes {
            store.settle(day).await?;
        }
    }
    Ok(RebuiltDay::Rebuilt(events))
}

/// Whether rollups count any event of a day.
async fn has_rollups(store: &mut dyn RollupStore, day: Day) -> Result<bool, StoreError> {
    Ok(!store.parts_on(day).await?.is_empty()
        || !store.deltas_on(day).await?.is_empty()
        || store.sums_on(day).await?.iter().any(|(_, _, sum)| sum.events > 0))
}

/// Makes the rollups of all days, if that was never done since the tables are there; `None` when there is nothing to
/// do.
///
/// Each day's transaction notes where the next run goes on should this one be interrupted, and the last one that all is
/// done. What is returned is what this run did.
///
/// # Errors
///
/// What is wrong with the database.
pub async fn build_if_needed(store: &mut dyn RollupStore, pairs_max: usize) -> Result<Option<Rebuilt>, StoreError> {
    store.begin_reading().await?;
    let is_needed = store.rebuild_needed().await?;
    let from = store.build_from().await?;
    store.commit().await?;
    if !is_needed {
        return Ok(None);
    }
    let mut rebuilt = Rebuilt::default();
    let rules = Rules::new(pairs_max);
    for day in days(store, from, None).await? {
        begin(store).await?;
        rebuilt.add(rebuild(store, day, rules, Timestamp::now()).await?);
        store.set_build_from(Day::of(day.end())).await?;
        store.commit().await?;
    }
    set_rebuilt(store).await?;
    Ok(Some(rebuilt))
}

/// Gives a database of the releases before a key of its own for the users' hashes, and marks all its rollups as to be
/// made afresh: the caller does so, or, should it be interrupted, `migrate up`. Until then queries count events.
///
/// # Errors
///
/// What is wrong with the database; nothing has changed then.
pub async fn make_user_key(store: &mut dyn RollupStore) -> Result<NewKey, StoreError> {
    begin(store).await?;
    let made = store.make_user_key().await?;
    store.commit().await?;
    Ok(made)
}

/// Notes that all days are rebuilt.
///
/// # Errors
///
/// What is wrong with the database.
pub async fn set_rebuilt(store: &mut dyn RollupStore) -> Result<(), StoreError> {
    begin(store).await?;
    store.set_rebuilt().await?;
    store.commit().await
}

/// The days that have events or rollups, cut to what was asked for: both ends belong to it.
///
/// A database may hold a few events of decades ago, so what lies between is not looked at day by day.
///
/// # Errors
///
/// What is wrong with the database.
pub async fn days(store: &mut dyn RollupStore, from: Option<Day>, to: Option<Day>) -> Result<Vec<Day>, StoreError> {
    store.begin_reading().await?;
    let days = find_days(store, from, to).await?;
    store.commit().await?;
    Ok(days)
}

async fn find_days(store: &mut dyn RollupStore, from: Option<Day>, to: Option<Day>) -> Result<Vec<Day>, StoreError> {
    let Some((first, last)) = store.days_stored().await? else {
        return Ok(Vec::new());
    };
    let first = from.map_or(first, |from| from.max(first));
    let end = to.map_or(last, |to| to.min(last)).end();
    let kept = store.days_kept().await?;
    let kept = kept.into_iter().filter(|day| *day >= first && day.start() < end);
    let mut days = Vec::new();
    let mut from = first.start();
    for day in kept {
        days_with_events(store, from..day.start(), &mut days).await?;
        days.push(day);
        from = day.end();
    }
    days_with_events(store, from..end, &mut days).await?;
    Ok(days)
}

/// Adds the days of a range, which begins and ends with a day, that have events. Looks at ever longer stretches while
/// they are empty, and at ever shorter ones once something is there.
async fn days_with_events(
    store: &mut dyn RollupStore,
    range: Range<Timestamp>,
    days: &mut Vec<Day>,
) -> Result<(), StoreError> {
    let mut from = range.start.as_micros();
    let end = range.end.as_micros();
    let mut length = DAY_MICROS;
    while from < end {
        let to = end.min(from.saturating_add(length));
        let stretch = Timestamp::from_micros(from)..Timestamp::from_micros(to);
        if !store.has_events(stretch).await? {
            from = to;
            length = length.saturating_mul(2);
        } else if to - from > DAY_MICROS {
            length = (to - from) / DAY_MICROS / 2 * DAY_MICROS;
        } else {
            days.push(Day::of(Timestamp::from_micros(from)));
            from = to;
            length = DAY_MICROS;
        }
    }
    Ok(())
}

async fn begin(store: &mut dyn RollupStore) -> Result<(), StoreError> {
    if store.begin(true).await? {
        Ok(())
    } else {
        Err(StoreError::Unavailable(
            "another process keeps the rollups just now; try again".to_owned(),
        ))
    }
}

/// Counts a day. The database chooses among the pairs, so that memory never holds more of them than get a series.
async fn recount(
    store: &mut dyn RollupStore,
    day: Day,
    pairs_max: usize,
    minutes_from: Timestamp,
) -> Result<Recounted, StoreError> {
    // One more tells whether there is room for all.
    let mut pairs = store.pairs_on(day, pairs_max.saturating_add(1)).await?;
    let admitted = (pairs.len() > pairs_max).then(|| {
        pairs.truncate(pairs_max);
        let mut admitted = Admitted::default();
        pairs.iter().for_each(|pair| admitted.insert(pair));
        admitted
    });
    drop(pairs);
    let mut recount = Recount::new(minutes_from, store.user_key().await?, admitted);
    recount.read(store, day).await?;
    Ok(recount.finish())
}

async fn write(
    store: &mut dyn RollupStore,
    day: Day,
    recounted: Recounted,
    has_minutes: bool,
) -> Result<(), StoreError> {
    let mut series = recounted.series.into_iter();
    loop {
        let some: Vec<_> = series.by_ref().take(SERIES_AT_ONCE).collect();
        if some.is_empty() {
            return Ok(());
        }
        let (keys, buckets): (Vec<_>, Vec<_>) = some.into_iter().unzip();
        let ids = store.series_ids(&keys).await?;
        let (mut parts, mut sums) = (Vec::new(), Vec::new());
        for (&series, buckets) in ids.iter().zip(buckets) {
            if !has_minutes {
                sums.push((series, day, sum_up(buckets.values(), DAY_EXACT_MAX)));
            }
            parts.extend(
                buckets
                    .into_iter()
                    .map(|(bucket, tally)| Part { series, bucket, tally }),
            );
        }
        for parts in parts.chunks(PARTS_AT_ONCE) {
            store.put_parts(parts).await?;
        }
        if has_minutes {
            let days: Vec<_> = ids.iter().map(|&series| (series, day)).collect();
            store.mark_stale(&days).await?;
        } else {
            store.put_days(&sums).await?;
        }
    }
}
