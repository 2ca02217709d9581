//! Behaviour that only PostgreSQL can show a store: sessions that outlive their client, locks, lost partitions,
//! restarts.

use fast_ingest::upkeep::upgrade;
use std::sync::Arc;
use std::time::Duration;

use fast_ingest::query::Counts;
use fast_ingest::store::settings::{StoreLocation, StoreSettings};
use fast_ingest::store::{self, Flushed, QueryError, SinkError, StoreError};
use fast_ingest::wal::batch::Batch;
use fast_ingest::wal::id::{Mark, WalId};
use uuid::Uuid;

use crate::support::database::{Database, FEBRUARY, batch_of, event, query, wal_id};
use crate::support::postgres::{Cluster, StopMode};

fn batch_for(after: u64, user: &str) -> Batch {
    batch_of(after, &[event("view", user, FEBRUARY)])
}

/// Waits until a query about the server's sessions returns true.
pub(crate) async fn wait_until(observer: &tokio_postgres::Client, condition: &str) {
    for _ in 0..2_000 {
        let row = observer.query_one(&format!("SELECT {condition}"), &[]).await.unwrap();
        if row.get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came true: {condition}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_that_commits_late_wins_and_the_retry_stores_nothing() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    // A session whose client gave up on it: it has moved the checkpoint, and will commit.
    let zombie = database.session().await;
    zombie
        .batch_execute("BEGIN; UPDATE wal_checkpoints SET flushed_through = 1")
        .await
        .unwrap();
    let retry = tokio::spawn(async move {
        let outcome = sink.flush(batch_for(0, "ann").view()).await;
        (outcome, sink.checkpoint(wal_id()).await)
    });
    let observer = database.session().await;
    let waits = "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
    wait_until(&observer, waits).await;
    zombie.batch_execute("COMMIT").await.unwrap();
    let (outcome, checkpoint) = retry.await.unwrap();
    assert!(matches!(outcome, Err(SinkError::CheckpointMoved)), "{outcome:?}");
    assert_eq!(checkpoint.unwrap().map(|row| row.flushed_through), Some(1));
    assert_eq!(database.count("events").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_whose_row_is_locked_is_not_read_around() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let zombie = database.session().await;
    zombie
        .batch_execute("BEGIN; UPDATE wal_checkpoints SET flushed_through = 1")
        .await
        .unwrap();
    let error = sink.checkpoint(wal_id()).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Unavailable(text) if text.contains("55P03")),
        "{error}"
    );
    zombie.batch_execute("ROLLBACK").await.unwrap();
    let mut fresh = database.store().open_sink().await.unwrap();
    assert_eq!(
        fresh.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(0)
    );
}

/// In the middle of a COPY, only keepalive probes show the server that its client's machine has died.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_probes_the_flush_and_lets_go_when_it_is_gone() {
    let database = Database::postgres().await;
    // Asks in the sink's own session for the settings of its socket.
    database
        .execute(
            "CREATE TABLE seen (name text, value text);
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO seen SELECT name, current_setting(name) FROM pg_settings WHERE name LIKE 'tcp\\_%';
                 RETURN NEW;
             END $$;
             CREATE TRIGGER look BEFORE INSERT ON wal_checkpoints FOR EACH ROW EXECUTE FUNCTION look()",
        )
        .await;
    drop(database.sink_at(0).await);
    let rows = database
        .session()
        .await
        .query("SELECT name, value FROM seen ORDER BY name", &[])
        .await
        .unwrap();
    let seen: Vec<(&str, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(
        seen,
        [
            ("tcp_keepalives_count", "3"),
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_user_timeout", "60000"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_dropped_behind_our_back_is_made_again() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    sink.flush(batch_for(0, "ann").view()).await.unwrap();
    database.execute("DROP TABLE events_2026_02").await;
    assert_eq!(
        sink.flush(batch_for(1, "bob").view()).await.unwrap(),
        Flushed {
            stored: 1,
            duplicates: 0
        }
    );
    assert_eq!(
        sink.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(2)
    );
    assert_eq!(database.users().await, ["bob"]);
    // A dropped partition again, for an event that goes through the staging table.
    database.execute("DROP TABLE events_2026_02").await;
    let mut with_id = event("view", "cid", FEBRUARY);
    with_id.event_id = Some("1");
    sink.flush(batch_of(2, &[with_id]).view()).await.unwrap();
    assert_eq!(database.users().await, ["cid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_made_while_a_query_runs() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    let reader = database.session().await;
    // A long query is a transaction that holds its lock on the parent table.
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM events")
        .await
        .unwrap();
    sink.flush(batch_for(0, "ann").view()).await.unwrap();
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(database.users().await, ["ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn flushers_that_need_the_same_partition_do_not_race() {
    let database = Database::postgres().await;
    let mut flushes = Vec::new();
    for n in 0..4_u128 {
        let mut sink = database.store().open_sink().await.unwrap();
        let wal_id = WalId(Uuid::from_u128(n));
        sink.create_checkpoint(wal_id, 0, Mark::default()).await.unwrap();
        flushes.push(tokio::spawn(async move {
            let one = batch_for(0, "ann");
            let mut batch = Batch::new(wal_id, 0);
            batch.push(one.view().encoded().next().unwrap());
            sink.flush(batch.view()).await
        }));
    }
    for flush in flushes {
        assert_eq!(flush.await.unwrap().unwrap().stored, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_unavailable_and_blames_no_event() {
    let database = Database::postgres().await;
    drop(database.sink_at(0).await);
    let name: String = database
        .session()
        .await
        .query_one("SELECT current_database()::text", &[])
        .await
        .unwrap()
        .get(0);
    database
        .execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .await;
    let mut sink = database.store().open_sink().await.unwrap();
    let error = sink.flush(batch_for(0, "ann").view()).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Store(StoreError::Unavailable(text)) if text.contains("25006")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_column_stops_the_flush_as_a_schema_error() {
    let database = Database::postgres().await;
    let mut sink = database.sink_at(0).await;
    database.execute("ALTER TABLE events DROP COLUMN tags").await;
    let error = sink.flush(batch_for(0, "ann").view()).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Store(StoreError::Schema(text)) if text.contains("42703")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_query_is_cancelled_in_the_server() {
    let database = Database::postgres().await;
    let blocked = database.block_queries().await;
    let observer = database.session().await;
    let store = store::open(&StoreSettings {
        query_connections: 1,
        ..database.settings()
    })
    .unwrap();
    let store_of_query = Arc::clone(&store);
    let waiting = tokio::spawn(async move { store_of_query.metrics(&query("view", 0, FEBRUARY, None)).await });
    let running = "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'fast-ingest' AND query LIKE '%rollup%' AND state = 'active')";
    wait_until(&observer, running).await;
    waiting.abort();
    wait_until(&observer, &format!("NOT {running}")).await;
    // Its only connection is free again, though the old session is not used again.
    drop(blocked);
    let report = store.metrics(&query("view", 0, FEBRUARY, None)).await.unwrap();
    assert_eq!(report.total, Counts::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_connections_are_said_to_be_busy() {
    let database = Database::postgres().await;
    let _blocked = database.block_queries().await;
    let observer = database.session().await;
    let store = store::open(&StoreSettings {
        query_connections: 1,
        ..database.settings()
    })
    .unwrap();
    let store_of_query = Arc::clone(&store);
    let waiting = tokio::spawn(async move { store_of_query.metrics(&query("view", 0, FEBRUARY, None)).await });
    wait_until(&observer, "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%rollup%' AND wait_event_type = 'Lock')").await;
    let error = store.metrics(&query("view", 0, FEBRUARY, None)).await.unwrap_err();
    assert!(
        matches!(&error, QueryError::Busy(text) if text.contains("busy")),
        "{error}"
    );
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_is_told_that_the_database_is_down() {
    let location = StoreLocation::Postgres("postgres://user:secret@127.0.0.1:1/db".to_owned());
    let store = store::open(&StoreSettings {
        location,
        query_connections: 1,
        query_timeout: Duration::from_secs(30),
        query_bytes_max: 64 << 20,
        flush_timeout: Duration::from_secs(30),
    })
    .unwrap();
    // All of them wait for one connection attempt.
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.metrics(&query("view", 0, FEBRUARY, None)).await })
        })
        .collect();
    for answer in asking {
        let error = answer.await.unwrap().unwrap_err();
        assert!(
            matches!(&error, QueryError::Store(StoreError::Unavailable(text)) if text.contains("127.0.0.1:1")),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_new_sink_and_old_store_work() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let database = Database::postgres_on(&cluster).await;
    let mut sink = database.sink_at(0).await;
    sink.flush(batch_for(0, "ann").view()).await.unwrap();
    let metrics = query("view", FEBRUARY, FEBRUARY + 1, None);
    assert_eq!(database.store().metrics(&metrics).await.unwrap().total.total_events, 1);

    tokio::task::block_in_place(|| cluster.stop(StopMode::Immediate));
    let error = sink.flush(batch_for(1, "bob").view()).await.unwrap_err();
    assert!(matches!(error, SinkError::Store(StoreError::Unavailable(_))), "{error}");
    let error = database.store().open_sink().await.err().unwrap();
    assert!(
        matches!(&error, StoreError::Unavailable(text) if text.contains("127.0.0.1:")),
        "{error}"
    );
    let error = database.store().metrics(&metrics).await.unwrap_err();
    assert!(
        matches!(error, QueryError::Store(StoreError::Unavailable(_))),
        "{error}"
    );

    tokio::task::block_in_place(|| cluster.start_again());
    let mut sink = database.store().open_sink().await.unwrap();
    assert_eq!(
        sink.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(1)
    );
    sink.flush(batch_for(1, "bob").view()).await.unwrap();
    assert_eq!(database.store().metrics(&metrics).await.unwrap().total.total_events, 2);
    tokio::task::block_in_place(|| cluster.stop(StopMode::Fast));
}

/// The flush also refuses the database, because it may have been down when the server started.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_encoding_is_refused_with_the_remedy() {
    let cluster = tokio::task::spawn_blocking(Cluster::shared).await.unwrap();
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let options = format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        let url = cluster.create_database_with(&options).await;
        let location = StoreLocation::Postgres(url);
        let store = store::open(&StoreSettings {
            location: location.clone(),
            query_connections: 1,
            query_timeout: Duration::from_secs(30),
            query_bytes_max: 64 << 20,
            flush_timeout: Duration::from_secs(30),
        })
        .unwrap();
        let migrated = tokio::task::spawn_blocking(move || upgrade::up(&location));
        let errors = [
            migrated.await.unwrap().unwrap_err(),
            store.check_schema().await.unwrap_err(),
            store.open_sink().await.err().unwrap(),
        ];
        for error in errors {
            assert!(
                matches!(&error, StoreError::Schema(text)
                    if text.contains(encoding) && text.contains("ENCODING 'UTF8' TEMPLATE template0")),
                "{error}"
            );
        }
    }
}
