//! A store with its schema, for benches that measure a store without the server around it.

use fast_ingest::upkeep::upgrade;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fast_ingest::event::EventRef;
use fast_ingest::store::settings::{StoreLocation, StoreSettings};
use fast_ingest::store::{self, EventSink, EventStore};
use fast_ingest::wal::batch::BatchView;
use fast_ingest::wal::id::Mark;
use rusqlite::params;
use tokio::runtime::{Builder, Runtime};

use super::batches::WAL_ID;

/// Long enough for a query over all rows.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Migrates a database and opens it.
pub(crate) async fn open(location: StoreLocation) -> Arc<dyn EventStore> {
    let migrated = location.clone();
    tokio::task::spawn_blocking(move || upgrade::up(&migrated))
        .await
        .expect("no panic")
        .expect("the database takes its schema");
    let settings = StoreSettings {
        location,
        query_connections: 1,
        query_timeout: TIMEOUT,
        query_bytes_max: 64 << 20,
        flush_timeout: TIMEOUT,
    };
    store::open(&settings).expect("a location that was just migrated")
}

/// A sink with a runtime of its own, like the flush thread's.
pub(crate) struct Flush {
    runtime: Runtime,
    sink: Box<dyn EventSink>,
}

impl Flush {
    /// Opens the sink of a fresh database, for the log [`WAL_ID`].
    pub(crate) fn open(location: StoreLocation) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let sink = runtime.block_on(async {
            let mut sink = open(location).await.open_sink().await.expect("it is up");
            let created = sink.create_checkpoint(WAL_ID, 0, Mark::default()).await;
            created.expect("a new log");
            sink
        });
        Self { runtime, sink }
    }

    /// Stores a batch; returns how long it took.
    pub(crate) fn time(&mut self, batch: BatchView<'_>) -> Duration {
        let started = Instant::now();
        let flushed = self.runtime.block_on(self.sink.flush(batch));
        flushed.expect("stored");
        started.elapsed()
    }
}

/// Runs a prepared INSERT of all columns for each event. None of the traffic has tags.
pub(crate) fn insert_each<'a>(
    insert: &mut rusqlite::Statement<'_>,
    events: impl Iterator<Item = EventRef<'a>>,
) -> rusqlite::Result<()> {
    let tags = None::<&str>;
    for event in events {
        insert.execute(params![
            event.timestamp.as_micros(),
            event.event_name,
            event.channel,
            event.user_id,
            event.event_id,
            event.campaign_id,
            tags,
            event.metadata
        ])?;
    }
    Ok(())
}
