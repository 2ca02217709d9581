//! What rollups cost the flush: the store's sink against the same transaction without rollups, by hand, on the same
//! tables, one after the other.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fast_ingest::wal::batch::{Batch, BatchView};
use fast_ingest::wal::id::{Mark, WalId};
use futures_util::SinkExt as _;
use rusqlite::{TransactionBehavior, params};
use uuid::Uuid;

use super::Subject;
use super::database::{Database, Kind};
use crate::copy;
use crate::postgres;
use crate::support::raw_copy;
use crate::support::store::insert_each;
use crate::support::table::{Table, Target};
use crate::traffic::{Traffic, mix, now};

/// Rows of a batch: one second of busy traffic.
const ROWS: u64 = 10_000;
/// Pairs of batches that are measured, and warm-up pairs before them.
const PAIRS: u64 = 40;
const WARM_UP: u64 = 5;
/// The size that the store's sink uses.
const CHUNK_BYTES: usize = 128 * 1024;

/// Measures a store on an empty database.
pub(crate) async fn measure(database: &Database, table: &mut Table) {
    let (ours, theirs) = (WalId(Uuid::from_u128(2)), WalId(Uuid::from_u128(3)));
    let mut sink = database.store().open_sink().await.expect("the database is up");
    for wal_id in [ours, theirs] {
        sink.create_checkpoint(wal_id, 0, Mark::default())
            .await
            .expect("a new log");
    }
    // The last minutes before now, a second for each pair.
    let pairs = WARM_UP + PAIRS;
    let (end, seconds) = (now(), i64::try_from(pairs).expect("a small number"));
    let traffic = Traffic {
        events: pairs * ROWS,
        range: end - seconds * 1_000_000..end,
    };
    // Makes the partition, whose cost belongs to no measured batch.
    let mut first = Batch::new(ours, 0);
    traffic.fill(&mut first, 0..1);
    traffic.fill(&mut first, traffic.events - 1..traffic.events);
    sink.flush(first.view()).await.expect("stored");
    let mut by_hand = ByHand::connect(database).await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        let events = pair * ROWS..(pair + 1) * ROWS;
        let mut batches = [Batch::new(ours, 2 + events.start), Batch::new(theirs, events.start)];
        for batch in &mut batches {
            traffic.fill(batch, events.clone());
        }
        // The side that comes second finds caches warm, and SQLite copies its side file back every so many commits: the
        // order is random, as strict turns would meet these effects again and again.
        let first = mix(pair) % 2;
        for turn in [first, 1 - first] {
            let view = batches[turn as usize].view();
            let started = Instant::now();
            if turn == 0 {
                sink.flush(view).await.expect("stored");
            } else {
                by_hand.flush(view).await;
            }
            let took = started.elapsed();
            if pair >= WARM_UP {
                if turn == 0 { &mut with } else { &mut without }.push(took);
            }
        }
    }
    let rate = |times: &mut Vec<Duration>| {
        times.sort();
        ROWS as f64 / times[times.len() / 2].as_secs_f64()
    };
    let subject = Subject::of(database, PAIRS * ROWS);
    table.add(subject.row(
        "flush with rollups, against one without",
        "/s",
        rate(&mut with),
        Some(rate(&mut without)),
        Target::RatioAtLeast(0.85),
    ));
}

/// The flush without rollups.
enum ByHand {
    Postgres(tokio_postgres::Client, tokio_postgres::Statement),
    Sqlite(rusqlite::Connection),
}

impl ByHand {
    async fn connect(database: &Database) -> Self {
        match database.kind {
            Kind::Postgres => {
                let client = postgres::connect(database.url()).await;
                let copy = raw_copy::prepare(&client, "events").await;
                Self::Postgres(client, copy)
            }
            Kind::Sqlite => {
                let file = database.file();
                file.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
                    .expect("the store's own pragmas");
                Self::Sqlite(file)
            }
        }
    }

    async fn flush(&mut self, batch: BatchView<'_>) {
        match self {
            Self::Postgres(client, copy) => flush_postgres(client, copy, batch).await,
            Self::Sqlite(file) => flush_sqlite(file, batch),
        }
    }
}

async fn flush_postgres(client: &tokio_postgres::Client, copy: &tokio_postgres::Statement, batch: BatchView<'_>) {
    let begin = format!(
        "BEGIN; SET LOCAL synchronous_commit = on; UPDATE wal_checkpoints SET flushed_through = {}, flushed_at = now() \
         WHERE wal_id = '{}' AND flushed_through = {}",
        batch.through(),
        batch.wal_id(),
        batch.after()
    );
    client.batch_execute(&begin).await.expect("the checkpoint moves");
    let rows = client.copy_in::<_, Bytes>(copy).await.expect("COPY begins");
    let mut rows = std::pin::pin!(rows);
    let mut chunk = BytesMut::with_capacity(2 * CHUNK_BYTES);
    copy::put_header(&mut chunk);
    for event in batch.events() {
        copy::put_row(&mut chunk, &event);
        if chunk.len() >= CHUNK_BYTES {
            rows.feed(chunk.split().freeze()).await.expect("taken");
            chunk.reserve(2 * CHUNK_BYTES);
        }
    }
    copy::put_trailer(&mut chunk);
    rows.feed(chunk.freeze()).await.expect("taken");
    let stored = rows.finish().await.expect("taken");
    assert_eq!(stored, batch.len() as u64);
    client.batch_execute("COMMIT").await.expect("committed");
}

fn flush_sqlite(file: &mut rusqlite::Connection, batch: BatchView<'_>) {
    let begun = file.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = begun.expect("nobody else writes");
    let sequence = |sequence: u64| i64::try_from(sequence).expect("a small number");
    let moved = transaction
        .prepare_cached(
            "UPDATE wal_checkpoints SET flushed_through = ?1, flushed_at = CURRENT_TIMESTAMP WHERE wal_id = ?2 AND flushed_through = ?3",
        )
        .and_then(|mut update| {
            let wal_id = batch.wal_id().to_string();
            update.execute(params![sequence(batch.through()), wal_id, sequence(batch.after())])
        });
    assert_eq!(moved.expect("the checkpoint moves"), 1);
    {
        let mut insert = transaction
            .prepare_cached(
                "INSERT INTO events (ts, event_name, channel, user_id, event_id, campaign_id, tags, metadata)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
            )
            .expect("the table is there");
        insert_each(&mut insert, batch.events()).expect("stored");
    }
    transaction.commit().expect("committed");
}
