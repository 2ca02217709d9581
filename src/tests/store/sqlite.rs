//! Behaviour that only SQLite can show a store: its side file.

use fast_ingest::store::settings::StoreLocation;

use crate::support::database::{Database, FEBRUARY, batch_of, event};

#[tokio::test]
async fn a_flush_gives_a_large_side_file_back() {
    let database = Database::sqlite().await;
    let StoreLocation::Sqlite(path) = database.settings().location else {
        panic!("a SQLite database")
    };
    let mut sink = database.sink_at(0).await;
    let side_file = path.with_file_name("events.db-wal");
    let bytes = || std::fs::metadata(&side_file).unwrap().len();
    // Nothing is copied back, so that the file grows as with overlapping queries.
    database
        .execute(
            "PRAGMA wal_autocheckpoint = 0; CREATE TABLE large (x BLOB);
             INSERT INTO large VALUES (zeroblob(70 * 1024 * 1024))",
        )
        .await;
    assert!(bytes() > 64 * 1024 * 1024);
    sink.flush(batch_of(0, &[event("view", "ann", FEBRUARY)]).view())
        .await
        .unwrap();
    assert_eq!(bytes(), 0);
    assert_eq!(database.users().await, ["ann"]);
}
