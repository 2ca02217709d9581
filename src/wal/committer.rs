//! The log thread: take what waits on the ring, append it, sync once, answer every waiter.
//!
//! It owns the active segment by value, so there is no lock on the write path. A failed write or sync is final: the log
//! is poisoned, every waiter is refused, and the thread ends. The same pages must never be synced a second time,
//! because a kernel that failed once may have dropped them and would then report success. One failure is not final: a
//! write that finds the disk full (see `full`).

mod full;
mod group;
mod room;

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::group::Group;
use super::directory;
use super::disk::{Disk, DiskFile};
use super::end::{End, EndFile};
use super::error::{self, WalError};
use super::log::{DurableMark, Log};
use super::record;
use super::recovery::random_salt;
use super::segment::{self, SegmentHeader};
use crate::support::sync::ring::{Receiver, RecvTimeoutError};
use crate::support::sync::watch;
use crate::wal::id::Sequence;
use crate::wal::settings::{SyncMode, WalSettings};
use crate::wal::submission::Submission;

/// Size at which a group stops growing: larger groups add latency and make the sync hardly cheaper per record.
const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// Time without submissions after which a marker is written. Too long to happen under load.
const QUIET_BEFORE_MARKER: Duration = Duration::from_millis(100);
/// How often the disk's free space and the segment's name are checked.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes after which free space is checked again even within the interval, so that a fast writer cannot get below the
/// floor unnoticed.
const WATCH_BYTES: u64 = 64 * 1024 * 1024;

/// Size at which a group stops growing, for segments that are sealed at `segment_bytes`: a segment exceeds that size by
/// one group at most. The last record of a group may exceed the group's size.
pub fn group_bytes_max(segment_bytes: u64) -> usize {
    usize::try_from(segment_bytes).map_or(GROUP_BYTES_MAX, |bytes| bytes.min(GROUP_BYTES_MAX))
}

/// The one writer of the log.
#[derive(Debug)]
pub struct Committer<D: Disk> {
    log: Arc<Log<D>>,
    publish: watch::Sender<DurableMark>,
    sync: SyncMode,
    segment_bytes: u64,
    disk_free_min: u64,

    active: D::File,
    header: SegmentHeader,
    /// The file END, which says how far the log is on disk.
    end_file: EndFile<D::File>,
    /// Offset of the next record in the active segment.
    end: u64,
    /// Length of the active segment's file: there are zeros between `end` and here.
    room_end: u64,
    next_sequence: Sequence,
    /// When the oldest unsynced byte was written, if there is one. In group mode set only within one commit.
    unsynced_since: Option<Instant>,
    /// Whether records were written since the last marker.
    marker_due: bool,
    /// Whether a write has found no space, and there is none yet.
    was_full: bool,
    /// Whether the last log line about a full disk says that it is full.
    is_full_told: bool,
    /// When a log line last said that the disk is at its floor.
    low_told_at: Option<Instant>,
    watched_at: Instant,
    watched_end: u64,
    /// Reused, so that a group costs no allocation.
    group: Group,
}

impl<D: Disk> Committer<D> {
    pub(super) fn new(
        log: Arc<Log<D>>,
        active: D::File,
        header: SegmentHeader,
        end_file: EndFile<D::File>,
        publish: watch::Sender<DurableMark>,
        settings: &WalSettings,
    ) -> Self {
        Self {
            log,
            publish,
            sync: settings.sync,
            segment_bytes: settings.segment_bytes,
            disk_free_min: settings.disk_free_min,
            active,
            end: segment::HEADER_BYTES as u64,
            room_end: segment::HEADER_BYTES as u64,
            next_sequence: header.first_sequence,
            header,
            end_file,
            unsynced_since: None,
            marker_due: false,
            was_full: false,
            is_full_told: false,
            low_told_at: None,
            watched_at: Instant::now(),
            watched_end: 0,
            group: Group::default(),
        }
    }

    /// Serves the ring until all its senders are dropped, then leaves the log with a marker at its end. To be run on a
    /// thread of its own.
    ///
    /// # Errors
    ///
    /// The first error of a write or sync; the gate is poisoned by then and every waiter has been refused.
    pub fn run(mut self, ring: &Receiver<Submission>) -> Result<(), WalError> {
        let outcome = self.serve(ring);
        if outcome.is_err() {
            self.log.gate().poison();
            // Dropping a submission refuses it: its ack sender is gone.
            self.group.waiters.clear();
            while ring.try_recv().is_ok() {}
        }
        outcome
    }

    fn serve(&mut self, ring: &Receiver<Submission>) -> Result<(), WalError> {
        self.watch_disk()?;
        loop {
            match ring.recv_timeout(self.patience()) {
                Ok(first) => {
                    // While `first` waits: a client that learns of the failure must find the gate closed.
                    match self.rotate_if_due() {
                        Ok(()) => {
                            self.gather(first, ring);
                            self.commit()?;
                        }
                        Err(error) if error.is_full() => self.refuse(first),
                        Err(error) => {
                            self.log.gate().poison();
                            return Err(error);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.on_quiet()?,
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            if self.watched_at.elapsed() >= WATCH_INTERVAL || self.end.abs_diff(self.watched_end) >= WATCH_BYTES {
                self.watch_disk()?;
            }
        }
    }

    /// How long to wait for the next submission before there is something else to do.
    fn patience(&self) -> Duration {
        let until_sync = match (self.sync, self.unsynced_since) {
            (SyncMode::Interval(interval), Some(since)) => interval.saturating_sub(since.elapsed()),
            _ => WATCH_INTERVAL,
        };
        if self.marker_due && !self.was_full {
            until_sync.min(QUIET_BEFORE_MARKER)
        } else {
            until_sync
        }
    }

    /// Takes what waits on the ring into the group, without waiting for more.
    fn gather(&mut self, first: Submission, ring: &Receiver<Submission>) {
        let durable_through = self.publish.borrow().through;
        let mut next = Some(first);
        while let Some(submission) = next {
            let first_sequence = self.next_sequence + self.group.events;
            self.group
                .add(submission, self.header.salt, first_sequence, durable_through);
            next = if self.group.bytes.len() < group_bytes_max(self.segment_bytes) {
                ring.try_recv().ok()
            } else {
                None
            };
        }
    }

    /// Appends the group, syncs it, answers its waiters.
    fn commit(&mut self) -> Result<(), WalError> {
        match self.append_group() {
            Err(error) if error.is_full() => return self.refuse_group(),
            appended => appended?,
        }
        match self.sync {
            SyncMode::Group => self.sync()?,
            SyncMode::Interval(interval) => {
                if self.unsynced_since.is_some_and(|since| since.elapsed() >= interval) {
                    self.sync()?;
                }
            }
        }
        for waiter in self.group.waiters.drain(..) {
            // A client that went away does not hear that its events are stored; nothing else depends on it.
            waiter.ack.send(Ok(waiter.through)).ok();
        }
        // One huge bulk must not keep its memory for ever.
        self.group.bytes.shrink_to(2 * GROUP_BYTES_MAX);
        Ok(())
    }

    fn append_group(&mut self) -> Result<(), WalError> {
        let bytes = mem::take(&mut self.group.bytes);
        let appended = self.append(&bytes);
        self.group.bytes = bytes;
        appended?;
        self.group.bytes.clear();
        self.next_sequence += mem::take(&mut self.group.events);
        self.marker_due = true;
        Ok(())
    }

    /// Writes at the end of the active segment; not durable until [`Self::sync`].
    fn append(&mut self, bytes: &[u8]) -> Result<(), WalError> {
        self.make_room(bytes.len())?;
        let written = self.active.write_all_at(bytes, self.end);
        written.map_err(|error| WalError::io(error::WRITE, &self.active_path(), error))?;
        self.end += bytes.len() as u64;
        self.room_end = self.room_end.max(self.end);
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// On return everything appended is on disk, and published.
    fn sync(&mut self) -> Result<(), WalError> {
        let synced = self.active.sync_data();
        synced.map_err(|error| WalError::io("sync", &self.active_path(), error))?;
        self.unsynced_since = None;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.publish.send_replace(DurableMark {
            through: self.next_sequence - 1,
            active_first: self.header.first_sequence,
            active_end: self.end,
        });
    }

    /// Seals the active segment and begins the next, if the active one is full. If the disk has no space for the next,
    /// the active one stays.
    fn rotate_if_due(&mut self) -> Result<(), WalError> {
        if self.end < self.segment_bytes {
            return Ok(());
        }
        self.cut_room()?;
        // Also when only a marker is unsynced: the new header promises that the old segment reaches to its end.
        // Published at once, because the new segment may find no space.
        self.sync()?;
        let header = SegmentHeader {
            salt: random_salt(),
            number: self.header.number + 1,
            first_sequence: self.next_sequence,
            previous_end: self.end,
            previous_life: self.header.life,
            ..self.header
        };
        let directory = self.log.directory();
        self.active = directory::create_segment(directory.disk(), directory.path(), &header)?;
        self.write_end(&End::of(&header, self.next_sequence - 1))?;
        let directory = self.log.directory();
        directory.push_active(&header);
        self.log.gate().add_used(segment::HEADER_BYTES as u64);
        self.header = header;
        self.end = segment::HEADER_BYTES as u64;
        self.room_end = self.end;
        self.watched_end = 0;
        self.publish();
        Ok(())
    }

    fn on_quiet(&mut self) -> Result<(), WalError> {
        if self.unsynced_since.is_some() {
            self.sync()?;
        } else if self.marker_due && !self.was_full {
            self.append_marker()?;
            // The next group's sync covers the marker. Until then it can only be lost, which does no harm.
            self.unsynced_since = None;
        }
        Ok(())
    }

    /// Writes an empty record that says that everything before it is durable.
    fn append_marker(&mut self) -> Result<(), WalError> {
        let mut marker = [0; record::HEADER_BYTES];
        record::seal(
            &mut marker,
            self.header.salt,
            self.next_sequence,
            self.next_sequence - 1,
            0,
        );
        match self.append(&marker) {
            Err(error) if error.is_full() => {
                // The log can do without the marker, which only proves that earlier records were synced.
                self.found_full();
                return self.take_back();
            }
            appended => appended?,
        }
        self.log.gate().add_used(marker.len() as u64);
        self.marker_due = false;
        Ok(())
    }

    /// Ends the log so that any later damage to it is noticed.
    fn finish(&mut self) -> Result<(), WalError> {
        if self.unsynced_since.is_some() {
            self.sync()?;
        }
        if self.marker_due {
            self.append_marker()?;
            self.sync()?;
        }
        if self.room_end > self.end {
            self.cut_room()?;
            self.sync()?;
        }
        self.write_end(&End::of(&self.header, self.next_sequence - 1))
    }

    /// Writes the end into the file END. The file has its full length, but some file systems need space for each write:
    /// without it, the end that was written before still holds.
    fn write_end(&mut self, end: &End) -> Result<(), WalError> {
        match self.end_file.write(end) {
            Err(error) if error.is_full() => {
                self.found_full();
                Ok(())
            }
            written => written,
        }
    }

    fn active_path(&self) -> PathBuf {
        self.log.directory().path_of(self.header.first_sequence)
    }
}
