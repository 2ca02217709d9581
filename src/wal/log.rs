//! The handle on an open log, which the log thread and the flush share.

use std::sync::{Arc, PoisonError};

use super::adopted;
use super::directory::{Directory, Locks};
use super::disk::{Disk, RealDisk};
use super::error::WalError;
use super::flushed::{Commit, Commits, FlushedFile};
use super::mismatch;
use crate::support::sync::{Mutex, MutexGuard, watch};
use crate::wal::gate::Gate;
use crate::wal::id::{LifeId, Sequence, WalId};

/// How far the log is on disk. Bytes after that may be half written and must not be read.
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
    /// The id under which the database knows the log.
    pub(super) wal_id: Mutex<WalId>,
    /// The id in the log's segments, which never changes.
    pub(super) segments_wal_id: WalId,
    pub(super) directory: Directory<D>,
    /// Receives what the committer publishes.
    pub(super) durable: watch::Receiver<DurableMark>,
    pub(super) gate: Arc<Gate>,
    pub(super) recovered_through: Sequence,
    /// The life of this start.
    pub(super) life: LifeId,
    /// Why log and database do not belong together, once that was found. Read at the start, written by the flush
    /// thread.
    pub(super) mismatch: Mutex<Option<String>>,
    /// What the log remembers of its flush. Written by the flush thread.
    pub(super) flushed: Mutex<FlushedFile<D::File>>,
    /// Bytes of segments to keep although the database has their events.
    pub(super) keep_bytes: u64,
    pub(super) _locks: Locks<D::Lock>,
}

impl<D: Disk> Log<D> {
    /// The log's identity, as databases know it. It changes when a person makes a copy a log of its own.
    pub fn wal_id(&self) -> WalId {
        *self.wal_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity in the log's segments, which stays even if databases know the log under another.
    pub fn segments_wal_id(&self) -> WalId {
        self.segments_wal_id
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

    /// A receiver that waits for the log to grow.
    pub fn subscribe(&self) -> watch::Receiver<DurableMark> {
        self.durable.clone()
    }

    /// The directory and its segments.
    pub fn directory(&self) -> &Directory<D> {
        &self.directory
    }

    /// The gate, which says whether the log takes more.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Why log and database do not belong together, if that was found, by this process or one before it.
    pub fn mismatch(&self) -> Option<String> {
        self.lock_mismatch().clone()
    }

    /// Notes that log and database do not belong together: closes the gate, and marks the directory, so that a restart
    /// keeps the gate closed.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`] when the mark cannot be written; the gate is closed all the same.
    pub fn set_mismatch(&self, text: &str) -> Result<(), WalError> {
        self.gate.set_mismatch(true);
        *self.lock_mismatch() = Some(text.to_owned());
        // It is unknown whether the database has any of the events: nothing may be removed.
        self.take_back_behind(0);
        mismatch::write(self.directory.disk(), self.directory.path(), text)
    }

    /// Everything up to here is known to be in the database, or was when the database last answered.
    pub fn known_flushed_through(&self) -> Sequence {
        let confirmed = self.commits(Commits::confirmed_through);
        confirmed.max(self.directory.oldest_sequence() - 1)
    }

    /// Looks at what the log remembers of its flush.
    pub fn commits<T>(&self, look: impl FnOnce(&Commits) -> T) -> T {
        look(lock(&self.flushed).commits())
    }

    /// Remembers a commit that is about to be tried, or a checkpoint that was found. On return the note survives a
    /// power cut.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]; the commit must not be tried then.
    pub fn note_commit(&self, commit: Commit) -> Result<(), WalError> {
        self.begin_note(commit)?;
        self.sync_notes()
    }

    /// The first half of [`Log::note_commit`]: the commit must not be tried before [`Log::sync_notes`] has returned.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], also that of an earlier call; the commit must not be tried then.
    pub fn begin_note(&self, commit: Commit) -> Result<(), WalError> {
        lock(&self.flushed).note(commit)
    }

    /// The second half of [`Log::note_commit`], which waits for the disk.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]; the commit must not be tried then.
    pub fn sync_notes(&self) -> Result<(), WalError> {
        lock(&self.flushed).sync()
    }

    /// The checkpoint that a person has put into a database for this log, as long as the flush has not used it. A file
    /// that cannot be read is ignored, with a warning.
    pub fn adopted(&self) -> Option<Commit> {
        let (disk, dir) = (self.directory.disk(), self.directory.path());
        adopted::read(disk, dir, self.segments_wal_id).unwrap_or_else(|error| {
            tracing::warn!("the answer of `wal adopt` is ignored: {error}");
            None
        })
    }

    /// Continues from the checkpoint that a person has put into a database and that was found there: with its log id,
    /// and with the gate open.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]; a restart tries again.
    pub fn take_up(&self, adopted: Commit) -> Result<(), WalError> {
        let (disk, dir) = (self.directory.disk(), self.directory.path());
        self.note_commit(adopted)?;
        *self.wal_id.lock().unwrap_or_else(PoisonError::into_inner) = adopted.wal_id;
        mismatch::remove(disk, dir)?;
        *self.lock_mismatch() = None;
        adopted::remove(disk, dir)?;
        self.gate.set_mismatch(false);
        Ok(())
    }

    fn lock_mismatch(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.mismatch)
    }

    /// Retires what the database has, everything up to `flushed_through`: gives the space back, and removes segments
    /// that need not be kept.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`] when a segment cannot be removed.
    pub fn retire_through(&self, flushed_through: Sequence) -> Result<(), WalError> {
        let released = self.directory.release_through(flushed_through);
        self.gate.release(released);
        self.directory.drop_kept(self.keep_bytes).map(drop)
    }

    /// To be called when the database has, or may have, gone back to `flushed_through`: kept events after it are to be
    /// stored again.
    pub fn take_back_behind(&self, flushed_through: Sequence) {
        let taken_back = self.directory.take_back_behind(flushed_through);
        self.gate.add_used(taken_back);
    }
}

/// Values here are replaced whole, so a panic elsewhere cannot have left one half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
