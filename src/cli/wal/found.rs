//! Reads a log's directory and its checkpoint in the database, without the log's lock.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::super::args::DatabaseArgs;
use super::super::serve::log_failure;
use crate::flush::checkpoint::{Lineage, Standing};
use crate::store::settings::{StoreLocation, StoreSettings};
use crate::store::{self, EventSink, SinkError, StoreError};
use crate::support::exit::{ExitStatus, Failure};
use crate::wal::directory::{self, Segment};
use crate::wal::disk::RealDisk;
use crate::wal::flushed::{self, Commit, Commits};
use crate::wal::id::{CheckpointRow, DatabaseId, Sequence, WalId};
use crate::wal::recovery::{self, Findings};
use crate::wal::{WalError, adopted, mismatch};

/// Time for a database to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Most attempts to read log and checkpoint while a server moves the checkpoint. Even a server that flushes all the
/// time leaves the checkpoint alone for longer than one attempt takes.
const LOOKS_MAX: usize = 50;

/// Printed when a decision was made already and no server has acted on it yet.
pub(super) const ANSWERED: &str = "by `wal adopt`; the server goes on from there, now or at its next start";

/// A log, as its directory shows it.
pub(super) struct FoundLog {
    pub(super) dir: PathBuf,
    /// The id in the headers of its segments.
    pub(super) wal_id: WalId,
    pub(super) segments: VecDeque<Segment>,
    /// The last sequence that the log has assigned.
    pub(super) end: Sequence,
    pub(super) commits: Commits,
    /// The mismatch that a server has recorded, in words.
    pub(super) mismatch: Option<String>,
    /// The decision of a person that no server has acted on yet, as a commit to a database.
    pub(super) adopted: Option<Commit>,
}

/// A database and its checkpoint of a log, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundCheckpoint {
    pub(super) database: DatabaseId,
    pub(super) row: Option<CheckpointRow>,
}

impl FoundLog {
    /// Reads the files beside the segments; `None` when there is no log yet.
    pub(super) fn read(dir: &Path, findings: &Findings) -> Result<Option<Self>, WalError> {
        let Some(wal_id) = findings.wal_id else {
            return Ok(None);
        };
        let segments = findings.segments.iter();
        Ok(Some(Self {
            dir: dir.to_owned(),
            wal_id,
            segments: segments.map(|found| Segment::active(&found.header)).collect(),
            end: findings.next_sequence - 1,
            commits: flushed::read(&RealDisk, dir, wal_id)?.unwrap_or_default(),
            mismatch: mismatch::read(&RealDisk, dir)?,
            adopted: adopted::read(&RealDisk, dir, wal_id)?,
        }))
    }

    /// The id under which databases know the log; another one than [`Self::wal_id`] after `wal adopt` made it a log of
    /// its own.
    pub(super) fn wal_id_in_databases(&self) -> WalId {
        let home = self.commits.home();
        home.map_or(self.wal_id, |home| home.wal_id)
    }

    /// The oldest sequence that the log holds or, if it is empty, will hold next.
    pub(super) fn oldest(&self) -> Sequence {
        let oldest = self.segments.front();
        oldest.map_or(1, |segment| segment.first_sequence)
    }

    /// Reads the log of a directory that a server may be writing to. `None` when there is no log yet.
    pub(super) fn examine(dir: &Path) -> Result<Option<Self>, WalError> {
        let findings = recovery::examine_live(&RealDisk, dir)?;
        Self::read(dir, &findings)
    }

    /// Whether a process uses the log.
    pub(super) fn is_in_use(&self) -> io::Result<bool> {
        directory::is_in_use(&RealDisk, &self.dir)
    }

    /// Calls `judge` with the identity and history of the log.
    pub(super) fn judge(&self, judge: impl FnOnce(&Lineage<'_>) -> Standing) -> Standing {
        judge(&Lineage {
            wal_id: self.wal_id_in_databases(),
            oldest: self.oldest(),
            end: self.end,
            life_of: &|sequence| directory::life_in(&self.segments, sequence, self.end),
            commits: &self.commits,
        })
    }
}

/// The failure of a command whose database fails.
pub(super) fn store_failure(error: impl Into<SinkError>) -> Failure {
    match error.into() {
        SinkError::Store(error @ StoreError::Schema(_)) => Failure::new(ExitStatus::Config, error),
        SinkError::CheckpointMoved => Failure::new(
            ExitStatus::Unavailable,
            anyhow::anyhow!("the checkpoint has moved in between, so nothing was changed; run the command again"),
        ),
        SinkError::Store(error) => Failure::new(ExitStatus::Unavailable, error),
    }
}

/// A connection to the database of a command, and the runtime that drives it.
pub(super) struct Contact {
    runtime: Runtime,
    sink: Box<dyn EventSink>,
}

impl Contact {
    /// Connects. Fails with a text for the user, also when the embedded database does not exist.
    pub(super) fn make(args: &DatabaseArgs) -> Result<Self, String> {
        let location = args.location().map_err(|error| error.to_string())?;
        if let StoreLocation::Sqlite(path) = &location
            && !path.exists()
        {
            return Err(format!("{} does not exist", path.display()));
        }
        let settings = StoreSettings {
            location,
            query_connections: 1,
            query_timeout: TIMEOUT,
            query_bytes_max: 0,
            flush_timeout: TIMEOUT,
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let open = async { store::open(&settings)?.open_sink().await };
        let sink = runtime.block_on(open).map_err(|error| error.to_string())?;
        Ok(Self { runtime, sink })
    }

    /// The database's checkpoint of a log.
    pub(super) fn checkpoint(&mut self, wal_id: WalId) -> Result<FoundCheckpoint, StoreError> {
        let sink = &mut self.sink;
        self.runtime.block_on(async {
            Ok(FoundCheckpoint {
                database: sink.database_id().await?,
                row: sink.checkpoint(wal_id).await?,
            })
        })
    }

    /// Log and checkpoint at one moment, although a server may be moving the checkpoint: the log is read between two
    /// equal reads of the checkpoint. `Ok(None)` when the checkpoint never stood still, or there is no log.
    pub(super) fn look_at_both(&mut self, dir: &Path) -> Result<Option<(FoundLog, FoundCheckpoint)>, Failure> {
        for _ in 0..LOOKS_MAX {
            let Some(log) = FoundLog::examine(dir).map_err(log_failure)? else {
                return Ok(None);
            };
            let wal_id = log.wal_id_in_databases();
            let before = self.checkpoint(wal_id).map_err(store_failure)?;
            let Some(log) = FoundLog::examine(dir).map_err(log_failure)? else {
                return Ok(None);
            };
            let after = self.checkpoint(wal_id).map_err(store_failure)?;
            if before == after && wal_id == log.wal_id_in_databases() {
                return Ok(Some((log, after)));
            }
        }
        Ok(None)
    }

    /// Whether a person has made a decision that no server has acted on yet.
    pub(super) fn has_answer_of(&mut self, log: &FoundLog) -> Result<bool, StoreError> {
        let Some(adopted) = log.adopted else {
            return Ok(false);
        };
        let found = self.checkpoint(adopted.wal_id)?;
        let stands = found.row.map(|row| (row.flushed_through, row.mark));
        Ok(found.database == adopted.database && stands == Some((adopted.through, adopted.mark)))
    }

    /// Moves a log's checkpoint to where a person has decided.
    pub(super) fn adopt(&mut self, adoption: &store::Adoption) -> Result<(), SinkError> {
        self.runtime.block_on(self.sink.adopt(adoption))
    }
}
