//! Verifying: each day's events are counted again and compared with the rollups, in one snapshot.
//!
//! The rules that must hold, and that queries rely on:
//!
//! * A series' parts and the deltas that belong to it, merged by the quarter, have as many events as the quarter, by
//!   the same users. The sets are compared byte by byte ([`recount`](super::recount) says why they must be equal).
//! * Exactly those series that have parts on a day have a row for the day's sum, and a sum that is not stale equals
//!   that of the parts.
//! * On a day with overflow, pairs without a row for the day have no series, and the overflow counts exactly their
//!   compacted events; pairs with a row may lack parts, because they are admitted before their events come. A name
//!   without a series has none of its pairs admitted. On any other day every pair has a series, if only one made of
//!   deltas.
//!
//! A day with rollups and not one event is one difference of its own: most likely its events were removed to save
//! space.

mod difference;

use std::collections::{BTreeMap, BTreeSet};

pub use self::difference::{Difference, Fault, RollupPlace};
use super::recount::{Admitted, Buckets, Recount, Recounted, Sum};
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::{
    DAY_EXACT_MAX, Delta, PART_EXACT_MAX, Part, SeriesId, SeriesKey, Tally, UserSet, UserUnion, series_of,
};
use crate::store::{RollupStore, StoreError};

/// The result of verifying a day.
#[derive(Debug)]
pub struct Verdict {
    /// Number of events.
    pub events: u64,
    /// Every rollup that is wrong: first those of the day as a whole, then the buckets by series and time.
    pub differences: Vec<Difference>,
}

/// All rollups of a day, as stored.
#[derive(Debug)]
struct Kept {
    parts: Vec<(SeriesKey, Part)>,
    deltas: Vec<Delta>,
    /// Sums that are not stale.
    sums: Vec<(SeriesKey, SeriesId, Tally)>,
    /// Series whose sum is stale.
    stale: Vec<SeriesKey>,
    overflow: Option<u64>,
}

/// Verifies a day in a read-only transaction of its own, so that no snapshot is held for longer than one day takes, and
/// no other process has to wait.
///
/// # Errors
///
/// When the database fails; the store must be dropped then.
pub async fn verify_day(store: &mut dyn RollupStore, day: Day) -> Result<Verdict, StoreError> {
    store.begin_reading().await?;
    let kept = read(store, day).await?;
    let admitted = kept.admitted();
    let mut recount = Recount::new(
        Timestamp::from_micros(i64::MAX),
        store.user_key().await?,
        admitted.clone(),
    );
    recount.read(store, day).await?;
    store.commit().await?;
    let rows = recount.finish();
    Ok(Verdict {
        events: rows.events,
        differences: compare(day, rows, kept, admitted.as_ref()),
    })
}

async fn read(store: &mut dyn RollupStore, day: Day) -> Result<Kept, StoreError> {
    Ok(Kept {
        parts: store.parts_on(day).await?,
        deltas: store.deltas_on(day).await?,
        sums: store.sums_on(day).await?,
        stale: store.stale_on(day).await?,
        overflow: store.overflow_on(day).await?,
    })
}

impl Kept {
    /// On a day with overflow, the pairs and names that have a row of the day; `None` on any other day, where every
    /// pair has a series.
    fn admitted(&self) -> Option<Admitted> {
        self.overflow?;
        let mut admitted = Admitted::default();
        let with_parts = self.parts.iter().map(|(series, _)| series);
        let summed = self.sums.iter().map(|(series, ..)| series);
        for series in with_parts.chain(summed).chain(&self.stale) {
            admitted.insert(series);
        }
        Some(admitted)
    }
}

fn compare(day: Day, rows: Recounted, kept: Kept, admitted: Option<&Admitted>) -> Vec<Difference> {
    let mut differences = Vec::new();
    if rows.events == 0 {
        differences.extend(check_gone(day, &kept, admitted));
    }
    let are_events_gone = !differences.is_empty();
    if !are_events_gone {
        check_overflow(day, &rows, &kept, admitted, &mut differences);
    }
    let Kept {
        parts,
        deltas,
        sums,
        stale,
        ..
    } = kept;
    // Pairs that were admitted before their events came have no parts.
    let expects_parts = admitted.is_none();
    check_sums(day, &parts, sums, stale, expects_parts, &mut differences);
    if !are_events_gone {
        let rollups = by_quarter(parts, deltas, admitted);
        check_quarters(&rows.series, &rollups, &mut differences);
    }
    differences
}

/// The one difference of a day without events, in place of one for each of its buckets.
fn check_gone(day: Day, kept: &Kept, admitted: Option<&Admitted>) -> Option<Difference> {
    let merged = by_quarter(kept.parts.clone(), kept.deltas.clone(), admitted);
    let of_series = |buckets: &Buckets| buckets.values().map(|tally| tally.events).sum();
    let merged = merged.values().map(of_series);
    let summed = kept.sums.iter().map(|(_, _, sum)| sum.events);
    // The largest is the series of all events, unless that is missing.
    let rollups = merged.chain(summed).max()?;
    (rollups > 0).then_some(Difference {
        series: SeriesKey::EVERYTHING,
        place: RollupPlace::Day(day),
        fault: Fault::EventsGone { rollups },
    })
}

fn check_overflow(
    day: Day,
    rows: &Recounted,
    kept: &Kept,
    admitted: Option<&Admitted>,
    differences: &mut Vec<Difference>,
) {
    let (Some(admitted), Some(overflow)) = (admitted, kept.overflow) else {
        return;
    };
    // Compaction will add the events of these deltas to the overflow.
    let to_come: u64 = kept
        .deltas
        .iter()
        .filter(|delta| !admitted.has_pair(&delta.event_name, &delta.channel))
        .map(|delta| delta.tally.events)
        .sum();
    if overflow + to_come != rows.overflow {
        differences.push(Difference {
            series: SeriesKey::EVERYTHING,
            place: RollupPlace::Day(day),
            fault: Fault::Overflow {
                rollups: overflow + to_come,
                rows: rows.overflow,
            },
        });
    }
}

/// Compares the day's sums with its parts, whether or not the parts are right themselves.
fn check_sums(
    day: Day,
    parts: &[(SeriesKey, Part)],
    sums: Vec<(SeriesKey, SeriesId, Tally)>,
    stale: Vec<SeriesKey>,
    expects_parts: bool,
    differences: &mut Vec<Difference>,
) {
    let mut by_series: BTreeMap<&SeriesKey, Sum> = BTreeMap::new();
    for (series, part) in parts {
        let sum = by_series.entry(series).or_insert_with(|| Sum::new(DAY_EXACT_MAX));
        sum.add(part.tally.clone());
    }
    let mut differs = |series: &SeriesKey, fault: Fault| {
        differences.push(Difference {
            series: series.clone(),
            place: RollupPlace::Day(day),
            fault,
        });
    };
    for (series, _, sum) in sums {
        let parts = by_series.remove(&series).map(Sum::finish);
        if let Some(fault) = fault_of_sum(&sum, parts)
            && (expects_parts || fault != Fault::NoParts)
        {
            differs(&series, fault);
        }
    }
    for series in stale {
        if by_series.remove(&series).is_none() && expects_parts {
            differs(&series, Fault::NoParts);
        }
    }
    for series in by_series.into_keys() {
        differs(series, Fault::NoSum);
    }
}

/// What is wrong with a sum that is not stale. `parts` is the sum of the parts, `None` for a series without parts.
fn fault_of_sum(sum: &Tally, parts: Option<Tally>) -> Option<Fault> {
    let has_parts = parts.is_some();
    let parts = parts.unwrap_or_else(nothing);
    if sum.events != parts.events {
        let (sum, parts) = (sum.events, parts.events);
        return Some(Fault::SumEvents { sum, parts });
    }
    if !are_same_users(&sum.users, &parts.users) {
        let (sum, parts) = (sum.users.count().count, parts.users.count().count);
        return Some(Fault::SumUsers { sum, parts });
    }
    (!has_parts).then_some(Fault::NoParts)
}

/// A day's sum may come from minutes with few users each, which were merged into a quarter with too many users to name.
/// Then the sum rightly names users that the parts hold only as a sketch, so both are compared as sketches.
fn are_same_users(sum: &UserSet, parts: &UserSet) -> bool {
    if sum.is_exact() == parts.is_exact() {
        return sum.encode() == parts.encode();
    }
    let sketched = |users: &UserSet| {
        let mut union = UserUnion::new(0);
        union.add_set(users.clone());
        union.finish().encode()
    };
    sketched(sum) == sketched(parts)
}

/// Parts and deltas of each series that exists, merged into quarters.
fn by_quarter(
    parts: Vec<(SeriesKey, Part)>,
    deltas: Vec<Delta>,
    admitted: Option<&Admitted>,
) -> BTreeMap<SeriesKey, Buckets> {
    let mut sums: BTreeMap<SeriesKey, BTreeMap<Bucket, Sum>> = BTreeMap::new();
    let mut add = |series: SeriesKey, bucket: Bucket, tally: Tally| {
        sums.entry(series)
            .or_default()
            .entry(bucket.quarter())
            .or_insert_with(|| Sum::new(PART_EXACT_MAX))
            .add(tally);
    };
    for (series, part) in parts {
        add(series, part.bucket, part.tally);
    }
    for delta in deltas {
        let [pair, name, all] = series_of(&delta.event_name, &delta.channel);
        if admitted.is_none_or(|those| those.has_pair(&delta.event_name, &delta.channel)) {
            add(pair, delta.bucket, delta.tally.clone());
        }
        if admitted.is_none_or(|those| those.has_name(&delta.event_name)) {
            add(name, delta.bucket, delta.tally.clone());
        }
        add(all, delta.bucket, delta.tally);
    }
    let finish = |(bucket, sum): (Bucket, Sum)| (bucket, sum.finish());
    sums.into_iter()
        .map(|(series, sums)| (series, sums.into_iter().map(finish).collect()))
        .collect()
}

fn check_quarters(
    rows: &BTreeMap<SeriesKey, Buckets>,
    rollups: &BTreeMap<SeriesKey, Buckets>,
    differences: &mut Vec<Difference>,
) {
    let (no_buckets, no_tally) = (Buckets::new(), nothing());
    let all_series: BTreeSet<&SeriesKey> = rows.keys().chain(rollups.keys()).collect();
    for series in all_series {
        let rows = rows.get(series).unwrap_or(&no_buckets);
        let rollups = rollups.get(series).unwrap_or(&no_buckets);
        let buckets: BTreeSet<Bucket> = rows.keys().chain(rollups.keys()).copied().collect();
        for bucket in buckets {
            let rows = rows.get(&bucket).unwrap_or(&no_tally);
            let rollups = rollups.get(&bucket).unwrap_or(&no_tally);
            if let Some(fault) = difference_of(rollups, rows) {
                differences.push(Difference {
                    series: series.clone(),
                    place: RollupPlace::Bucket(bucket),
                    fault,
                });
            }
        }
    }
}

fn difference_of(rollups: &Tally, rows: &Tally) -> Option<Fault> {
    if rollups.events != rows.events {
        let (rollups, rows) = (rollups.events, rows.events);
        return Some(Fault::Events { rollups, rows });
    }
    if rollups.users.encode() != rows.users.encode() {
        let (rollups, rows) = (rollups.users.count().count, rows.users.count().count);
        return Some(Fault::Users { rollups, rows });
    }
    None
}

fn nothing() -> Tally {
    Tally {
        events: 0,
        users: UserSet::empty(),
    }
}

#[cfg(test)]
mod tests;
