//! Versions of the schema: what is said when it is missing or newer than the binary.

use fast_ingest::store::{StoreError, migrations};

use super::contract;
use crate::store_database::{Database, FEBRUARY, batch_of, event, query, wal_id};

contract! {
    a_missing_schema_names_the_command,
    a_schema_from_the_future_blames_the_binary,
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
