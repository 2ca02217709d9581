//! The flush into SQLite: one writer connection, one immediate transaction a batch, the checkpoint first.
//!
//! The calls block, which is right here: only the flush thread uses a sink, and its runtime runs nothing else.

use std::path::Path;

use async_trait::async_trait;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::error::{no_event_to_blame, store_error};
use super::side_file::{self, SideFile};
use super::{connection, deltas, lineage};
use crate::event::{EventRef, Tags, Timestamp};
use crate::rollup::fold::Fold;
use crate::store::sqlite::rows::as_integer;
use crate::store::{Adoption, BeforeCommit, EventSink, Flushed, SinkError, StoreError, quarantine};
use crate::wal::batch::BatchView;
use crate::wal::id::{CheckpointRow, DatabaseId, WalId};

/// Page cache of the writer. A full batch of the default size changes about 2,000 pages of 4 KiB, and pages that do not
/// fit are written to the side file in the middle of the transaction, and read again.
const CACHE_KIB: u32 = 16 * 1024;

/// The connection that flushes, and the side file that it keeps small.
pub(super) struct SqliteSink {
    connection: Connection,
    side_file: SideFile,
}

impl SqliteSink {
    /// Opens the database, which `migrate` has made.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        // A sink is opened at the start, and after a commit in doubt.
        forget(path)?;
        Ok(Self {
            connection: connection::open_writer_with_cache(path, CACHE_KIB)?,
            side_file: SideFile::of(path),
        })
    }

    /// Begins a transaction during which no other connection can write. Dropped without commit, it is rolled back.
    fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| store_error(&error))
    }
}

#[async_trait]
impl EventSink for SqliteSink {
    async fn checkpoint(&mut self, wal_id: WalId) -> Result<Option<CheckpointRow>, StoreError> {
        lineage::checkpoint(&self.begin()?, wal_id)
    }

    async fn database_id(&mut self) -> Result<DatabaseId, StoreError> {
        lineage::database_id(&self.connection)
    }

    async fn adopt(&mut self, adoption: &Adoption) -> Result<(), SinkError> {
        let transaction = self.begin()?;
        lineage::adopt(&transaction, adoption)?;
        Ok(commit(transaction)?)
    }

    async fn flush_and_wait(
        &mut self,
        batch: BatchView<'_>,
        before_commit: BeforeCommit<'_>,
    ) -> Result<Flushed, SinkError> {
        if batch.is_empty() {
            return Ok(Flushed {
                stored: 0,
                duplicates: 0,
            });
        }
        // Before the transaction, because a transaction of this store cannot be held across an await.
        before_commit.await?;
        let transaction = self.begin()?;
        move_checkpoint(&transaction, batch, "applied")?;
        let stored = insert(&transaction, batch)?;
        let duplicates = batch.len() as u64 - stored;
        count_duplicates(&transaction, batch.wal_id(), duplicates)?;
        commit(transaction)?;
        self.side_file.keep_small(&self.connection);
        Ok(Flushed { stored, duplicates })
    }

    async fn quarantine(&mut self, batch: BatchView<'_>, code: &str, message: &str) -> Result<(), SinkError> {
        assert_eq!(batch.len(), 1, "quarantine takes one event");
        let encoded = batch.encoded().next().expect("a batch of one event");
        let event = batch.events().next().expect("a batch of one event");
        let transaction = self.begin()?;
        move_checkpoint(&transaction, batch, "quarantined")?;
        transaction
            .execute(
                "INSERT INTO quarantine (wal_id, sequence, code, message, readable, encoded) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    batch.wal_id().to_string(),
                    as_integer(batch.through()),
                    quarantine::without_nul(code),
                    quarantine::without_nul(message),
                    quarantine::readable(&event),
                    encoded
                ],
            )
            .map_err(|error| store_error(&error))?;
        Ok(commit(transaction)?)
    }

    async fn rehearse(&mut self, batch: BatchView<'_>) -> Result<Flushed, SinkError> {
        let transaction = self.begin()?;
        move_checkpoint(&transaction, batch, "applied")?;
        let stored = insert(&transaction, batch)?;
        transaction.rollback().map_err(|error| store_error(&error))?;
        Ok(Flushed {
            stored,
            duplicates: batch.len() as u64 - stored,
        })
    }
}

/// Drops what only the page cache has of the side file, so that nothing counts as stored that is not on the device.
pub(super) fn forget(path: &Path) -> Result<(), StoreError> {
    side_file::drop_cached(path).map_err(|error| {
        StoreError::Unavailable(format!(
            "cannot drop the cached write-ahead file of {}: {error}",
            path.display()
        ))
    })
}

/// The compare-and-set that comes first in every transaction. Counts the batch's events in `column`.
fn move_checkpoint(transaction: &Transaction<'_>, batch: BatchView<'_>, column: &str) -> Result<(), SinkError> {
    let (from, to) = (batch.from(), batch.to());
    let moved = transaction
        .prepare_cached(&format!(
            "UPDATE wal_checkpoints SET flushed_through = ?1, life = ?2, token = ?3, {column} = {column} + ?4, \
             flushed_at = CURRENT_TIMESTAMP WHERE wal_id = ?5 AND flushed_through = ?6 AND life = ?7 AND token = ?8"
        ))
        .and_then(|mut update| {
            update.execute(params![
                as_integer(batch.through()),
                to.life.to_string(),
                to.token.to_string(),
                as_integer(batch.len() as u64),
                batch.wal_id().to_string(),
                as_integer(batch.after()),
                from.life.to_string(),
                from.token.to_string(),
            ])
        })
        .map_err(|error| store_error(&error))?;
    if moved != 1 {
        return Err(SinkError::CheckpointMoved);
    }
    if from.life != to.life {
        lineage::begin_life(transaction, batch.wal_id(), batch.after() + 1, to.life)?;
    }
    Ok(())
}

/// Corrects the counts of a batch, all of whose events were counted as new.
fn count_duplicates(transaction: &Transaction<'_>, wal_id: WalId, duplicates: u64) -> Result<(), StoreError> {
    if duplicates == 0 {
        return Ok(());
    }
    let corrected = transaction.execute(
        "UPDATE wal_checkpoints SET applied = applied - ?1, duplicates = duplicates + ?1 WHERE wal_id = ?2",
        params![as_integer(duplicates), wal_id.to_string()],
    );
    corrected.map(drop).map_err(|error| store_error(&error))
}

/// Inserts the rows, and the deltas of those that were not there before; returns how many rows were new.
fn insert(transaction: &Transaction<'_>, batch: BatchView<'_>) -> Result<u64, StoreError> {
    // The conflict has a target: a row that breaks another unique index, the user's own, is no duplicate, and must not
    // vanish.
    let mut insert = transaction
        .prepare_cached(
            "INSERT INTO events (ts, event_name, channel, user_id, event_id, campaign_id, tags, metadata) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
             ON CONFLICT (user_id, ts, event_id) WHERE event_id IS NOT NULL DO NOTHING",
        )
        .map_err(|error| store_error(&error))?;
    let user_key = super::rollups::user_key(transaction).map_err(|error| store_error(&error))?;
    let mut fold = Fold::new(Timestamp::now(), user_key);
    let mut stored = 0;
    for event in batch.events() {
        let inserted = insert
            .execute(params![
                event.timestamp.as_micros(),
                event.event_name,
                event.channel,
                event.user_id,
                event.event_id,
                event.campaign_id,
                event.tags.map(as_json),
                event.metadata
            ])
            .map_err(|error| store_error(&error))?;
        if inserted == 1 {
            fold.add(&event);
            stored += 1;
        } else if !is_stored(transaction, &event).map_err(|error| store_error(&error))? {
            return Err(StoreError::Data {
                code: "dropped".to_owned(),
                message: "a trigger on events leaves the row out".to_owned(),
            });
        }
    }
    deltas::insert(transaction, &fold.finish()).map_err(|error| no_event_to_blame("rollup_deltas", &error))?;
    Ok(stored)
}

/// Whether an event with an id is in `events`.
fn is_stored(connection: &Connection, event: &EventRef<'_>) -> rusqlite::Result<bool> {
    let key = params![event.user_id, event.timestamp.as_micros(), event.event_id];
    connection
        .prepare_cached("SELECT 1 FROM events WHERE user_id = ?1 AND ts = ?2 AND event_id = ?3")?
        .exists(key)
}

fn commit(transaction: Transaction<'_>) -> Result<(), StoreError> {
    transaction.commit().map_err(|error| store_error(&error))
}

fn as_json(tags: Tags<'_>) -> String {
    serde_json::to_string(&tags.iter().collect::<Vec<_>>()).expect("strings always serialize")
}
