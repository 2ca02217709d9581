//! The handle on an open log: what its thread and the flush share.

use std::sync::{Arc, PoisonError};

use super::directory::Directory;
use super::disk::{Disk, RealDisk};
use super::error::WalError;
use super::mismatch;
use crate::batch::{LifeId, Sequence, WalId};
use crate::intake::Gate;
use crate::sync::{Mutex, MutexGuard, watch};

/// How far the log is on disk. Bytes behind it may be half written and must not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableMark {
    /// Every event up to here is on disk.
    pub through: Sequence,
    /// First sequence of the active segment.
    pub active_first: Sequence,
    /// Where the durable bytes of the active segment end.
    pub active_end: u64,
}

/// An open log. Holds the lock until it is dropped.
#[derive(Debug)]
pub struct Log<D: Disk = RealDisk> {
    pub(super) wal_id: WalId,
    pub(super) directory: Directory<D>,
    /// Receives what the committer publishes.
    pub(super) durable: watch::Receiver<DurableMark>,
    pub(super) gate: Arc<Gate>,
    pub(super) recovered_through: Sequence,
    /// Of this start.
    pub(super) life: LifeId,
    /// Why log and database do not belong together, once that was found. Read at the start, written by the flush thread.
    pub(super) mismatch: Mutex<Option<String>>,
    pub(super) _lock: D::Lock,
}

impl<D: Disk> Log<D> {
    /// The log's identity.
    pub fn wal_id(&self) -> WalId {
        self.wal_id
    }

    /// The life that this start began.
    pub fn life(&self) -> LifeId {
        self.life
    }

    /// The life that wrote the event at `sequence`; `None` where the log cannot tell.
    pub fn life_of(&self, sequence: Sequence) -> Option<LifeId> {
        self.directory.life_of(sequence, self.durable().through)
    }

    /// Everything up to here was on disk when the log was opened.
    pub fn recovered_through(&self) -> Sequence {
        self.recovered_through
    }

    /// How far the log is on disk now.
    pub fn durable(&self) -> DurableMark {
        *self.durable.borrow()
    }

    /// To wait for the log to grow.
    pub fn subscribe(&self) -> watch::Receiver<DurableMark> {
        self.durable.clone()
    }

    /// The directory and its segments.
    pub fn directory(&self) -> &Directory<D> {
        &self.directory
    }

    /// Whether it takes more.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Why log and database do not belong together, if that was found, by this process or one before it.
    pub fn mismatch(&self) -> Option<String> {
        self.lock_mismatch().clone()
    }

    /// Log and database do not belong together: closes the gate, and marks the directory, so that a restart keeps it closed.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`] when the mark cannot be written; the gate is closed all the same.
    pub fn set_mismatch(&self, text: &str) -> Result<(), WalError> {
        self.gate.mismatch();
        *self.lock_mismatch() = Some(text.to_owned());
        mismatch::write(self.directory.disk(), self.directory.path(), text)
    }

    fn lock_mismatch(&self) -> MutexGuard<'_, Option<String>> {
        // The value is replaced whole, so a panic elsewhere cannot have left it half written.
        self.mismatch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the segments whose events are all in the database, and gives their space back.
    pub fn retire_through(&self, flushed_through: Sequence) -> Result<(), WalError> {
        let freed = self.directory.retire_through(flushed_through)?;
        self.gate.release(freed);
        Ok(())
    }
}
