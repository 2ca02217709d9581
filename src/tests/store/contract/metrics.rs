//! Totals and unique users: the answers of metrics queries.

use std::time::Duration;

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::{DAY_MICROS, HOUR_MICROS, TimeUnit};
use fast_ingest::query::{Counts, GROUPS_MAX, GroupKey, Grouping, ReportGroup, Source, TimeBucket};
use fast_ingest::store::settings::StoreSettings;
use fast_ingest::store::{self, QueryError};

use super::contract;
use crate::support::database::{Database, Event, FEBRUARY, event, query};

contract! {
    metrics_count_a_half_open_range,
    metrics_group_by_day_and_hour_in_utc,
    metrics_group_by_channel_in_order_of_bytes,
    metrics_of_nothing_are_zero,
    rollups_that_are_not_built_are_not_believed,
    an_answer_has_10_000_groups_and_no_more,
    a_query_that_takes_too_long_is_ended,
}

async fn metrics_count_a_half_open_range(database: Database) {
    let (from, to) = (FEBRUARY + 123_456, FEBRUARY + 3 * DAY_MICROS + 7);
    let events = [
        event("view", "before", from - 1),
        event("view", "ann", from),
        event("view", "ann", from + 1),
        event("view", "bob", to - 1),
        event("view", "after", to),
        event("click", "cid", from),
    ];
    database.store_events(&events).await;
    let metrics = async |from, to| database.store().metrics(&query("view", from, to, None)).await.unwrap();
    let report = metrics(from, to).await;
    assert_eq!(report.total, Counts::exactly(3, 2));
    assert_eq!(report.groups, []);
    assert_eq!(metrics(from - 1, to + 1).await.total, Counts::exactly(5, 4));
    assert_eq!(metrics(from, from + 1).await.total, Counts::exactly(1, 1));
    assert_eq!(metrics(from, from).await.total, Counts::default());
}

async fn metrics_group_by_day_and_hour_in_utc(database: Database) {
    let (second, fourth) = (FEBRUARY + DAY_MICROS, FEBRUARY + 3 * DAY_MICROS);
    let events = [
        event("view", "ann", FEBRUARY),
        event("view", "bob", second - 1),
        event("view", "ann", second),
        event("view", "ann", fourth + 5 * HOUR_MICROS),
        event("view", "ann", fourth + 6 * HOUR_MICROS - 1),
        event("view", "bob", fourth + 6 * HOUR_MICROS),
    ];
    database.store_events(&events).await;
    let report = async |from, to, by| {
        database
            .store()
            .metrics(&query("view", from, to, Some(by)))
            .await
            .unwrap()
    };

    // Both ends of the range cut a bucket; the bucket keeps its own bounds.
    let days = report(FEBRUARY + 1, fourth + 6 * HOUR_MICROS, Grouping::by(TimeUnit::Day)).await;
    assert_eq!(days.total, Counts::exactly(4, 2));
    let expected = [
        bucket(FEBRUARY, DAY_MICROS, 1, 1),
        bucket(second, DAY_MICROS, 1, 1),
        bucket(fourth, DAY_MICROS, 2, 1),
    ];
    assert_eq!(days.groups, expected);

    let hours = report(fourth, fourth + DAY_MICROS, Grouping::by(TimeUnit::Hour)).await;
    assert_eq!(hours.total, Counts::exactly(3, 2));
    let (five, six) = (fourth + 5 * HOUR_MICROS, fourth + 6 * HOUR_MICROS);
    assert_eq!(
        hours.groups,
        [bucket(five, HOUR_MICROS, 2, 1), bucket(six, HOUR_MICROS, 1, 1)]
    );
}

async fn metrics_group_by_channel_in_order_of_bytes(database: Database) {
    let channels = ["é", "a", "B", "Z", "_", "a b", "10", "9"];
    let events: Vec<Event> = channels
        .iter()
        .map(|channel| Event {
            channel,
            ..event("view", "ann", FEBRUARY)
        })
        .collect();
    database.store_events(&events).await;
    let query = query("view", FEBRUARY, FEBRUARY + 1, Some(Grouping::CHANNEL));
    let report = database.store().metrics(&query).await.unwrap();
    // A union: the same user in every channel is one user.
    assert_eq!(report.total, Counts::exactly(8, 1));
    let mut expected = channels;
    expected.sort_unstable();
    let one = Counts::exactly(1, 1);
    let expected = expected.map(|channel| ReportGroup {
        key: GroupKey {
            channel: Some(channel.to_owned()),
            ..GroupKey::default()
        },
        counts: one,
    });
    assert_eq!(report.groups, expected);
}

async fn metrics_of_nothing_are_zero(database: Database) {
    for group_by in [
        None,
        Some(Grouping::by(TimeUnit::Day)),
        Some(Grouping::by(TimeUnit::Hour)),
        Some(Grouping::CHANNEL),
    ] {
        let report = database
            .store()
            .metrics(&query("view", 0, FEBRUARY, group_by))
            .await
            .unwrap();
        assert_eq!(
            (report.total, report.groups.len()),
            (Counts::default(), 0),
            "{group_by:?}"
        );
    }
}

async fn an_answer_has_10_000_groups_and_no_more(database: Database) {
    let channels: Vec<String> = (0..=GROUPS_MAX).map(|n| format!("channel-{n:05}")).collect();
    let events: Vec<Event> = channels
        .iter()
        .enumerate()
        .map(|(n, channel)| Event {
            channel,
            ..event("view", "ann", FEBRUARY + n as i64)
        })
        .collect();
    database.store_events(&events).await;
    let up_to = async |count: usize, by| {
        let to = FEBRUARY + count as i64;
        database.store().metrics(&query("view", FEBRUARY, to, Some(by))).await
    };
    let report = up_to(GROUPS_MAX, Grouping::CHANNEL).await.unwrap();
    assert_eq!(report.groups.len(), GROUPS_MAX);
    let total = Counts::exactly(GROUPS_MAX as u64, 1);
    assert_eq!(report.total, total, "the limit does not cut the total");
    let error = up_to(GROUPS_MAX + 1, Grouping::CHANNEL).await.unwrap_err();
    assert!(matches!(error, QueryError::TooManyGroups), "{error}");
    assert_eq!(
        up_to(GROUPS_MAX + 1, Grouping::by(TimeUnit::Day))
            .await
            .unwrap()
            .groups
            .len(),
        1
    );
}

async fn a_query_that_takes_too_long_is_ended(database: Database) {
    let users: Vec<String> = (0..5_000).map(|n| format!("user-{n}")).collect();
    let events: Vec<Event> = users.iter().map(|user| event("view", user, FEBRUARY)).collect();
    database.store_events(&events).await;
    let timeout = Duration::from_millis(1);
    let store = store::open(&StoreSettings {
        query_timeout: timeout,
        query_bytes_max: 64 << 20,
        ..database.settings()
    })
    .unwrap();
    let _blocked = database.block_queries().await;
    let error = store
        .metrics(&query("view", 0, FEBRUARY + 1, Some(Grouping::by(TimeUnit::Day))))
        .await
        .unwrap_err();
    assert!(
        matches!(error, QueryError::Timeout(limit) if limit == timeout),
        "{error}"
    );
}

fn bucket(start: i64, width: i64, total_events: u64, unique_users: u64) -> ReportGroup {
    let bucket = TimeBucket {
        start: Timestamp::from_micros(start),
        end: Timestamp::from_micros(start + width),
    };
    ReportGroup {
        key: GroupKey {
            bucket: Some(bucket),
            ..GroupKey::default()
        },
        counts: Counts::exactly(total_events, unique_users),
    }
}

async fn rollups_that_are_not_built_are_not_believed(database: Database) {
    let events = [event("view", "ann", FEBRUARY), event("view", "bob", FEBRUARY)];
    database.store_events(&events).await;
    let ask = async || {
        let query = query("view", FEBRUARY, FEBRUARY + DAY_MICROS, None);
        let report = database.store().metrics(&query).await.unwrap();
        (report.total.total_events, report.source)
    };
    assert_eq!(ask().await, (2, Source::Rollups));
    database.execute("DELETE FROM rollup_deltas").await;
    database
        .execute("UPDATE rollup_state SET rebuild_needed = NOT rebuild_needed")
        .await;
    assert_eq!(ask().await, (2, Source::Events));
    database.execute("DELETE FROM rollup_state").await;
    assert_eq!(ask().await, (2, Source::Events));
}
