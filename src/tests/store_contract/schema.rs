//! Versions of the schema: what migrations must do, and what is said when they were not run.

use fast_ingest::store::{StoreError, migrations};

use super::contract;
use crate::store_database::{Database, FEBRUARY, batch_of, event, query, wal_id};

contract! {
    a_missing_schema_names_the_command,
    a_schema_from_the_future_blames_the_binary,
    migrations_go_up_down_and_up_again,
    two_migrations_at_once_do_no_harm,
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
