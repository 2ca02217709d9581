//! The whole flush into SQLite, against a bare loop of a prepared INSERT in one transaction.
//!
//! The bare loop has its events decoded before the clock starts and keeps no checkpoint and no rollups. Its table has
//! the same columns and indexes, in a file of its own, with the same promise: synced at every commit.

use std::path::Path;
use std::time::Instant;

use criterion::Criterion;
use fast_ingest::event::EventRef;
use fast_ingest::store::settings::StoreLocation;
use fast_ingest::wal::batch::BatchView;
use rusqlite::{Connection, TransactionBehavior};

use crate::support::batches::Contest;
use crate::support::disk;
use crate::support::store::{Flush, insert_each};
use crate::support::table::Table;

/// Measures batches of all sizes.
pub(crate) fn run(criterion: &mut Criterion, table: &mut Table) {
    let directory = disk::fresh_directory();
    let path = directory.path().join("events.db");
    let mut flush = Flush::open(StoreLocation::Sqlite(path.clone()));
    let mut bare = open_bare(&directory.path().join("bare.db"), &path);
    let contest = Contest {
        layer: "flush_sqlite",
        limit: "bare_insert",
        ratio_min: 0.8,
    };
    contest.run(
        criterion,
        table,
        |batch| flush.time(batch),
        |batch: BatchView<'_>| {
            let events: Vec<_> = batch.events().collect();
            let started = Instant::now();
            store_bare(&mut bare, &events).expect("stored");
            let took = started.elapsed();
            // SQLite as we link it keeps the pages of all connections in one pool, and a connection that runs out of
            // pages takes those of others: in one process, each side would slow down the other.
            bare.release_memory().expect("an open database");
            took
        },
    );
}

/// A new file with a table like that of the events.
fn open_bare(path: &Path, events: &Path) -> Connection {
    let bare = Connection::open(path).expect("a new file");
    bare.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384")
        .expect("nobody else has it open");
    let events = Connection::open(events).expect("the store made it");
    let mut statements = events
        .prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = 'events' AND sql IS NOT NULL")
        .expect("every file has a schema");
    let statements = statements.query_map([], |row| row.get::<_, String>(0));
    // Ordered by creation: the table comes before its indexes.
    for statement in statements.expect("every file has a schema") {
        let statement = statement.expect("a text");
        bare.execute_batch(&statement).expect("an empty file");
    }
    bare
}

fn store_bare(bare: &mut Connection, events: &[EventRef<'_>]) -> rusqlite::Result<()> {
    let transaction = bare.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO events (ts, event_name, channel, user_id, event_id, campaign_id, tags, metadata) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        insert_each(&mut insert, events.iter().copied())?;
    }
    transaction.commit()
}
