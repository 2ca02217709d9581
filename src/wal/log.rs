//! The handle on an open log: what its thread and the flush share.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::committer::Committer;
use super::directory::{self, Directory};
use super::disk::{Disk, DiskFile, RealDisk};
use super::error::WalError;
use super::recovery::{self, TornTail};
use super::segment;
use crate::batch::{Sequence, WalId};
use crate::config::WalSettings;
use crate::intake::Gate;

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
    wal_id: WalId,
    directory: Directory<D>,
    /// Receives what the committer publishes.
    durable: watch::Receiver<DurableMark>,
    gate: Arc<Gate>,
    recovered_through: Sequence,
    _lock: D::Lock,
}

/// What [`Log::open`] brings up.
#[derive(Debug)]
pub struct OpenedLog<D: Disk = RealDisk> {
    /// Shared by the log thread and the flush.
    pub log: Arc<Log<D>>,
    /// To be moved into the log thread.
    pub committer: Committer<D>,
    /// Opens and closes with the log's space.
    pub gate: Arc<Gate>,
    /// What recovery cut off, for the log line.
    pub torn_tail: Option<TornTail>,
}

impl Log<RealDisk> {
    /// Locks the directory (making it if need be), recovers the log and begins a fresh segment.
    ///
    /// # Errors
    ///
    /// Any [`WalError`]. The directory is changed only when the lock is held and everything in it was judged sound.
    pub fn open(settings: &WalSettings) -> Result<OpenedLog<RealDisk>, WalError> {
        Self::open_on(RealDisk, settings)
    }
}

impl<D: Disk> Log<D> {
    /// [`Log::open`] on any disk.
    pub fn open_on(disk: D, settings: &WalSettings) -> Result<OpenedLog<D>, WalError> {
        let dir = settings.dir.as_path();
        let lock = directory::lock(&disk, dir)?;
        sync_what_was_written(&disk, dir)?;
        let findings = recovery::examine(&disk, dir)?;
        let bytes_found: u64 = findings.segments.iter().map(|found| found.end).sum();
        let recovered = recovery::apply(&disk, dir, findings)?;

        let mark = DurableMark {
            through: recovered.recovered_through,
            active_first: recovered.active_header.first_sequence,
            active_end: segment::HEADER_BYTES as u64,
        };
        let (publish, durable) = watch::channel(mark);
        let gate = Gate::new(
            settings.bytes_max,
            bytes_found + segment::HEADER_BYTES as u64,
        );
        let log = Arc::new(Self {
            wal_id: recovered.wal_id,
            directory: Directory::new(disk, dir.to_owned(), recovered.segments),
            durable,
            gate: Arc::clone(&gate),
            recovered_through: recovered.recovered_through,
            _lock: lock,
        });
        let committer = Committer::new(
            Arc::clone(&log),
            recovered.active,
            recovered.active_header,
            publish,
            settings,
        );
        Ok(OpenedLog {
            log,
            committer,
            gate,
            torn_tail: recovered.torn_tail,
        })
    }

    /// The log's identity.
    pub fn wal_id(&self) -> WalId {
        self.wal_id
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

    /// Removes the segments whose events are all in the database, and gives their space back.
    pub fn retire_through(&self, flushed_through: Sequence) -> Result<(), WalError> {
        let freed = self.directory.retire_through(flushed_through)?;
        self.gate.release(freed);
        Ok(())
    }
}

/// Syncs the newest segment and the directory before they are read.
///
/// After a mere process crash the page cache may show a tail that was never synced. Recovery must not build on bytes that a
/// later power cut could still take away.
fn sync_what_was_written<D: Disk>(disk: &D, dir: &Path) -> Result<(), WalError> {
    directory::sync_dir(disk, dir)?;
    let Some(newest) = directory::list_segments(disk, dir)?.pop() else {
        return Ok(());
    };
    let path = segment::path_of(dir, newest);
    let mut file = disk
        .open_rw(&path)
        .map_err(|error| WalError::io("open", &path, error))?;
    file.sync_data()
        .map_err(|error| WalError::io("sync", &path, error))
}
