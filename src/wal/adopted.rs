//! The checkpoint that a person has put into a database for this log, until the flush uses it.
//!
//! `fast-ingest wal adopt` works beside a running server, so it touches none of the server's files: it makes this one,
//! durably, then moves the database's checkpoint. A flush that finds exactly this checkpoint in the database continues
//! from it. A file whose checkpoint is not in the database has no effect.

use std::path::Path;

use super::directory;
use super::disk::Disk;
use super::error::WalError;
use super::flushed::{self, Commit};
use crate::wal::id::WalId;

/// The file's name. Its format is that of [`super::flushed`], with one entry.
pub const NAME: &str = "ADOPTED";

/// Reads the file; `None` if there is none. `wal_id` is that of the segments.
///
/// # Errors
///
/// [`WalError`] when the file cannot be read, or is malformed.
pub fn read<D: Disk>(disk: &D, dir: &Path, wal_id: WalId) -> Result<Option<Commit>, WalError> {
    let commits = flushed::read_named(disk, dir, NAME, wal_id)?;
    Ok(commits.and_then(|(commits, _)| commits.home().copied()))
}

/// Makes the file. On return it survives a power cut.
///
/// # Errors
///
/// [`WalError::Io`].
pub fn write<D: Disk>(disk: &D, dir: &Path, wal_id: WalId, adopted: Commit) -> Result<(), WalError> {
    flushed::create_small(disk, dir, NAME, wal_id, adopted).map(drop)
}

/// Removes the file. On return the removal survives a power cut.
///
/// # Errors
///
/// [`WalError::Io`].
pub fn remove<D: Disk>(disk: &D, dir: &Path) -> Result<(), WalError> {
    directory::remove_if_there(disk, &dir.join(NAME))?;
    directory::sync_dir(disk, dir)
}
