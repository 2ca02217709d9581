//! The database's identity, the checkpoints of logs in it, and moving a checkpoint on a person's decision.
//!
//! All in simple queries: each is one round trip, and runs on connections that have prepared nothing.

use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use uuid::Uuid;

use super::error::bounded;
use crate::store::{Adoption, SinkError, StoreError};
use crate::wal::id::{CheckpointRow, DatabaseId, EventOutcomes, LifeId, Mark, Sequence, WalId};

/// The columns of a checkpoint, in the order in which [`checkpoint_row`] reads them.
const COLUMNS: &str = "flushed_through, life, token, applied, duplicates, quarantined, skipped";

/// The database's random identity.
pub(super) async fn database_id(client: &Client, limit: Duration) -> Result<DatabaseId, StoreError> {
    let replies = bounded(limit, client.simple_query("SELECT id FROM database_identity")).await?;
    let id = last_row(&replies).and_then(|row| Uuid::try_parse(row.get(0)?).ok());
    id.map(DatabaseId).ok_or_else(|| {
        StoreError::Schema(
            "database_identity is empty: restore its row, or insert a new one with INSERT INTO database_identity (id) VALUES \
             (gen_random_uuid())"
                .to_owned(),
        )
    })
}

/// The checkpoint of a log, read under its row lock. `begin` begins a transaction.
pub(super) async fn checkpoint(
    client: &Client,
    begin: &str,
    wal_id: WalId,
    limit: Duration,
) -> Result<Option<CheckpointRow>, StoreError> {
    let read = format!("{begin}SELECT {COLUMNS} FROM wal_checkpoints WHERE wal_id = '{wal_id}' FOR UPDATE; COMMIT");
    let replies = bounded(limit, client.simple_query(&read)).await?;
    let row = last_row(&replies).map(|row| {
        checkpoint_row(row).ok_or_else(|| {
            StoreError::Schema(format!(
                "the row of log {wal_id} in wal_checkpoints is damaged: {row:?}"
            ))
        })
    });
    row.transpose()
}

/// Moves the checkpoint to where a person wants it, and records what that skips. `begin` begins a transaction.
pub(super) async fn adopt(client: &Client, begin: &str, adoption: &Adoption, limit: Duration) -> Result<(), SinkError> {
    let (wal_id, through, skipped) = (adoption.wal_id, adoption.through, adoption.skipped());
    let Mark { life, token } = adoption.mark;
    let moved = match &adoption.seen {
        None => format!(
            "INSERT INTO wal_checkpoints (wal_id, flushed_through, skipped, life, token) \
             VALUES ('{wal_id}', {through}, {skipped}, '{life}', '{token}') ON CONFLICT DO NOTHING"
        ),
        Some(seen) => format!(
            "UPDATE wal_checkpoints SET flushed_through = {through}, skipped = skipped + {skipped}, life = '{life}', \
             token = '{token}', flushed_at = now() \
             WHERE wal_id = '{wal_id}' AND flushed_through = {} AND life = '{}' AND token = '{}'",
            seen.flushed_through, seen.mark.life, seen.mark.token
        ),
    };
    // In two messages, so that the row count of a later statement does not hide that of this one.
    let replies = bounded(limit, client.simple_query(&format!("{begin}{moved}"))).await?;
    if last_row_count(&replies) != 1 {
        bounded(limit, client.batch_execute("ROLLBACK")).await?;
        return Err(SinkError::CheckpointMoved);
    }
    let record = if skipped == 0 {
        String::new()
    } else {
        let first = adoption.seen_through() + 1;
        format!(
            "INSERT INTO wal_gaps (wal_id, first_sequence, last_sequence, reason) VALUES ('{wal_id}', {first}, {through}, '{}'); \
             DELETE FROM wal_lives WHERE wal_id = '{wal_id}' AND first_sequence BETWEEN {first} AND {through}; ",
            adoption.reason.replace('\'', "''")
        )
    };
    let lives = adoption.lives().into_iter();
    let lives: String = lives.map(|(first, life)| begin_life(wal_id, first, life)).collect();
    Ok(bounded(limit, client.batch_execute(&format!("{record}{lives}COMMIT"))).await?)
}

/// The statement which notes that this life wrote the log's events from this sequence on, ended by a semicolon.
pub(super) fn begin_life(wal_id: WalId, first: Sequence, life: LifeId) -> String {
    format!(
        "INSERT INTO wal_lives (wal_id, first_sequence, life) VALUES ('{wal_id}', {first}, '{life}') \
         ON CONFLICT (wal_id, first_sequence) DO UPDATE SET life = excluded.life; "
    )
}

/// The row of the last statement that may have one.
pub(super) fn last_row(replies: &[SimpleQueryMessage]) -> Option<&SimpleQueryRow> {
    replies.iter().fold(None, |row, reply| match reply {
        SimpleQueryMessage::RowDescription(_) => None,
        SimpleQueryMessage::Row(row) => Some(row),
        _ => row,
    })
}

/// The row count of the last statement in a simple query.
pub(super) fn last_row_count(replies: &[SimpleQueryMessage]) -> u64 {
    let counts = replies.iter().filter_map(|reply| match reply {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    });
    counts.last().unwrap_or(0)
}

/// Reads [`COLUMNS`]; `None` if they are not a valid checkpoint.
fn checkpoint_row(row: &SimpleQueryRow) -> Option<CheckpointRow> {
    let count = |column: usize| row.get(column)?.parse().ok();
    let uuid = |column: usize| Uuid::try_parse(row.get(column)?).ok();
    Some(CheckpointRow {
        flushed_through: count(0)?,
        mark: Mark {
            life: LifeId(uuid(1)?),
            token: uuid(2)?,
        },
        counts: EventOutcomes {
            applied: count(3)?,
            duplicates: count(4)?,
            quarantined: count(5)?,
            skipped: count(6)?,
        },
    })
}
