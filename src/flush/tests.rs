//! The flush on a real log and a real SQLite.

mod answers;
mod behind;
mod faults;
mod lineage;

use crate::upkeep::upgrade;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{FlushError, FlushStop, Flusher};
use crate::flush::progress::FlushState;
use crate::flush::progress::Progress;
use crate::flush::settings::FlushSettings;
use crate::query::{MetricsQuery, MetricsReport};
use crate::store::settings::{StoreLocation, StoreSettings};
use crate::store::{self, EventSink, EventStore, Flushed, StoreError};
use crate::wal::batch::BatchView;
use crate::wal::flushed;
use crate::wal::id::{Sequence, WalId};
use crate::wal::tests::{LogPlace, Running, block_on, start};

/// A SQLite database beside the log of a test.
struct Database {
    location: StoreLocation,
    path: std::path::PathBuf,
}

impl Database {
    fn new(place: &LogPlace) -> Self {
        let path = place.path().with_file_name("events.db");
        let location = StoreLocation::Sqlite(path.clone());
        upgrade::up(&location).unwrap();
        Self { location, path }
    }

    fn store(&self) -> Arc<dyn EventStore> {
        store::open(&StoreSettings {
            location: self.location.clone(),
            query_connections: 1,
            query_timeout: Duration::from_secs(10),
            query_bytes_max: 64 << 20,
            flush_timeout: Duration::from_secs(10),
        })
        .unwrap()
    }

    fn connect(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.path).unwrap()
    }

    /// Users of all stored events, in the order of their numbers.
    fn users(&self) -> Vec<u64> {
        let connection = self.connect();
        let mut statement = connection
            .prepare("SELECT CAST(user_id AS INTEGER) FROM events ORDER BY 1")
            .unwrap();
        statement
            .query_map([], |row| row.get::<_, i64>(0))
            .unwrap()
            .map(|user| user.unwrap() as u64)
            .collect()
    }

    fn checkpoint(&self) -> u64 {
        let read = "SELECT flushed_through FROM wal_checkpoints";
        self.connect().query_row(read, [], |row| row.get::<_, i64>(0)).unwrap() as u64
    }

    fn set_checkpoint(&self, flushed_through: u64) {
        self.connect()
            .execute(
                "UPDATE wal_checkpoints SET flushed_through = ?1",
                [flushed_through as i64],
            )
            .unwrap();
    }
}

fn flusher(
    running: &Running,
    store: Arc<dyn EventStore>,
    stop: FlushStop,
) -> (Flusher, Arc<Progress>, watch::Sender<FlushStop>) {
    let settings = FlushSettings {
        rows_max: 10,
        bytes_max: 1 << 20,
        interval: Duration::from_millis(1),
    };
    let progress = Progress::new(running.log.subscribe(), 0);
    let (sender, receiver) = watch::channel(stop);
    (
        Flusher::new(
            Arc::clone(&running.log),
            store,
            settings,
            Arc::clone(&progress),
            receiver,
        ),
        progress,
        sender,
    )
}

/// Far longer than anything in these tests takes: it turns an endless wait into a failure. `make mutants` makes it
/// shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `look` until it finds something.
#[track_caller]
fn seen<T>(mut look: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    let looking = async move {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    async move {
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("never seen: {caller}"))
    }
}

/// Waits until the flush asks a person; returns the question.
async fn asked(progress: &Progress) -> String {
    seen(|| match progress.flush_state() {
        FlushState::Asking { reason } => Some(reason),
        _ => None,
    })
    .await
}

/// Flushes all that the log holds, and ends.
fn drain(running: &Running, store: Arc<dyn EventStore>) -> Result<(), FlushError> {
    block_on(async {
        let until = Instant::now() + Duration::from_secs(30);
        let (flusher, _, _stop) = flusher(running, store, FlushStop::Drain(until));
        flusher.run().await
    })
}

#[test]
fn stores_what_the_log_holds_and_goes_on_from_the_checkpoint() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&place.settings());
    running.append(&(1..=25).collect::<Vec<_>>()).unwrap();
    drain(&running, database.store()).unwrap();
    assert_eq!((database.users(), database.checkpoint()), ((1..=25).collect(), 25));
    running.stop().unwrap();

    let running = start(&place.settings());
    running.append(&[26]).unwrap();
    drain(&running, database.store()).unwrap();
    running.stop().unwrap();

    let running = start(&place.settings());
    drain(&running, database.store()).unwrap();
    assert_eq!((database.users(), database.checkpoint()), ((1..=26).collect(), 26));
    assert_eq!(place.segments().len(), 1, "what the database has is retired");
    running.stop().unwrap();
}

#[test]
fn a_checkpoint_inside_a_record_is_gone_on_from() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&place.settings());
    running.append(&[1, 2, 3, 4, 5]).unwrap();
    drain(&running, database.store()).unwrap();
    // The state that a bisected batch leaves when the process dies in the middle.
    database
        .connect()
        .execute("DELETE FROM events WHERE user_id IN ('4', '5')", [])
        .unwrap();
    database.set_checkpoint(3);
    running.stop().unwrap();
    std::fs::remove_file(place.path().join(flushed::NAME)).unwrap();
    let running = start(&place.settings());
    drain(&running, database.store()).unwrap();
    assert_eq!(database.users(), [1, 2, 3, 4, 5]);
    running.stop().unwrap();
}

#[test]
fn the_one_event_that_the_database_refuses_is_quarantined_and_its_neighbours_are_stored() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    database
        .connect()
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.user_id IN ('7', '20')
             BEGIN SELECT RAISE(ABORT, 'no sevens'); END",
        )
        .unwrap();
    let running = start(&place.settings());
    running.append(&(1..=20).collect::<Vec<_>>()).unwrap();
    drain(&running, database.store()).unwrap();
    assert_eq!(database.users(), (1..=19).filter(|user| *user != 7).collect::<Vec<_>>());
    assert_eq!(database.checkpoint(), 20);
    let connection = database.connect();
    let mut statement = connection
        .prepare("SELECT sequence, message, readable FROM quarantine ORDER BY sequence")
        .unwrap();
    let rows: Vec<(i64, String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [7, 20]);
    assert!(
        rows[0].1.contains("no sevens") && rows[0].2.contains(r#""user_id":"7""#),
        "{rows:?}"
    );
    running.stop().unwrap();
}

#[test]
fn told_to_end_now_it_leaves_the_rest_in_the_log() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&place.settings());
    running.append(&[1]).unwrap();
    block_on(async {
        let (flusher, _, _stop) = flusher(&running, database.store(), FlushStop::Now);
        flusher.run().await.unwrap();
    });
    assert_eq!(database.users(), Vec::<u64>::new());
    running.stop().unwrap();
}
