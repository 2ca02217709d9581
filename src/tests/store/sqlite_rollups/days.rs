//! Days: their sums, their series, their overflow, and the list of days with rollups or events.

use fast_ingest::event::bucket::DAY_MICROS;
use fast_ingest::event::bucket::{Day, Width};
use fast_ingest::rollup::{SeriesId, SeriesKey};
use fast_ingest::store::RollupStore;

use super::{begun, day, key, part, tally, three_series};
use crate::support::database::{Database, FEBRUARY, batch_of, event};

/// Sums of a day in a form that compares.
async fn sums(rollups: &mut dyn RollupStore, day: Day) -> Vec<(SeriesKey, SeriesId, u64, Vec<u8>)> {
    let sums = rollups.sums_on(day).await.unwrap();
    let mut sums: Vec<_> = sums
        .into_iter()
        .map(|(key, id, tally)| (key, id, tally.events, tally.users.encode()))
        .collect();
    sums.sort();
    sums
}

#[tokio::test]
async fn a_day_is_stale_until_it_is_summed_up() {
    let database = Database::sqlite().await;
    let mut rollups = begun(&database).await;
    let [pair, name, _] = three_series(&mut *rollups).await;
    let days = [(pair, day(1)), (pair, day(0)), (name, day(0)), (name, day(2))];
    rollups.mark_stale(&days).await.unwrap();
    rollups.mark_stale(&days[..1]).await.unwrap();
    let earliest = rollups.stale_days(day(2), 2).await.unwrap();
    assert!(earliest.iter().all(|(_, stale)| *stale == day(0)), "{earliest:?}");
    let mut stale = rollups.stale_days(day(2), 9).await.unwrap();
    stale.sort();
    assert_eq!(stale, [(pair, day(0)), (pair, day(1)), (name, day(0))]);
    assert!(sums(&mut *rollups, day(0)).await.is_empty());
    let put = [
        (pair, day(0), tally(3, &["ann", "bob"])),
        (name, day(3), tally(1, &["cid"])),
    ];
    rollups.put_days(&put).await.unwrap();
    let expected = tally(3, &["ann", "bob"]).users.encode();
    let fresh = (key(Some("view"), Some("web")), pair, 3, expected);
    assert_eq!(sums(&mut *rollups, day(0)).await, [fresh]);
    assert_eq!(sums(&mut *rollups, day(3)).await.len(), 1);
    let mut stale = rollups.stale_days(day(4), 9).await.unwrap();
    stale.sort();
    assert_eq!(stale, [(pair, day(1)), (name, day(0)), (name, day(2))]);
    rollups.mark_stale(&[(pair, day(0))]).await.unwrap();
    assert!(sums(&mut *rollups, day(0)).await.is_empty());
    let stale = rollups.stale_days(day(1), 9).await.unwrap();
    assert_eq!(stale.len(), 2, "{stale:?}");
    rollups.put_days(&[(pair, day(0), tally(7, &[]))]).await.unwrap();
    assert_eq!(sums(&mut *rollups, day(0)).await[0].2, 7);
}

#[tokio::test]
async fn the_series_of_a_day_are_its_pairs_and_names() {
    let database = Database::sqlite().await;
    let mut rollups = begun(&database).await;
    let [pair, name, all] = three_series(&mut *rollups).await;
    rollups
        .mark_stale(&[(pair, day(0)), (all, day(0)), (name, day(0)), (name, day(1))])
        .await
        .unwrap();
    let summed = [(pair, day(0), tally(1, &["ann"]))];
    rollups.put_days(&summed).await.unwrap();
    let mut series = rollups.series_on(day(0)).await.unwrap();
    series.sort();
    let expected = [key(Some("view"), None), key(Some("view"), Some("web"))];
    assert_eq!(series, expected);
    let series = rollups.series_on(day(1)).await.unwrap();
    assert_eq!(series, expected[..1]);
    assert!(rollups.series_on(day(2)).await.unwrap().is_empty());
}

#[tokio::test]
async fn overflow_adds_up_and_a_rebuild_is_noted() {
    let database = Database::sqlite().await;
    let mut rollups = begun(&database).await;
    assert_eq!(rollups.overflow_on(day(0)).await.unwrap(), None);
    rollups.add_overflow(day(0), 3).await.unwrap();
    rollups.add_overflow(day(0), 4).await.unwrap();
    assert_eq!(rollups.overflow_on(day(0)).await.unwrap(), Some(7));
    assert_eq!(rollups.overflow_on(day(1)).await.unwrap(), None);
    assert!(!rollups.rebuild_needed().await.unwrap());
    rollups.commit().await.unwrap();
    database.execute("UPDATE rollup_state SET rebuild_needed = 1").await;
    let mut rollups = begun(&database).await;
    assert!(rollups.rebuild_needed().await.unwrap());
    rollups.set_rebuilt().await.unwrap();
    rollups.commit().await.unwrap();
    assert!(!begun(&database).await.rebuild_needed().await.unwrap());
}

#[tokio::test]
async fn the_days_stored_span_all_tables() {
    let database = Database::sqlite().await;
    assert_eq!(begun(&database).await.days_stored().await.unwrap(), None);
    let mut sink = database.sink_at(0).await;
    let noon = |n: i64| FEBRUARY + n * DAY_MICROS + DAY_MICROS / 2;
    // The names sort differently from the times.
    let events = [
        event("mike", "ann", noon(10)),
        event("alfa", "ann", noon(11)),
        event("zulu", "ann", noon(12)),
    ];
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let mut rollups = begun(&database).await;
    rollups.take_deltas(10).await.unwrap();
    let stored = rollups.days_stored().await.unwrap();
    assert_eq!(stored, Some((day(10), day(12))), "by events");
    rollups.commit().await.unwrap();
    let later = [event("alfa", "ann", noon(9)), event("mike", "ann", noon(13))];
    sink.flush(batch_of(3, &later).view()).await.unwrap();
    database.execute("DELETE FROM events").await;
    let mut rollups = begun(&database).await;
    let stored = rollups.days_stored().await.unwrap();
    assert_eq!(stored, Some((day(9), day(13))), "by deltas");
    let [pair, name, _] = three_series(&mut *rollups).await;
    let parts = [
        part(name, noon(8), Width::Minute, tally(1, &[])),
        part(pair, noon(14), Width::Quarter, tally(1, &[])),
    ];
    rollups.put_parts(&parts).await.unwrap();
    let stored = rollups.days_stored().await.unwrap();
    assert_eq!(stored, Some((day(8), day(14))), "by parts");
    rollups.mark_stale(&[(name, day(7))]).await.unwrap();
    let sums = [(pair, day(15), tally(1, &[]))];
    rollups.put_days(&sums).await.unwrap();
    let stored = rollups.days_stored().await.unwrap();
    assert_eq!(stored, Some((day(7), day(15))), "by sums");
}
