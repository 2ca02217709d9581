//! The database's identity, the checkpoints of logs in it, and moving a checkpoint on a person's decision.

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use uuid::Uuid;

use super::error::{no_event_to_blame, store_error};
use super::rows;
use super::rows::as_integer;
use crate::store::{Adoption, SinkError, StoreError, Stretch};
use crate::wal::id::{CheckpointRow, DatabaseId, EventOutcomes, LifeId, Mark, Sequence, WalId};

/// The database's random identity.
pub(super) fn database_id(connection: &Connection) -> Result<DatabaseId, StoreError> {
    let read = connection.query_row("SELECT id FROM database_identity", [], |row| uuid(row, 0));
    match read.optional() {
        Ok(Some(id)) => Ok(DatabaseId(id)),
        Ok(None) => Err(StoreError::Schema(
            "database_identity is empty: restore its row, or insert a new random id with INSERT INTO database_identity (id) VALUES \
             (lower(hex(randomblob(16))))"
                .to_owned(),
        )),
        Err(error) => Err(store_error(&error)),
    }
}

/// The checkpoint of a log.
pub(super) fn checkpoint(transaction: &Transaction<'_>, wal_id: WalId) -> Result<Option<CheckpointRow>, StoreError> {
    let read = "SELECT flushed_through, life, token, applied, duplicates, quarantined, skipped \
                FROM wal_checkpoints WHERE wal_id = ?1";
    transaction
        .query_row(read, [wal_id.to_string()], checkpoint_row)
        .optional()
        .map_err(|error| store_error(&error))
}

/// The sequences of a life that are in the database. The last line of the query is for receipts of releases that knew
/// no lives.
pub(super) fn stored_of(connection: &Connection, life: LifeId) -> rusqlite::Result<Vec<Stretch>> {
    let mut stored = connection.prepare_cached(
        "SELECT l.first_sequence, c.flushed_through, \
         (SELECT min(n.first_sequence) FROM wal_lives n WHERE n.wal_id = l.wal_id AND n.first_sequence > l.first_sequence) \
         FROM wal_lives l JOIN wal_checkpoints c USING (wal_id) WHERE l.life = ?1 \
         UNION ALL SELECT 1, flushed_through, NULL FROM wal_checkpoints WHERE wal_id = ?1",
    )?;
    stored
        .query_map([life.to_string()], |row| {
            let next = match row.get_ref(2)? {
                ValueRef::Null => None,
                _ => Some(rows::count(row, 2)?),
            };
            Ok(Stretch::new(rows::count(row, 0)?, rows::count(row, 1)?, next))
        })?
        .collect()
}

/// Notes that this life wrote the log's events from this sequence on.
pub(super) fn begin_life(
    transaction: &Transaction<'_>,
    wal_id: WalId,
    first: Sequence,
    life: LifeId,
) -> Result<(), StoreError> {
    let begin = "INSERT INTO wal_lives (wal_id, first_sequence, life) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (wal_id, first_sequence) DO UPDATE SET life = excluded.life";
    let values = params![wal_id.to_string(), as_integer(first), life.to_string()];
    transaction
        .execute(begin, values)
        .map(drop)
        .map_err(|error| no_event_to_blame("wal_lives", &error))
}

/// Moves the checkpoint to where a person wants it, and records what that skips.
pub(super) fn adopt(transaction: &Transaction<'_>, adoption: &Adoption) -> Result<(), SinkError> {
    let wal_id = adoption.wal_id.to_string();
    let (through, skipped) = (as_integer(adoption.through), as_integer(adoption.skipped()));
    let (life, token) = (adoption.mark.life.to_string(), adoption.mark.token.to_string());
    let moved = match &adoption.seen {
        None => transaction.execute(
            "INSERT INTO wal_checkpoints (wal_id, flushed_through, skipped, life, token) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO NOTHING",
            params![wal_id, through, skipped, life, token],
        ),
        Some(seen) => transaction.execute(
            "UPDATE wal_checkpoints SET flushed_through = ?2, skipped = skipped + ?3, life = ?4, token = ?5, \
             flushed_at = CURRENT_TIMESTAMP WHERE wal_id = ?1 AND flushed_through = ?6 AND life = ?7 AND token = ?8",
            params![
                wal_id,
                through,
                skipped,
                life,
                token,
                as_integer(seen.flushed_through),
                seen.mark.life.to_string(),
                seen.mark.token.to_string()
            ],
        ),
    };
    if moved.map_err(|error| store_error(&error))? != 1 {
        return Err(SinkError::CheckpointMoved);
    }
    if skipped > 0 {
        let first = as_integer(adoption.seen_through() + 1);
        let record = "INSERT INTO wal_gaps (wal_id, first_sequence, last_sequence, reason) VALUES (?1, ?2, ?3, ?4)";
        transaction
            .execute(record, params![wal_id, first, through, adoption.reason])
            .map_err(|error| store_error(&error))?;
        let nobody = "DELETE FROM wal_lives WHERE wal_id = ?1 AND first_sequence BETWEEN ?2 AND ?3";
        transaction
            .execute(nobody, params![wal_id, first, through])
            .map_err(|error| store_error(&error))?;
    }
    for (first, life) in adoption.lives() {
        begin_life(transaction, adoption.wal_id, first, life)?;
    }
    Ok(())
}

/// Reads a checkpoint from its columns, in the order of [`checkpoint`]'s query.
fn checkpoint_row(row: &Row<'_>) -> rusqlite::Result<CheckpointRow> {
    Ok(CheckpointRow {
        flushed_through: rows::count(row, 0)?,
        mark: Mark {
            life: LifeId(uuid(row, 1)?),
            token: uuid(row, 2)?,
        },
        counts: EventOutcomes {
            applied: rows::count(row, 3)?,
            duplicates: rows::count(row, 4)?,
            quarantined: rows::count(row, 5)?,
            skipped: rows::count(row, 6)?,
        },
    })
}

fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text = row.get_ref(column)?.as_str()?;
    Uuid::try_parse(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}
