//! Rebuilding: a day's rollups are thrown away and made afresh from its events, while the server runs.
//!
//! Each day is one transaction under the rollup lock. Everything in it is judged by one snapshot: the events that are counted are
//! exactly those whose deltas [`clear_day`](RollupStore::clear_day) sees and removes, because a flush commits an event and its delta
//! together. A flush that commits meanwhile is in neither, and its deltas stay. So at every instant, and wherever an interruption
//! falls, a day is either old or new, and nothing is lost or counted twice.

use super::recount::{Admitted, Recount, Recounted, sum_up};
use super::{DAY_EXACT_MAX, Day, Part, fold};
use crate::event::Timestamp;
use crate::store::{RollupStore, StoreError};

/// Most (name, channel) pairs that get a series on one day, unless told otherwise: 100 names in 100 channels, each of which may take
/// 96 quarters.
pub const PAIRS_MAX_DEFAULT: usize = 10_000;

/// Series that are written at once: all their parts are some megabytes.
const SERIES_AT_ONCE: usize = 100;
/// Parts in one call of the store.
const PARTS_AT_ONCE: usize = 1_000;

/// What was rebuilt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Days that have events.
    pub days: u64,
    /// Events on them.
    pub events: u64,
}

impl Rebuilt {
    /// Adds a day with so many events.
    pub fn add_day(&mut self, events: u64) {
        self.days += u64::from(events > 0);
        self.events += events;
    }
}

/// Makes a day's rollups afresh, with series for at most `pairs_max` pairs. Returns the number of events; what it wrote is durable by
/// then.
///
/// Fresh events go to minutes, as a flush at `now` would have it, everything else to quarters. Days that have no minutes any more get
/// their sums at once, all others are left to compaction.
///
/// # Errors
///
/// What is wrong with the database. Nothing of the day has changed then, and the store must be dropped.
pub async fn rebuild_day(
    store: &mut dyn RollupStore,
    day: Day,
    pairs_max: usize,
    now: Timestamp,
) -> Result<u64, StoreError> {
    begin(store).await?;
    let minutes_from = Timestamp::from_micros(now.as_micros() - fold::MINUTES_KEPT_MICROS);
    let recounted = recount(store, day, pairs_max, minutes_from).await?;
    store.clear_day(day).await?;
    let (events, overflow) = (recounted.events, recounted.overflow);
    let has_minutes = day.end() > minutes_from;
    write(store, day, recounted, has_minutes).await?;
    if overflow > 0 {
        store.add_overflow(day, overflow).await?;
    }
    store.commit().await?;
    Ok(events)
}

/// Makes the rollups of all days, if that was never done since the tables are there; `None` when there is nothing to do.
///
/// That it was done is noted last, so that a run that was interrupted is done again from the start.
///
/// # Errors
///
/// What is wrong with the database.
pub async fn build_if_needed(
    store: &mut dyn RollupStore,
    pairs_max: usize,
) -> Result<Option<Rebuilt>, StoreError> {
    store.begin_reading().await?;
    let is_needed = store.rebuild_needed().await?;
    store.commit().await?;
    if !is_needed {
        return Ok(None);
    }
    let mut rebuilt = Rebuilt::default();
    for day in days(store, None, None).await? {
        rebuilt.add_day(rebuild_day(store, day, pairs_max, Timestamp::now()).await?);
    }
    begin(store).await?;
    store.set_rebuilt().await?;
    store.commit().await?;
    Ok(Some(rebuilt))
}

/// The days from the first to the last one that the database knows, cut to what was asked for: both ends belong to it.
///
/// # Errors
///
/// What is wrong with the database.
pub async fn days(
    store: &mut dyn RollupStore,
    from: Option<Day>,
    to: Option<Day>,
) -> Result<Vec<Day>, StoreError> {
    store.begin_reading().await?;
    let stored = store.days_stored().await?;
    store.commit().await?;
    let Some((first, last)) = stored else {
        return Ok(Vec::new());
    };
    let first = from.map_or(first, |from| from.max(first));
    let last = to.map_or(last, |to| to.min(last));
    let mut days = Vec::new();
    let mut day = first;
    while day <= last {
        days.push(day);
        day = Day::of(day.end());
    }
    Ok(days)
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
    let mut recount = Recount::new(minutes_from, admitted);
    store
        .read_events(
            day.start()..day.end(),
            &mut |event_name, channel, user_id, timestamp| {
                recount.add(event_name, channel, user_id, timestamp);
            },
        )
        .await?;
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
            parts.extend(buckets.into_iter().map(|(bucket, tally)| Part {
                series,
                bucket,
                tally,
            }));
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
