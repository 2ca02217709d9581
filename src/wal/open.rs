//! From a directory to a log that takes records: lock, recover, begin a fresh segment.

use std::path::Path;
use std::sync::Arc;

use super::committer::Committer;
use super::directory::{self, Directory};
use super::disk::{Disk, DiskFile, RealDisk};
use super::end::{End, EndFile};
use super::error::WalError;
use super::flushed::{self, FlushedFile};
use super::log::{DurableMark, Log};
use super::mismatch;
use super::recovery;
use super::segment;
use super::tail::Tail;
use crate::support::sync::{Mutex, watch};
use crate::wal::gate::Gate;
use crate::wal::settings::WalSettings;

/// What [`open`] brings up.
#[derive(Debug)]
pub struct OpenedLog<D: Disk = RealDisk> {
    /// Shared by the log thread and the flush.
    pub log: Arc<Log<D>>,
    /// To be moved into the log thread.
    pub committer: Committer<D>,
    /// Opens and closes with the log's space.
    pub gate: Arc<Gate>,
    /// What recovery cut off, for the log line.
    pub torn_tail: Option<Tail>,
}

/// Locks the directory (creating it if necessary), recovers the log and begins a fresh segment.
///
/// # Errors
///
/// Any [`WalError`]. The directory is changed only when the lock is held and everything in it was judged sound.
pub fn open<D: Disk>(disk: D, settings: &WalSettings) -> Result<OpenedLog<D>, WalError> {
    let dir = settings.dir.as_path();
    let locks = directory::lock_for_use(&disk, dir)?;
    sync_what_was_written(&disk, dir)?;
    let findings = recovery::examine(&disk, dir)?;
    let mismatch = mismatch::read(&disk, dir)?;
    let flushed = match findings.wal_id {
        Some(wal_id) => flushed::read(&disk, dir, wal_id)?,
        None => flushed::refuse_without_log(&disk, dir).map(|()| None)?,
    };
    let recovered = recovery::apply(&disk, dir, findings)?;
    let end = End::of(&recovered.active_header, recovered.recovered_through);
    let end_file = EndFile::create(&disk, dir, &end)?;

    let mark = DurableMark {
        through: recovered.recovered_through,
        active_first: recovered.active_header.first_sequence,
        active_end: segment::HEADER_BYTES as u64,
    };
    let (publish, durable) = watch::channel(mark);
    let bytes_found: u64 = recovered.segments.iter().filter_map(|segment| segment.sealed_end).sum();
    let gate = Gate::new(settings.bytes_max, bytes_found + segment::HEADER_BYTES as u64);
    gate.set_mismatch(mismatch.is_some());
    let flushed = FlushedFile::open(&disk, dir, recovered.wal_id, flushed)?;
    let home = flushed.commits().home().copied();
    let directory = Directory::new(disk, dir.to_owned(), recovered.segments);
    // After a mismatch nobody can say what the database has.
    if let Some(home) = home.filter(|_| mismatch.is_none()) {
        gate.release(directory.release_through(home.confirmed_through));
    }
    let log = Arc::new(Log {
        wal_id: Mutex::new(home.map_or(recovered.wal_id, |home| home.wal_id)),
        segments_wal_id: recovered.wal_id,
        directory,
        flushed: Mutex::new(flushed),
        keep_bytes: settings.keep_bytes,
        durable,
        gate: Arc::clone(&gate),
        recovered_through: recovered.recovered_through,
        life: recovered.active_header.life,
        mismatch: Mutex::new(mismatch),
        _locks: locks,
    });
    let committer = Committer::new(
        Arc::clone(&log),
        recovered.active,
        recovered.active_header,
        end_file,
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

/// Syncs the newest segment and the directory before they are read, and makes sure that they are read from the device.
///
/// After a mere process crash the page cache may show a tail that was never synced: recovery must not build on bytes
/// that a later power cut could still take away. After a failed sync it may show pages that the kernel gave up writing,
/// and a second sync would report success: so the cache is dropped, and what did not reach the device is a torn tail.
fn sync_what_was_written<D: Disk>(disk: &D, dir: &Path) -> Result<(), WalError> {
    directory::sync_dir(disk, dir)?;
    let Some(newest) = directory::list_segments(disk, dir)?.pop() else {
        return Ok(());
    };
    let path = segment::path_of(dir, newest);
    let mut file = disk
        .open_rw(&path)
        .map_err(|error| WalError::io("open", &path, error))?;
    file.sync_data().map_err(|error| WalError::io("sync", &path, error))?;
    file.drop_cached()
        .map_err(|error| WalError::io("drop the cache of", &path, error))
}
