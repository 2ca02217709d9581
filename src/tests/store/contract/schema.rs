//! Versions of the schema: the errors when the schema is missing, or newer than the binary.

use fast_ingest::store::{QueryError, SinkError, StoreError, migrations};
use fast_ingest::upkeep::upgrade;

use super::contract;
use crate::support::database::{Database, FEBRUARY, batch_of, event, query, wal_id};

contract! {
    a_missing_schema_names_the_command,
    a_schema_from_the_future_blames_the_binary,
    a_server_of_the_release_before_can_store_nothing_more,
}

async fn a_missing_schema_names_the_command(database: Database) {
    database
        .migrate(|location| migrations::down(location, true))
        .await
        .unwrap();
    let store = database.store();
    let mut sink = store.open_sink().await.unwrap();
    let flushed = sink.flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view()).await;
    let Err(SinkError::Store(flushed)) = flushed else {
        panic!("{flushed:?}");
    };
    let asked = store.metrics(&query("view", 0, FEBRUARY, None)).await;
    let Err(QueryError::Store(asked)) = asked else {
        panic!("{asked:?}");
    };
    let mut sink = store.open_sink().await.unwrap();
    for error in [
        store.check_schema().await.unwrap_err(),
        sink.checkpoint(wal_id()).await.unwrap_err(),
        flushed,
        asked,
    ] {
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
    let error = database.migrate(upgrade::up).await.unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)), "{error}");
}

/// An old server checks the schema only at its start, so its flush must fail, and with an error that keeps its events.
async fn a_server_of_the_release_before_can_store_nothing_more(database: Database) {
    let old_flush = "UPDATE wal_checkpoints SET flushed_through = 1, moved_at = CURRENT_TIMESTAMP";
    let refusal = database.try_execute(old_flush).await.unwrap_err();
    assert!(refusal.contains("moved_at"), "{refusal}");

    // The meaning of such an error, shown by a flush of this release on a schema that has changed in the same way.
    let mut sink = database.sink_at(0).await;
    let events = [event("view", "ann", FEBRUARY)];
    database
        .execute("ALTER TABLE wal_checkpoints RENAME COLUMN flushed_at TO later")
        .await;
    let error = sink.flush(batch_of(0, &events).view()).await.unwrap_err();
    assert!(matches!(error, SinkError::Store(StoreError::Schema(_))), "{error}");
    assert_eq!(database.count("events").await, 0);
    database
        .execute("ALTER TABLE wal_checkpoints RENAME COLUMN later TO flushed_at")
        .await;
    let mut sink = database.store().open_sink().await.unwrap();
    let flushed = sink.flush(batch_of(0, &events).view()).await.unwrap();
    assert_eq!(flushed.stored, 1);
}
