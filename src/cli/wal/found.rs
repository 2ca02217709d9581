//! What a log's directory and its database say of each other, without the log's lock.

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

/// Looks at a checkpoint that moves meanwhile. A server that flushes all the time leaves it alone for longer than one
/// takes.
const LOOKS_MAX: usize = 50;

/// What is said of an answer that was given before.
pub(super) const ANSWERED: &str = "by `wal adopt`; the server goes on from there, now or at its next start";

/// A log, as its directory shows it.
pub(super) struct FoundLog {
    pub(super) dir: PathBuf,
    /// Of its segments.
    pub(super) wal_id: WalId,
    pub(super) segments: VecDeque<Segment>,
    /// The last sequence that was given out.
    pub(super) end: Sequence,
    pub(super) commits: Commits,
    /// What a server found not to match.
    pub(super) mismatch: Option<String>,
    /// What a person has put into a database, and no server has taken up yet.
    pub(super) adopted: Option<Commit>,
}

/// What a database says of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundCheckpoint {
    pub(super) database: DatabaseId,
    pub(super) row: Option<CheckpointRow>,
}

impl FoundLog {
    /// Reads what is beside the segments; `None` when there is no log yet.
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

    /// The name under which databases know it.
    pub(super) fn wal_id_in_databases(&self) -> WalId {
        let home = self.commits.home();
        home.map_or(self.wal_id, |home| home.wal_id)
    }

    /// The oldest sequence that it holds, or will hold next.
    pub(super) fn oldest(&self) -> Sequence {
        let oldest = self.segments.front();
        oldest.map_or(1, |segment| segment.first_sequence)
    }

    /// Reads the log of a directory that a server may be writing to. `None` when there is no log yet.
    pub(super) fn examine(dir: &Path) -> Result<Option<Self>, WalError> {
        let findings = recovery::examine_live(&RealDisk, dir)?;
        Self::read(dir, &findings)
    }

    /// Whether a process uses it.
    pub(super) fn is_in_use(&self) -> io::Result<bool> {
        directory::is_in_use(&RealDisk, &self.dir)
    }

    /// Calls `judge` with what the log knows of itself.
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

/// What a database that fails means for a command.
pub(super) fn store_failure(error: impl Into<SinkError>) -> Failure {
    match error.into() {
        SinkError::Store(error @ StoreError::Schema(_)) => Failure::new(ExitStatus::Config, error),
        SinkError::CheckpointMoved => Failure::new(
            ExitStatus::Unavailable,
            anyhow::anyhow!("the checkpoint was moved meanwhile, so nothing was changed; look again"),
        ),
        SinkError::Store(error) => Failure::new(ExitStatus::Unavailable, error),
    }
}

/// A connection to the database of a command, and what waits for it.
pub(super) struct Contact {
    runtime: Runtime,
    sink: Box<dyn EventSink>,
}

impl Contact {
    /// Connects.
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

    /// What the database says of a log.
    pub(super) fn checkpoint(&mut self, wal_id: WalId) -> Result<FoundCheckpoint, StoreError> {
        let sink = &mut self.sink;
        self.runtime.block_on(async {
            Ok(FoundCheckpoint {
                database: sink.database_id().await?,
                row: sink.checkpoint(wal_id).await?,
            })
        })
    }

    /// What log and database say of each other at one moment, though a server may be moving the checkpoint on: what the
    /// log holds is read between two equal looks at the checkpoint. `Ok(None)` when it never stood still, or there is
    /// no log.
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

    /// Whether a person has answered, and no server has taken it up yet.
    pub(super) fn has_answer_of(&mut self, log: &FoundLog) -> Result<bool, StoreError> {
        let Some(adopted) = log.adopted else {
            return Ok(false);
        };
        let found = self.checkpoint(adopted.wal_id)?;
        let stands = found.row.map(|row| (row.flushed_through, row.mark));
        Ok(found.database == adopted.database && stands == Some((adopted.through, adopted.mark)))
    }

    /// Puts a log's checkpoint where a person wants it.
    pub(super) fn adopt(&mut self, adoption: &store::Adoption) -> Result<(), SinkError> {
        self.runtime.block_on(self.sink.adopt(adoption))
    }
}
