//! Reading the checkpoint, and judging whether the flush may go on from it: the first thing on every connection.

use super::checkpoint::{Checkpoint, Lineage, Question, Standing};
use crate::store::{EventSink, EventStore, SinkError, StoreError};
use crate::wal::disk::Disk;
use crate::wal::flushed::{Commit, Commits};
use crate::wal::id::{CheckpointRow, DatabaseId, Mark};
use crate::wal::{Log, WalError};

/// Why the flush cannot go on, on this connection or at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The log cannot be read, or a commit cannot be noted before it is tried.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The database fails.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Log and database do not belong together.
    #[error("{0}")]
    Mismatch(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Sink(error.into())
    }
}

/// What reading the checkpoint came to.
#[derive(Debug)]
pub(super) enum Looked {
    /// The flush goes on from here.
    Matches(CheckpointRow),
    /// A person has to decide first.
    Asks(Question),
    /// A person's answer (`wal adopt`) was found and put into effect: read the checkpoint again.
    TakenUp,
}

/// Reads the checkpoint before a server listens, and puts a person's answer to a mismatch into effect.
pub(super) async fn look_before_start<D: Disk>(
    store: &dyn EventStore,
    log: &Log<D>,
    checkpoint: &mut Checkpoint,
) -> Result<(), Trouble> {
    let is_mismatched = log.mismatch().is_some();
    if is_mismatched && log.adopted().is_none() {
        return Ok(());
    }
    let mut sink = store.open_sink().await?;
    if is_mismatched && !take_up_answer(sink.as_mut(), log, checkpoint).await? {
        return Ok(());
    }
    look(sink.as_mut(), log, checkpoint).await.map(drop)
}

/// Reads and judges the checkpoint; creates it if the log is new.
pub(super) async fn look<D: Disk>(
    sink: &mut dyn EventSink,
    log: &Log<D>,
    checkpoint: &mut Checkpoint,
) -> Result<Looked, Trouble> {
    // What was confirmed before stays true, whatever is found now.
    catch_up(log, checkpoint)?;
    if take_up_answer(sink, log, checkpoint).await? {
        return Ok(Looked::TakenUp);
    }
    let database = sink.database_id().await?;
    let mut row = sink.checkpoint(log.wal_id()).await?;
    let home = log.commits(|commits| commits.home().copied());
    if home.is_none_or(|home| home.database == database) {
        // Before the log is asked what it still holds, so that none of that is removed afterwards.
        log.take_back_behind(row.map_or(0, |row| row.flushed_through));
    }
    let mut standing = judge(log, database, row.as_ref());
    if standing == Standing::New {
        row = Some(make_checkpoint(sink, log, database).await?);
        standing = judge(log, database, row.as_ref());
    }
    match (standing, row) {
        (Standing::Matches, Some(row)) => {
            note_match(log, database, &row)?;
            checkpoint.confirm(database, row);
            Ok(Looked::Matches(row))
        }
        (Standing::Asks(question), _) => Ok(Looked::Asks(question)),
        (Standing::Mismatch(text), _) => Err(Trouble::Mismatch(text)),
        (Standing::New | Standing::Matches, _) => {
            let text = format!("the checkpoint of log {} vanished", log.wal_id());
            Err(StoreError::Unavailable(text).into())
        }
    }
}

/// Lets the flush go on from the checkpoint that `wal adopt` put into the database, if it is there. Returns whether it
/// was.
pub(super) async fn take_up_answer<D: Disk>(
    sink: &mut dyn EventSink,
    log: &Log<D>,
    checkpoint: &mut Checkpoint,
) -> Result<bool, Trouble> {
    let Some(adopted) = log.adopted() else {
        return Ok(false);
    };
    if sink.database_id().await? != adopted.database {
        return Ok(false);
    }
    let row = sink.checkpoint(adopted.wal_id).await?;
    let is_there = row.is_some_and(|row| (row.flushed_through, row.mark) == (adopted.through, adopted.mark));
    if is_there {
        log.take_up(adopted)?;
        // A checkpoint of another log identity or of another database says nothing here.
        *checkpoint = Checkpoint::default();
        tracing::warn!(
            wal_id = %adopted.wal_id,
            through = adopted.through,
            database = %adopted.database,
            "going on after sequence {}, as decided with `wal adopt`",
            adopted.through
        );
    }
    Ok(is_there)
}

fn judge<D: Disk>(log: &Log<D>, database: DatabaseId, row: Option<&CheckpointRow>) -> Standing {
    log.commits(|commits| {
        let lineage = Lineage {
            wal_id: log.wal_id(),
            oldest: log.directory().oldest_sequence(),
            end: log.durable().through,
            life_of: &|sequence| log.life_of(sequence),
            commits,
        };
        lineage.judge(database, row)
    })
}

/// Creates the checkpoint of a log that no database knows, and reads it back, so that the flush goes on from what the
/// database holds.
async fn make_checkpoint<D: Disk>(
    sink: &mut dyn EventSink,
    log: &Log<D>,
    database: DatabaseId,
) -> Result<CheckpointRow, Trouble> {
    let wal_id = log.wal_id();
    let mark = Mark::of_new_commit(log.life_of(0).unwrap_or_default());
    log.note_commit(Commit {
        database,
        wal_id,
        is_known: false,
        confirmed_through: 0,
        through: 0,
        mark,
    })?;
    sink.create_checkpoint(wal_id, 0, mark).await?;
    let row = sink.checkpoint(wal_id).await?;
    let vanished = || StoreError::Unavailable(format!("the checkpoint of log {wal_id} vanished"));
    Ok(row.ok_or_else(vanished)?)
}

/// Notes the checkpoint if the log knows none or an older one; warns when the database has gone back.
fn note_match<D: Disk>(log: &Log<D>, database: DatabaseId, row: &CheckpointRow) -> Result<(), WalError> {
    let Some(home) = log.commits(|commits| commits.home().copied()) else {
        return note_checkpoint(log, database, row);
    };
    if row.flushed_through > home.confirmed_through {
        return note_checkpoint(log, database, row);
    }
    if row.flushed_through < home.confirmed_through {
        tracing::warn!(
            from = home.confirmed_through,
            to = row.flushed_through,
            "the database has gone back from sequence {} to {}, as after a failover or a restore: storing again what the log has kept",
            home.confirmed_through,
            row.flushed_through
        );
    }
    Ok(())
}

/// Notes what was confirmed since the last commit was noted.
pub(super) fn catch_up<D: Disk>(log: &Log<D>, checkpoint: &Checkpoint) -> Result<(), WalError> {
    let known_through = log.commits(Commits::confirmed_through);
    match checkpoint.confirmed() {
        Some((_, row)) if known_through < row.flushed_through => note_confirmed(log, checkpoint),
        _ => Ok(()),
    }
}

/// Notes what was confirmed, and thereby that no later commit is in doubt.
pub(super) fn note_confirmed<D: Disk>(log: &Log<D>, checkpoint: &Checkpoint) -> Result<(), WalError> {
    match checkpoint.confirmed() {
        Some((database, row)) if log.mismatch().is_none() => note_checkpoint(log, database, &row),
        _ => Ok(()),
    }
}

/// Notes in the log where the checkpoint certainly stands.
fn note_checkpoint<D: Disk>(log: &Log<D>, database: DatabaseId, row: &CheckpointRow) -> Result<(), WalError> {
    log.note_commit(Commit {
        database,
        wal_id: log.wal_id(),
        is_known: true,
        confirmed_through: row.flushed_through,
        through: row.flushed_through,
        mark: row.mark,
    })
}
