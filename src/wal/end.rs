//! The file END: how far the log was when it last started, rotated or stopped cleanly.
//!
//! Segments prove only what is in them. Without its newest segment, or cut between two records, a log reads as a
//! shorter one that is sound, and the lost sequences would be given out again. This file says what must be there; its
//! layout is in the format document at the top of [`crate::wal`].
//!
//! Everything that the file says was synced before it was written, so a crash leaves a log that has as much or more.
//! Each start makes a new file under another name, and from then on its two slots are written in turn: a torn write
//! destroys one of them at most.

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::directory::{self, UNFINISHED_NAME};
use super::disk::{Disk, DiskFile};
use super::error::{self, WalError};
use super::record::{read_u32, read_u64};
use super::segment::{self, SegmentHeader};
use crate::wal::id::{Sequence, WalId};

/// The file's name.
pub const NAME: &str = "END";
/// Bytes of the file.
pub const FILE_BYTES: usize = 2 * SLOT_BYTES;
/// Bytes of a slot: one sector of a disk, so that a torn write of one slot does not reach the other.
pub const SLOT_BYTES: usize = 512;
/// The format version that this code writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"FSTINGEN";
const CHECKSUM_AT: usize = 64;

/// What a log had on disk at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The log's identity.
    pub wal_id: WalId,
    /// Number of the active segment.
    pub number: u64,
    /// First sequence of the active segment.
    pub first_sequence: Sequence,
    /// Every event up to here was on disk.
    pub durable_through: Sequence,
}

impl End {
    /// The end of a log whose active segment has this header.
    pub fn of(active: &SegmentHeader, durable_through: Sequence) -> Self {
        Self {
            wal_id: active.wal_id,
            number: active.number,
            first_sequence: active.first_sequence,
            durable_through,
        }
    }

    /// The bytes of a slot.
    pub fn encode(&self, counter: u64) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.wal_id.0.as_bytes());
        bytes[32..40].copy_from_slice(&counter.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.number.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.durable_through.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The counter and the content of a slot; `None` when it was torn or never written.
    fn decode(bytes: &[u8]) -> Option<(u64, Self)> {
        let is_whole = bytes.len() == SLOT_BYTES
            && bytes[..8] == *MAGIC
            && read_u32(bytes, 8) == FORMAT_VERSION
            && crc32c::crc32c(&bytes[..CHECKSUM_AT]) == read_u32(bytes, CHECKSUM_AT);
        if !is_whole {
            return None;
        }
        let end = Self {
            wal_id: WalId(Uuid::from_slice(&bytes[16..32]).ok()?),
            number: read_u64(bytes, 40),
            first_sequence: read_u64(bytes, 48),
            durable_through: read_u64(bytes, 56),
        };
        let is_possible = end.number > 0
            && end.first_sequence > 0
            && end.durable_through >= end.first_sequence - 1
            && end.durable_through < Sequence::MAX;
        is_possible.then(|| (read_u64(bytes, 32), end))
    }

    /// Compares the segments with this end: the header of the last one, and the sequence after their last event.
    ///
    /// # Errors
    ///
    /// [`WalError::Damage`] when the log has less than it had, or is another one.
    pub fn hold_against(
        &self,
        dir: &Path,
        last: Option<&SegmentHeader>,
        next_sequence: Sequence,
    ) -> Result<(), WalError> {
        let newest = segment::path_of(dir, self.first_sequence);
        let Some(last) = last else {
            let detail = format!(
                "all segments are missing: the log held events through {}",
                self.durable_through
            );
            return Err(WalError::damage(&newest, 0, self.first_sequence, detail));
        };
        if last.wal_id != self.wal_id {
            let detail = format!("it belongs to another log ({} instead of {})", self.wal_id, last.wal_id);
            return Err(WalError::damage(&dir.join(NAME), 16, next_sequence, detail));
        }
        if last.number < self.number {
            let detail = format!(
                "segment number {}, {:020}.wal, is missing: the log now ends with number {}",
                self.number, self.first_sequence, last.number
            );
            return Err(WalError::damage(&newest, 0, next_sequence, detail));
        }
        if next_sequence <= self.durable_through {
            let path = segment::path_of(dir, last.first_sequence);
            let detail = format!(
                "the log ends at {}, but held events through {} when it last stopped",
                next_sequence - 1,
                self.durable_through
            );
            return Err(WalError::damage(&path, 0, next_sequence, detail));
        }
        Ok(())
    }
}

/// Reads the directory's file; `None` if there is none, as in a log of an earlier version: then nothing is known of the
/// end.
///
/// # Errors
///
/// [`WalError::Damage`] when no slot is valid, [`WalError::NewerVersion`], [`WalError::Io`].
pub fn read<D: Disk>(disk: &D, dir: &Path) -> Result<Option<End>, WalError> {
    let path = dir.join(NAME);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(WalError::io("open", &path, error)),
    };
    let bytes_len = file
        .bytes_len()
        .map_err(|error| WalError::io("measure", &path, error))?;
    let mut bytes = [0; FILE_BYTES];
    let length = bytes_len.min(FILE_BYTES as u64) as usize;
    let length =
        segment::read_full(&file, &mut bytes[..length], 0).map_err(|error| WalError::io("read", &path, error))?;
    let slots = || bytes[..length].chunks(SLOT_BYTES);
    let newest = slots().filter_map(End::decode).max_by_key(|(counter, _)| *counter);
    if let Some((_, end)) = newest {
        return Ok(Some(end));
    }
    // The slots of one file have the same version, so a newer version matters only when no slot is valid.
    let newer = slots()
        .filter(|slot| slot.len() >= 12 && slot[..8] == *MAGIC)
        .map(|slot| read_u32(slot, 8))
        .find(|version| *version > FORMAT_VERSION);
    Err(match newer {
        Some(version) => WalError::NewerVersion {
            segment: path,
            version,
            known: FORMAT_VERSION,
        },
        None => {
            let detail = "neither slot is valid, so nobody can tell whether the newest segments are complete";
            WalError::damage(&path, 0, 1, detail)
        }
    })
}

/// The file, open for writing. After a failed write or sync it must not be used again, unless the write only found no
/// space.
#[derive(Debug)]
pub struct EndFile<F> {
    file: F,
    path: PathBuf,
    /// Counter of the newest slot: the number of writes after the first.
    counter: u64,
}

impl<F: DiskFile> EndFile<F> {
    /// Makes the file durably, replacing an older one.
    pub fn create<D: Disk<File = F>>(disk: &D, dir: &Path, end: &End) -> Result<Self, WalError> {
        let path = dir.join(NAME);
        // At its full length, so that a full disk cannot refuse a later write.
        let mut bytes = [0; FILE_BYTES];
        bytes[..SLOT_BYTES].copy_from_slice(&end.encode(0));
        Ok(Self {
            file: directory::create_durably(disk, dir, UNFINISHED_NAME, &path, &bytes)?,
            path,
            counter: 0,
        })
    }

    /// Writes the end durably into the older slot. Everything that `end` says must have been synced before.
    pub fn write(&mut self, end: &End) -> Result<(), WalError> {
        let counter = self.counter + 1;
        let offset = counter % 2 * SLOT_BYTES as u64;
        self.file
            .write_all_at(&end.encode(counter), offset)
            .map_err(|error| WalError::io(error::WRITE, &self.path, error))?;
        // Only after the write: one that found no space may have torn this slot, and then the next write must take it.
        self.counter = counter;
        self.file
            .sync_data()
            .map_err(|error| WalError::io("sync", &self.path, error))
    }
}
