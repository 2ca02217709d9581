//! What every store must do, run on both: the same calls, the same answers.

use std::time::Duration;

use fast_ingest::batch::{Batch, WalId};
use fast_ingest::config::StoreSettings;
use fast_ingest::event::{EventRef, TagsBuf, Timestamp, codec};
use fast_ingest::query::{Counts, DAY_MICROS, Group, GroupBy, GroupKey, HOUR_MICROS, MetricsQuery};
use fast_ingest::store::{self, Flushed, StoreError, migrations};
use uuid::Uuid;

use crate::store_database::{Database, Stored};

/// 2026-02-01T00:00:00Z, the start of a month.
pub(crate) const FEBRUARY: i64 = 1_769_904_000_000_000;

macro_rules! contract {
    ($($behaviour:ident),* $(,)?) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                super::$behaviour(super::Database::postgres().await).await;
            })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                super::$behaviour(super::Database::sqlite().await).await;
            })*
        }
    };
}

contract! {
    flush_stores_rows_and_moves_the_checkpoint,
    a_batch_that_does_not_follow_the_checkpoint_stores_nothing,
    an_unknown_log_has_no_checkpoint,
    a_checkpoint_is_made_once,
    logs_have_separate_checkpoints,
    an_event_id_is_stored_once_a_user_and_time,
    events_without_id_are_never_taken_for_duplicates,
    every_field_comes_back_as_it_was,
    large_batches_of_every_kind_are_stored_whole,
    months_far_apart_fit_into_one_batch,
    quarantine_keeps_the_event_and_moves_the_checkpoint,
    a_poison_event_leaves_nothing_behind_and_is_found_by_halving,
    metrics_count_a_half_open_range,
    metrics_group_by_day_and_hour_in_utc,
    metrics_group_by_channel_in_order_of_bytes,
    metrics_of_nothing_are_zero,
    a_query_that_takes_too_long_is_ended,
    a_missing_schema_names_the_command,
    a_schema_from_the_future_blames_the_binary,
    migrations_go_up_down_and_up_again,
    two_migrations_at_once_do_no_harm,
}

async fn flush_stores_rows_and_moves_the_checkpoint(database: Database) {
    let mut sink = database.sink_at(0).await;
    let batch = batch_of(
        0,
        &[
            event("view", "ann", FEBRUARY),
            event("view", "bob", FEBRUARY + 1),
        ],
    );
    assert_eq!(
        sink.flush(batch.view()).await.unwrap(),
        Flushed {
            stored: 2,
            duplicates: 0
        }
    );
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), Some(2));
    let next = batch_of(2, &[event("view", "cid", FEBRUARY)]);
    sink.flush(next.view()).await.unwrap();
    // What counts is what another connection sees.
    drop(sink);
    let mut other = database.store().open_sink().await.unwrap();
    assert_eq!(other.checkpoint(wal_id()).await.unwrap(), Some(3));
    assert_eq!(database.users().await, ["ann", "bob", "cid"]);
}

async fn a_batch_that_does_not_follow_the_checkpoint_stores_nothing(database: Database) {
    let mut sink = database.sink_at(10).await;
    for after in [0, 9, 11] {
        let mut with_id = event("view", "ann", FEBRUARY);
        with_id.event_id = Some("id");
        let batch = batch_of(after, &[event("view", "ann", FEBRUARY), with_id]);
        let error = sink.flush(batch.view()).await.unwrap_err();
        assert!(matches!(error, StoreError::CheckpointMoved), "{error}");
        let one = batch_of(after, &[event("view", "ann", FEBRUARY)]);
        let error = sink
            .quarantine(one.view(), "22000", "no")
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::CheckpointMoved), "{error}");
    }
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), Some(10));
    assert_eq!(database.users().await, [""; 0]);
    assert_eq!(database.count("quarantine").await, 0);
    // The connection is still good.
    sink.flush(batch_of(10, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap();
    assert_eq!(database.users().await, ["ann"]);
}

async fn an_unknown_log_has_no_checkpoint(database: Database) {
    let mut sink = database.store().open_sink().await.unwrap();
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), None);
    let error = sink
        .flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::CheckpointMoved), "{error}");
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), None);
}

async fn a_checkpoint_is_made_once(database: Database) {
    let mut sink = database.sink_at(5).await;
    let error = sink.create_checkpoint(wal_id(), 0).await.unwrap_err();
    assert!(matches!(error, StoreError::CheckpointMoved), "{error}");
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), Some(5));
}

async fn logs_have_separate_checkpoints(database: Database) {
    let mut sink = database.sink_at(0).await;
    let other = WalId(Uuid::from_u128(99));
    sink.create_checkpoint(other, 7).await.unwrap();
    sink.flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap();
    assert_eq!(sink.checkpoint(other).await.unwrap(), Some(7));
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), Some(1));
}

async fn an_event_id_is_stored_once_a_user_and_time(database: Database) {
    let with_id = |user, micros, id| Event {
        event_id: Some(id),
        ..event("view", user, micros)
    };
    let mut sink = database.sink_at(0).await;
    let first = [
        with_id("ann", FEBRUARY, "1"),
        with_id("ann", FEBRUARY, "1"),
        with_id("bob", FEBRUARY, "1"),
        with_id("ann", FEBRUARY, "2"),
        with_id("ann", FEBRUARY + 1, "1"),
    ];
    assert_eq!(
        sink.flush(batch_of(0, &first).view()).await.unwrap(),
        Flushed {
            stored: 4,
            duplicates: 1
        }
    );
    let second = [
        with_id("ann", FEBRUARY, "1"),
        event("view", "cid", FEBRUARY),
        with_id("bob", FEBRUARY, "2"),
    ];
    assert_eq!(
        sink.flush(batch_of(5, &second).view()).await.unwrap(),
        Flushed {
            stored: 2,
            duplicates: 1
        }
    );
    // A retry through another connection, all of it known already.
    let mut other = database.store().open_sink().await.unwrap();
    assert_eq!(
        other.flush(batch_of(8, &first).view()).await.unwrap(),
        Flushed {
            stored: 0,
            duplicates: 5
        }
    );
    assert_eq!(other.checkpoint(wal_id()).await.unwrap(), Some(13));
    assert_eq!(
        database.users().await,
        ["ann", "ann", "ann", "bob", "bob", "cid"]
    );
}

async fn events_without_id_are_never_taken_for_duplicates(database: Database) {
    let mut sink = database.sink_at(0).await;
    let twice = batch_of(
        0,
        &[
            event("view", "ann", FEBRUARY),
            event("view", "ann", FEBRUARY),
        ],
    );
    assert_eq!(
        sink.flush(twice.view()).await.unwrap(),
        Flushed {
            stored: 2,
            duplicates: 0
        }
    );
}

async fn every_field_comes_back_as_it_was(database: Database) {
    let odd = [
        "'",
        "\"",
        "\\",
        "\t",
        "\r\n",
        "\\N",
        "\\.",
        "{a,\"b\"}",
        "NULL",
        "é",
        "日本",
        "🦀",
        "\u{1}",
        "\u{7f}",
        "$1",
        "%s",
        " x ",
    ];
    let nested = r#"{"a":{"b":[1,2.5,-3,1e-3,true,null,"\"\\ \u00e9 🦀"]},"'":"\t"}"#;
    let mut events = vec![
        Event {
            tags: Some(&[]),
            ..event("no tags", "u00", FEBRUARY)
        },
        event("absent tags", "u01", FEBRUARY + 999_999),
        Event {
            tags: Some(&odd),
            ..event("odd tags", "u02", FEBRUARY)
        },
        Event {
            metadata: Some(nested),
            ..event("metadata", "u03", 0)
        },
        Event {
            metadata: Some("{}"),
            event_id: Some("🦀'\\"),
            ..event("with id", "u04", 1)
        },
        Event {
            event_id: Some("id"),
            campaign_id: Some("\\x"),
            tags: Some(&["a", ""]),
            metadata: Some(nested),
            ..event("all", "u05", FEBRUARY - 1)
        },
    ];
    let users: Vec<String> = (0..odd.len())
        .map(|n| format!("u1{n:02}{}", odd[n]))
        .collect();
    for (text, user) in odd.iter().zip(&users) {
        events.push(Event {
            channel: text,
            campaign_id: Some(text),
            ..event(text, user, FEBRUARY + 1)
        });
    }
    let mut sink = database.sink_at(0).await;
    let flushed = sink.flush(batch_of(0, &events).view()).await.unwrap();
    assert_eq!(
        flushed,
        Flushed {
            stored: events.len() as u64,
            duplicates: 0
        }
    );
    let expected: Vec<Stored> = events.iter().map(Stored::from).collect();
    assert_eq!(database.events().await, expected);
}

async fn large_batches_of_every_kind_are_stored_whole(database: Database) {
    let metadata = format!(r#"{{"text":"{}"}}"#, "x".repeat(60_000));
    let users: Vec<String> = (0..3_000).map(|n| format!("user-{n:05}")).collect();
    let events: Vec<Event> = users
        .iter()
        .enumerate()
        .map(|(n, user)| Event {
            event_id: (n % 3 == 0).then_some(user.as_str()),
            metadata: (n % 100 == 1).then_some(metadata.as_str()),
            ..event("view", user, FEBRUARY + n as i64)
        })
        .collect();
    let mut sink = database.sink_at(0).await;
    assert_eq!(
        sink.flush(batch_of(0, &events).view()).await.unwrap(),
        Flushed {
            stored: 3_000,
            duplicates: 0
        }
    );
    assert_eq!(database.users().await, users);
}

async fn months_far_apart_fit_into_one_batch(database: Database) {
    let years: Vec<String> = (0..56).map(|year| format!("year {year:02}")).collect();
    let events: Vec<Event> = years
        .iter()
        .enumerate()
        .map(|(n, user)| event("view", user, n as i64 * 365 * DAY_MICROS))
        .collect();
    let mut sink = database.sink_at(0).await;
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let report = database
        .store()
        .metrics(&query("view", 0, 60 * 366 * DAY_MICROS, None))
        .await
        .unwrap();
    assert_eq!(
        report.total,
        Counts {
            total_events: 56,
            unique_users: 56
        }
    );
}

async fn quarantine_keeps_the_event_and_moves_the_checkpoint(database: Database) {
    let mut sink = database.sink_at(4).await;
    let bad = Event {
        metadata: Some(r#"{"n":1}"#),
        tags: Some(&["t"]),
        ..event("bad", "ann", FEBRUARY)
    };
    let batch = batch_of(4, &[bad]);
    sink.quarantine(batch.view(), "22003", "out of range\0")
        .await
        .unwrap();
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), Some(5));
    assert_eq!(database.users().await, [""; 0]);
    let kept = database.quarantined().await;
    assert_eq!(kept.len(), 1);
    let (sequence, code, readable, encoded) = &kept[0];
    assert_eq!((*sequence, code.as_str()), (5, "22003"));
    assert_eq!(Some(encoded.as_slice()), batch.view().encoded().next());
    let readable: serde_json::Value = serde_json::from_str(readable).unwrap();
    assert_eq!(readable["metadata"]["n"], 1);
    assert_eq!(readable["timestamp"], FEBRUARY);
}

async fn a_poison_event_leaves_nothing_behind_and_is_found_by_halving(database: Database) {
    database.refuse_events_named("poison").await;
    let events: Vec<Event> = ["a", "b", "c", "d", "e"]
        .into_iter()
        .map(|user| Event {
            event_id: (user > "b").then_some(user),
            ..event(if user == "d" { "poison" } else { "view" }, user, FEBRUARY)
        })
        .collect();
    let batch = batch_of(0, &events);
    let mut sink = database.sink_at(0).await;
    let error = sink.flush(batch.view()).await.unwrap_err();
    assert!(matches!(error, StoreError::Data { .. }), "{error}");
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), Some(0));
    assert_eq!(database.users().await, [""; 0]);

    let (left, right) = batch.view().split_at(2);
    sink.flush(left).await.unwrap();
    // The halves apply in order only.
    assert!(matches!(
        sink.flush(left).await,
        Err(StoreError::CheckpointMoved)
    ));
    assert!(matches!(
        sink.flush(right).await,
        Err(StoreError::Data { .. })
    ));
    let (good, right) = right.split_at(1);
    let (poison, rest) = right.split_at(1);
    sink.flush(good).await.unwrap();
    let Err(StoreError::Data { code, message }) = sink.flush(poison).await else {
        panic!("poison must be refused alone, too")
    };
    sink.quarantine(poison, &code, &message).await.unwrap();
    sink.flush(rest).await.unwrap();
    assert_eq!(sink.checkpoint(wal_id()).await.unwrap(), Some(5));
    assert_eq!(database.users().await, ["a", "b", "c", "e"]);
    assert_eq!(database.quarantined().await[0].0, 4);
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
    database
        .sink_at(0)
        .await
        .flush(batch_of(0, &events).view())
        .await
        .unwrap();
    let metrics = async |from, to| {
        database
            .store()
            .metrics(&query("view", from, to, None))
            .await
            .unwrap()
    };
    let report = metrics(from, to).await;
    assert_eq!(
        report.total,
        Counts {
            total_events: 3,
            unique_users: 2
        }
    );
    assert_eq!(report.groups, []);
    assert_eq!(
        metrics(from - 1, to + 1).await.total,
        Counts {
            total_events: 5,
            unique_users: 4
        }
    );
    assert_eq!(
        metrics(from, from + 1).await.total,
        Counts {
            total_events: 1,
            unique_users: 1
        }
    );
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
    database
        .sink_at(0)
        .await
        .flush(batch_of(0, &events).view())
        .await
        .unwrap();
    let report = async |from, to, by| {
        database
            .store()
            .metrics(&query("view", from, to, Some(by)))
            .await
            .unwrap()
    };

    // Both ends of the range cut a bucket; the bucket keeps its own bounds.
    let days = report(FEBRUARY + 1, fourth + 6 * HOUR_MICROS, GroupBy::Day).await;
    assert_eq!(
        days.total,
        Counts {
            total_events: 4,
            unique_users: 2
        }
    );
    let expected = [
        bucket(FEBRUARY, DAY_MICROS, 1, 1),
        bucket(second, DAY_MICROS, 1, 1),
        bucket(fourth, DAY_MICROS, 2, 1),
    ];
    assert_eq!(days.groups, expected);

    let hours = report(fourth, fourth + DAY_MICROS, GroupBy::Hour).await;
    assert_eq!(
        hours.total,
        Counts {
            total_events: 3,
            unique_users: 2
        }
    );
    let (five, six) = (fourth + 5 * HOUR_MICROS, fourth + 6 * HOUR_MICROS);
    assert_eq!(
        hours.groups,
        [
            bucket(five, HOUR_MICROS, 2, 1),
            bucket(six, HOUR_MICROS, 1, 1)
        ]
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
    database
        .sink_at(0)
        .await
        .flush(batch_of(0, &events).view())
        .await
        .unwrap();
    let query = query("view", FEBRUARY, FEBRUARY + 1, Some(GroupBy::Channel));
    let report = database.store().metrics(&query).await.unwrap();
    // A union: the same user in every channel is one user.
    assert_eq!(
        report.total,
        Counts {
            total_events: 8,
            unique_users: 1
        }
    );
    let mut expected = channels;
    expected.sort_unstable();
    let one = Counts {
        total_events: 1,
        unique_users: 1,
    };
    let expected = expected.map(|channel| Group {
        key: GroupKey::Channel(channel.to_owned()),
        counts: one,
    });
    assert_eq!(report.groups, expected);
}

async fn metrics_of_nothing_are_zero(database: Database) {
    for group_by in [
        None,
        Some(GroupBy::Day),
        Some(GroupBy::Hour),
        Some(GroupBy::Channel),
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

async fn a_query_that_takes_too_long_is_ended(database: Database) {
    let users: Vec<String> = (0..5_000).map(|n| format!("user-{n}")).collect();
    let events: Vec<Event> = users
        .iter()
        .map(|user| event("view", user, FEBRUARY))
        .collect();
    database
        .sink_at(0)
        .await
        .flush(batch_of(0, &events).view())
        .await
        .unwrap();
    let timeout = Duration::from_millis(1);
    let store = store::open(&StoreSettings {
        query_timeout: timeout,
        ..database.settings()
    })
    .unwrap();
    let _blocked = database.block_queries().await;
    let error = store
        .metrics(&query("view", 0, FEBRUARY + 1, Some(GroupBy::Day)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::QueryTimeout(limit) if limit == timeout),
        "{error}"
    );
}

async fn a_missing_schema_names_the_command(database: Database) {
    database
        .migrate(|location| migrations::down(location, true))
        .await
        .unwrap();
    let store = database.store();
    let mut sink = store.open_sink().await.unwrap();
    let errors = [
        store.check_schema().await.unwrap_err(),
        sink.checkpoint(wal_id()).await.unwrap_err(),
        store
            .open_sink()
            .await
            .unwrap()
            .flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
            .await
            .unwrap_err(),
        store
            .metrics(&query("view", 0, FEBRUARY, None))
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(&error, StoreError::Schema(text) if text.contains("`fast-ingest migrate up`")),
            "{error}"
        );
    }
}

async fn a_schema_from_the_future_blames_the_binary(database: Database) {
    database.store().check_schema().await.unwrap();
    database
        .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000000')")
        .await;
    let error = database.store().check_schema().await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Schema(text) if text.contains("older than the schema")),
        "{error}"
    );
    let error = database.migrate(migrations::up).await.unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)), "{error}");
}

async fn migrations_go_up_down_and_up_again(database: Database) {
    let carried: Vec<String> = database
        .migrate(migrations::status)
        .await
        .unwrap()
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(database.migrate(migrations::up).await.unwrap(), [""; 0]);
    let reverted = database
        .migrate(|location| migrations::down(location, true))
        .await
        .unwrap();
    assert_eq!(reverted, carried.iter().rev().cloned().collect::<Vec<_>>());
    assert!(
        database
            .migrate(migrations::status)
            .await
            .unwrap()
            .iter()
            .all(|one| one.known && !one.applied)
    );
    assert_eq!(database.migrate(migrations::up).await.unwrap(), carried);
    database.store().check_schema().await.unwrap();
    // The schema works.
    database
        .sink_at(0)
        .await
        .flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap();
}

async fn two_migrations_at_once_do_no_harm(database: Database) {
    let carried = database
        .migrate(|location| migrations::down(location, true))
        .await
        .unwrap()
        .len();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { database.migrate(migrations::up).await })
        })
        .collect();
    let mut applied = 0;
    for run in runs {
        applied += run.await.unwrap().unwrap().len();
    }
    assert_eq!(applied, carried);
}

/// An event in the making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    pub(crate) event_name: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) micros: i64,
    pub(crate) event_id: Option<&'a str>,
    pub(crate) campaign_id: Option<&'a str>,
    pub(crate) tags: Option<&'a [&'a str]>,
    pub(crate) metadata: Option<&'a str>,
}

/// An event with only what it must have.
pub(crate) fn event<'a>(event_name: &'a str, user_id: &'a str, micros: i64) -> Event<'a> {
    Event {
        event_name,
        channel: "web",
        user_id,
        micros,
        event_id: None,
        campaign_id: None,
        tags: None,
        metadata: None,
    }
}

/// The log that every batch here comes from.
pub(crate) fn wal_id() -> WalId {
    WalId(Uuid::from_u128(0x1234_5678))
}

/// A batch that begins behind `after`.
pub(crate) fn batch_of(after: u64, events: &[Event<'_>]) -> Batch {
    let mut batch = Batch::new(wal_id(), after);
    for event in events {
        let tags: Option<TagsBuf> = event.tags.map(|tags| tags.iter().copied().collect());
        let event = EventRef {
            event_name: event.event_name,
            channel: event.channel,
            user_id: event.user_id,
            timestamp: Timestamp::from_micros(event.micros),
            event_id: event.event_id,
            campaign_id: event.campaign_id,
            tags: tags.as_ref().map(TagsBuf::as_tags),
            metadata: event.metadata,
        };
        let mut encoded = Vec::new();
        codec::encode(&event, &mut encoded);
        batch.push(&encoded);
    }
    batch
}

/// A metrics query over `[from, to)`.
pub(crate) fn query(
    event_name: &str,
    from: i64,
    to: i64,
    group_by: Option<GroupBy>,
) -> MetricsQuery {
    let (from, to) = (Timestamp::from_micros(from), Timestamp::from_micros(to));
    MetricsQuery {
        event_name: event_name.to_owned(),
        from,
        to,
        group_by,
    }
}

fn bucket(start: i64, width: i64, total_events: u64, unique_users: u64) -> Group {
    let key = GroupKey::Bucket {
        start: Timestamp::from_micros(start),
        end: Timestamp::from_micros(start + width),
    };
    Group {
        key,
        counts: Counts {
            total_events,
            unique_users,
        },
    }
}
