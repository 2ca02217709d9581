//! What can go wrong in the log, sorted by what a person has to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::wal::id::Sequence;

/// The actions that can find a disk full, and are undone then.
pub(super) const WRITE: &str = "write";
pub(super) const CREATE: &str = "create";
pub(super) const RENAME_TO: &str = "rename to";

/// An error of the write-ahead log. None of them goes away by trying again.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Another process uses the directory.
    #[error("{} is in use by another fast-ingest process; stop that one first, or choose another --data-dir", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The operating system refused an operation. After a failed write or sync the log is poisoned.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said. Part of the text above, so not a `source` that would repeat it.
        cause: io::Error,
    },
    /// Acknowledged data is not what was written.
    #[error(
        "acknowledged data is damaged: {} at byte {offset}: {detail} (events from sequence {sequence} on). Nothing was changed. \
         Restore the file from a copy, then start again; `fast-ingest wal inspect` shows the extent",
        segment.display()
    )]
    Damage {
        /// The segment file.
        segment: PathBuf,
        /// Where in it.
        offset: u64,
        /// First sequence that is affected.
        sequence: Sequence,
        /// What is wrong there.
        detail: String,
    },
    /// The segment was written by a newer version.
    #[error("{} has log format {version}, this binary knows format {known}; start the newer version again", segment.display())]
    NewerVersion {
        /// The segment file.
        segment: PathBuf,
        /// The version it has.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
}

impl WalError {
    /// Whether a write, or a new file, found no space.
    pub(super) fn is_full(&self) -> bool {
        let Self::Io { action, cause, .. } = self else {
            return false;
        };
        let finds_no_room = matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        finds_no_room && matches!(*action, WRITE | CREATE | RENAME_TO)
    }

    pub(crate) fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            cause,
        }
    }

    pub(crate) fn damage(segment: &Path, offset: u64, sequence: Sequence, detail: impl Into<String>) -> Self {
        Self::Damage {
            segment: segment.to_owned(),
            offset,
            sequence,
            detail: detail.into(),
        }
    }
}
