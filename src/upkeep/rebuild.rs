//! Rebuilding: a day's rollups are removed and counted again from its events, while the server runs.
//!
//! Each day is one transaction under the rollup lock. Everything in it reads one snapshot: the events that are counted
//! are exactly those whose deltas [`clear_day`](RollupStore::clear_day) sees and removes, because a flush commits an
//! event and its delta together. A flush that commits meanwhile is in neither, and its deltas stay. So at any instant,
//! and after any interruption, a day's rollups are the old or the new ones, and nothing is lost or counted twice.
//!
//! A day with rollups and without a single event is left alone, unless [`Rules::forget`] is set: its events were
//! removed, and the rollups are all that is left of the day.

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

/// Default of `--rollup-pairs-max`, the most (name, channel) pairs that get a series on one day: 100 names in 100
/// channels, each pair with up to 96 quarters.
pub const PAIRS_MAX_DEFAULT: usize = 10_000;

/// Series that are written at once: their parts take some megabytes of memory.
const SERIES_AT_ONCE: usize = 100;
/// Shortest rest after a day: many days have hardly any events, and their transactions would follow each other without
/// a gap.
const REST_MIN: Duration = Duration::from_millis(20);
/// Longest rest after a day: a waiting flush retries every 100 ms.
const REST_MAX: Duration = Duration::from_secs(1);
/// Parts in one call of the store.
const PARTS_AT_ONCE: usize = 1_000;

/// How days are rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Pairs of event name and channel that get a series on a day.
    pub pairs_max: usize,
    /// Whether to remove the rollups of a day whose events are all gone. Off by default: somebody may have removed old
    /// events to save space, and such a day's rollups are the only history that it has.
    pub forget: bool,
}

impl Rules {
    /// Rules with this cap on pairs; days without events keep their rollups.
    pub fn new(pairs_max: usize) -> Self {
        Self {
            pairs_max,
            forget: false,
        }
    }
}

/// The outcome of rebuilding one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuiltDay {
    /// The day has rollups for this number of events, which may be 0.
    Rebuilt(u64),
    /// The day has rollups but no events any more, and was left alone.
    Kept,
    /// The day had rollups but no events any more: the rollups were removed.
    Forgotten,
}

/// The outcome of rebuilding several days.
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
    /// Adds the outcome of one day.
    pub fn add(&mut self, day: RebuiltDay) {
        match day {
            RebuiltDay::Rebuilt(events) => self.add_day(events),
            RebuiltDay::Kept => self.kept += 1,
            RebuiltDay::Forgotten => self.forgotten += 1,
        }
    }

    /// Adds a rebuilt day with this number of events; a day without events counts for nothing.
    pub fn add_day(&mut self, events: u64) {
        self.days += u64::from(events > 0);
        self.events += events;
    }
}

/// Rebuilds a day's rollups. They are committed when it returns.
///
/// Fresh events go to minutes, as in a flush at `now`, all others to quarters. Days too old for minutes get their sums
/// at once; the sums of other days are left to the keeper.
///
/// # Errors
///
/// When the database fails. Nothing of the day has changed then, and the store must be dropped.
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

/// As [`rebuild_day`], then rests for as long as that took, within bounds. In SQLite a rebuild is the writer nearly all
/// the time, and a waiting flush retries only now and again; without the rest it might never get its turn.
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

/// Most events of a day that the keeper of a running server rebuilds: some ten megabytes and a second, even where each
/// event has a pair of its own.
const SETTLE_EVENTS_MAX: u64 = 100_000;

/// The outcome of settling a day with overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The day was rebuilt: the pairs with most events have series.
    Rebuilt(Day),
    /// The day has too many events to be rebuilt here; `rollup rebuild` does it.
    LeftAlone(Day),
}

/// Rebuilds one past day that had more pairs than the cap, so that the pairs with most events have series; `None` if
/// there is no such day.
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

/// A day's transaction without its begin and commit.
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
        // A day that may still get many events is not settled: other pairs may have most events in the end.
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

/// Builds the rollups of all days, if the database notes that they are still to be built; `None` when there is nothing
/// to do.
///
/// Each day's transaction notes where the next run continues if this one is interrupted, and the last transaction notes
/// that all is done. Returns what this run did, without earlier ones.
///
/// # Errors
///
/// When the database fails.
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

/// Gives a database of an older release its own key for hashing users, and notes that all its rollups have to be
/// rebuilt: by the caller, or by `migrate up` if the caller is interrupted. Until then queries count events.
///
/// # Errors
///
/// When the database fails; nothing has changed then.
pub async fn make_user_key(store: &mut dyn RollupStore) -> Result<NewKey, StoreError> {
    begin(store).await?;
    let made = store.make_user_key().await?;
    store.commit().await?;
    Ok(made)
}

/// Notes in the database that all days are rebuilt.
///
/// # Errors
///
/// When the database fails.
pub async fn set_rebuilt(store: &mut dyn RollupStore) -> Result<(), StoreError> {
    begin(store).await?;
    store.set_rebuilt().await?;
    store.commit().await
}

/// The days from `from` to `to`, both included, that have events or rollups.
///
/// A database may hold a few events of decades ago, so the empty time between is not searched day by day.
///
/// # Errors
///
/// When the database fails.
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

/// Adds the days with events of a range, which must begin and end at midnight UTC. Doubles the stretch that it looks at
/// while stretches are empty, and halves it when one has events.
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
            "another process is changing the rollups; try again".to_owned(),
        ))
    }
}

/// Counts a day. The database chooses the pairs with most events, so memory never holds many more than get a series.
async fn recount(
    store: &mut dyn RollupStore,
    day: Day,
    pairs_max: usize,
    minutes_from: Timestamp,
) -> Result<Recounted, StoreError> {
    // One more than the cap shows whether all pairs fit.
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
