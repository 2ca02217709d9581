//! The keeper's session: its lock, its snapshot, and the rows that it reads and writes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_one_at_a_time_and_goes_with_its_connection() {
    let database = Database::postgres().await;
    let holder = begun(&database).await;
    let mut other = database.store().open_rollups().await.unwrap();
    assert!(!other.begin(false).await.unwrap());
    // Reading needs no lock.
    other.begin_reading().await.unwrap();
    other.commit().await.unwrap();
    drop(holder);
    assert!(other.begin(true).await.unwrap());
    other.commit().await.unwrap();
    assert!(begun(&database).await.commit().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_for_the_lock_sees_what_its_holder_committed() {
    let database = Database::postgres().await;
    let mut holder = begun(&database).await;
    let mut waiter = database.store().open_rollups().await.unwrap();
    let waiting = tokio::spawn(async move {
        waiter.begin(true).await.unwrap();
        waiter.overflow_on(Day::of(at(0))).await.unwrap()
    });
    let observer = database.session().await;
    let waits =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory')";
    while !observer.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    holder.add_overflow(Day::of(at(0)), 7).await.unwrap();
    holder.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_behind_the_snapshot_keeps_its_deltas_for_the_next_time() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let first = batch_of(0, &[event("view", "ann", FEBRUARY)]);
    sink.flush(first.view()).await.unwrap();
    let mut rollups = begun(&database).await;
    assert_eq!(rollups.overflow_on(Day::of(at(0))).await.unwrap(), None);
    let second = batch_of(1, &[event("click", "bob", FEBRUARY)]);
    sink.flush(second.view()).await.unwrap();
    let taken = rollups.take_deltas(10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].event_name, "view");
    rollups.commit().await.unwrap();
    assert!(rollups.begin(false).await.unwrap());
    let taken = rollups.take_deltas(10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].event_name, "click");
    // Without a commit, the deltas are not taken.
    drop(rollups);
    assert_eq!(begun(&database).await.take_deltas(10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_and_days_come_back_as_they_were_put() {
    let database = Database::postgres().await;
    let mut rollups = begun(&database).await;
    let keys = [
        key(Some("view"), Some("web")),
        key(None, None),
        key(Some("view"), None),
        key(Some("view"), Some("web")),
    ];
    let ids = rollups.series_ids(&keys).await.unwrap();
    assert_eq!(ids[0], ids[3]);
    assert_eq!(BTreeSet::from_iter(&ids).len(), 3);
    assert_eq!(rollups.series_ids(&keys).await.unwrap(), ids);
    let day = Day::of(at(0));
    let minute = |n: i64| Bucket::of(at(n * 60_000_000), Width::Minute);
    let part = |bucket, users: &[&str]| Part {
        series: ids[0],
        bucket,
        tally: tally(users),
    };
    let parts = [
        part(minute(3), &["ann"]),
        part(minute(1), &["bob", "cid"]),
        part(minute(2), &["ann"]),
        part(minute(0).quarter(), &["eve"]),
    ];
    rollups.put_parts(&parts).await.unwrap();
    rollups.put_parts(&[part(minute(2), &["x", "y", "z"])]).await.unwrap();
    let wanted = [(ids[0], minute(2)), (ids[2], minute(2))];
    let found = rollups.parts_at(&wanted).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].tally.users.count().count, 3);
    assert_eq!(rollups.parts_of_day(ids[0], day).await.unwrap().len(), 4);
    assert_eq!(rollups.parts_on(day).await.unwrap()[0].0, keys[0]);
    let taken = rollups.take_minutes(minute(3).start, 10).await.unwrap();
    let starts: Vec<_> = taken.iter().map(|part| part.bucket).collect();
    assert_eq!(starts, [minute(1), minute(2)]);

    rollups
        .mark_stale(&[(ids[0], day), (ids[1], day), (ids[0], day)])
        .await
        .unwrap();
    rollups.put_days(&[(ids[0], day, tally(&["ann"]))]).await.unwrap();
    let after = Day::of(day.end());
    assert_eq!(rollups.stale_days(after, 10).await.unwrap(), [(ids[1], day)]);
    assert!(rollups.stale_days(day, 10).await.unwrap().is_empty());
    let sums = rollups.sums_on(day).await.unwrap();
    assert_eq!((&sums[0].0, sums[0].1, sums.len()), (&keys[0], ids[0], 1));
    assert_eq!(rollups.series_on(day).await.unwrap(), [keys[0].clone()]);
    rollups.add_overflow(day, 2).await.unwrap();
    rollups.add_overflow(day, 3).await.unwrap();
    assert_eq!(rollups.overflow_on(day).await.unwrap(), Some(5));
    rollups.clear_day(day).await.unwrap();
    assert!(rollups.parts_on(day).await.unwrap().is_empty());
    assert_eq!(rollups.overflow_on(day).await.unwrap(), None);
    assert!(rollups.stale_days(after, 10).await.unwrap().is_empty());
    rollups.set_rebuilt().await.unwrap();
    assert!(!rollups.rebuild_needed().await.unwrap());
    rollups.commit().await.unwrap();
    assert_eq!(database.count("rollup_series").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_is_not_written_again() {
    let database = Database::postgres().await;
    let row = "SELECT ctid::text, xmin::text, xmax::text FROM rollup_days";
    let observer = database.session().await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let mut rollups = begun(&database).await;
        let ids = rollups.series_ids(&[key(None, None)]).await.unwrap();
        rollups.mark_stale(&[(ids[0], Day::of(at(0)))]).await.unwrap();
        rollups.commit().await.unwrap();
        let row = observer.query_one(row, &[]).await.unwrap();
        let row: [String; 3] = [row.get(0), row.get(1), row.get(2)];
        seen.insert(row);
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_stored_are_found_whatever_the_partitions_are() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let stored = async || begun(&database).await.days_stored().await.unwrap();
    assert_eq!(stored().await, None);
    let day = 86_400_000_000;
    let events = [0, 40, 41, 100].map(|n| event("view", "ann", FEBRUARY + n * day));
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let (first, last) = (Day::of(at(0)), Day::of(at(100 * day)));
    assert_eq!(stored().await, Some((first, last)));
    // The remaining rows are in the middle, between months that are empty.
    database
        .execute("TRUNCATE rollup_deltas; DELETE FROM events WHERE ts < '2026-03-01' OR ts > '2026-05-01'")
        .await;
    let middle = (Day::of(at(40 * day)), Day::of(at(41 * day)));
    assert_eq!(stored().await, Some(middle));
    database
        .execute(
            "CREATE TABLE other PARTITION OF events DEFAULT; INSERT INTO events VALUES ('2030-06-01 00:00Z', 'view', 'web', 'zoe')",
        )
        .await;
    assert_eq!(stored().await.unwrap().0, middle.0);
    assert_eq!(stored().await.unwrap().1.start().as_micros(), 1_906_502_400_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_from_a_half_open_range() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let events = [0, 1, 2].map(|n| event("view", "ann", FEBRUARY + n));
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let mut rollups = database.store().open_rollups().await.unwrap();
    rollups.begin_reading().await.unwrap();
    let mut seen = Vec::new();
    rollups
        .read_events(at(0)..at(2), &mut |name, channel, user, ts| {
            assert_eq!((name, channel, user), ("view", "web", "ann"));
            seen.push(ts);
        })
        .await
        .unwrap();
    assert_eq!(seen, [at(0), at(1)]);
}
