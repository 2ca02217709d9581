//! A store with its schema, for the benches that measure one without the server around it.

use std::sync::Arc;
use std::time::Duration;

use fast_ingest::config::{StoreLocation, StoreSettings};
use fast_ingest::store::{self, EventStore, migrations};

/// Long enough for a query over all rows.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Migrates a database and opens it.
pub(crate) async fn open(location: StoreLocation) -> Arc<dyn EventStore> {
    let migrated = location.clone();
    tokio::task::spawn_blocking(move || migrations::up(&migrated))
        .await
        .expect("no panic")
        .expect("the database takes its schema");
    let settings = StoreSettings {
        location,
        query_connections: 1,
        query_timeout: TIMEOUT,
        flush_timeout: TIMEOUT,
    };
    store::open(&settings).expect("a location that was just migrated")
}
