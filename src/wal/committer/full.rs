//! The disk's free space: its floor, and a disk that somebody else has filled.
//!
//! A write that finds no space fails before its records count: nobody was told that they are stored, and the bytes that
//! were synced before are untouched. So the log cuts off what was written, refuses the waiting requests, and closes the
//! gate until there is space again. Only a write may fail like this. After a failed sync nobody knows what the device
//! has, so that failure is final.

use std::time::{Duration, Instant};

use super::room::ROOM_BYTES;
use super::{Committer, GROUP_BYTES_MAX};
use crate::wal::disk::{Disk, DiskFile};
use crate::wal::error::WalError;
use crate::wal::refusal::Refusal;
use crate::wal::submission::Submission;

/// Least time between two log lines that the disk is at its floor; its free space may move around the floor.
const LOW_REMINDER: Duration = Duration::from_secs(60);
/// Bytes that must be free after the disk was full, whatever the floor, or the next group would find it full again.
const FREE_AGAIN_BYTES: u64 = ROOM_BYTES + GROUP_BYTES_MAX as u64;

impl<D: Disk> Committer<D> {
    /// Closes the gate while the disk is at its floor; fails when the segment has lost its name.
    pub(super) fn watch_disk(&mut self) -> Result<(), WalError> {
        self.watched_at = Instant::now();
        self.watched_end = self.end;
        let path = self.active_path();
        let has_name = self
            .active
            .has_name()
            .map_err(|error| WalError::io("look at", &path, error))?;
        if !has_name {
            let removed = std::io::Error::new(std::io::ErrorKind::NotFound, "the file was removed while in use");
            return Err(WalError::io("go on writing", &path, removed));
        }
        let directory = self.log.directory();
        let free_min = self.free_min();
        // Free space does not show a quota, so `was_full` counts as well.
        let mut free = self.free_bytes()?;
        let needs_room = self.was_full || free < free_min;
        // Segments that the database has make way for new events. After a mismatch nobody can say which these are.
        if needs_room && self.log.mismatch().is_none() {
            directory.drop_kept(0)?;
            free = self.free_bytes()?;
        }
        let mut is_low = needs_room && free < free_min;
        if !is_low && self.was_full {
            // Only a write proves that there is space.
            self.was_full = false;
            self.make_room(1)?;
            is_low = self.was_full;
        }
        if is_low && !self.is_full_told && self.low_told_at.is_none_or(|at| at.elapsed() >= LOW_REMINDER) {
            self.low_told_at = Some(Instant::now());
            let floor = self.disk_free_min;
            tracing::warn!(
                free,
                floor,
                "the disk of the log has {free} bytes free, less than --disk-free-min ({floor}): \
                 events are refused until more is free"
            );
        }
        if !is_low && self.is_full_told {
            self.is_full_told = false;
            tracing::info!("the disk of the log has space again");
        }
        self.log.gate().set_disk_low(is_low);
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, WalError> {
        let (disk, dir) = (self.log.directory().disk(), self.log.directory().path());
        disk.free_bytes(dir)
            .map_err(|error| WalError::io("measure", dir, error))
    }

    /// What must be free on the disk for the gate to be open.
    fn free_min(&self) -> u64 {
        match self.was_full {
            true => self.disk_free_min.max(FREE_AGAIN_BYTES),
            false => self.disk_free_min,
        }
    }

    /// Closes the gate until there is space.
    pub(super) fn found_full(&mut self) {
        self.log.gate().set_disk_low(true);
        self.was_full = true;
        if !self.is_full_told {
            self.is_full_told = true;
            tracing::error!(
                "the disk of the log is full: events are refused until space is freed; what was acknowledged is safe"
            );
        }
    }

    /// Refuses the group whose write found no space. Nothing of it is in the log, not even after a crash.
    pub(super) fn refuse_group(&mut self) -> Result<(), WalError> {
        self.found_full();
        self.take_back()?;
        self.log.gate().release(self.group.bytes.len() as u64);
        self.group.bytes.clear();
        self.group.events = 0;
        for waiter in self.group.waiters.drain(..) {
            // A client that went away needs no refusal.
            waiter.ack.send(Err(Refusal::LogFull)).ok();
        }
        Ok(())
    }

    /// Refuses a submission for which there is no segment.
    pub(super) fn refuse(&mut self, submission: Submission) {
        self.found_full();
        let Submission { ack, space, .. } = submission;
        drop(space);
        ack.send(Err(Refusal::LogFull)).ok();
    }

    /// Cuts the segment back to where it ended before a write that found no space, durably: otherwise a start could
    /// find whole records of that write.
    pub(super) fn take_back(&mut self) -> Result<(), WalError> {
        self.cut_to(self.end)?;
        self.room_end = self.end;
        self.sync()
    }
}
