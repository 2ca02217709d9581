//! One segment file: its header, its name, and the scanner that walks its records.

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::disk::{Disk, DiskFile};
use super::error::WalError;
use super::record::{self, RecordHeader, read_u32, read_u64};
use crate::wal::id::{LifeId, Sequence, WalId};

/// Bytes of a segment header as this code writes it.
pub const HEADER_BYTES: usize = 96;
/// The format version that this code writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 2;
/// The version before, whose headers have no lives. It is read, never written.
const VERSION_1: u32 = 1;
/// Bytes of a header of version 1. It begins like one of version 2, up to and including the field `previous_end`.
const VERSION_1_HEADER_BYTES: usize = 64;

const MAGIC: &[u8; 8] = b"FSTINGST";

/// The fields of a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Format version of the segment.
    pub version: u32,
    /// Start value of the checksums of this segment's records.
    pub salt: u32,
    /// The log it belongs to.
    pub wal_id: WalId,
    /// Place in the chain, from 1.
    pub number: u64,
    /// Sequence of its first event; also its name.
    pub first_sequence: Sequence,
    /// Where the previous segment logically ended; 0 for the first.
    pub previous_end: u64,
    /// The life that writes it; unknown in version 1.
    pub life: LifeId,
    /// The life that wrote the event before its first one; unknown for the first event, and for events of version 1.
    pub previous_life: LifeId,
}

impl SegmentHeader {
    /// Bytes of the header in its file; the first record follows it.
    pub fn bytes_len(&self) -> usize {
        header_bytes(self.version)
    }

    /// The header's bytes.
    ///
    /// # Panics
    ///
    /// When the header is not of [`FORMAT_VERSION`].
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        assert_eq!(self.version, FORMAT_VERSION, "older versions are only read");
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..32].copy_from_slice(self.wal_id.0.as_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.previous_end.to_le_bytes());
        bytes[56..72].copy_from_slice(self.life.0.as_bytes());
        bytes[72..88].copy_from_slice(self.previous_life.0.as_bytes());
        let checksum_at = HEADER_BYTES - 4;
        let checksum = crc32c::crc32c(&bytes[..checksum_at]);
        bytes[checksum_at..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Whether a log can have such a segment. A matching checksum does not prove that the fields make sense, so those
    /// that are used in sums later are checked here.
    fn is_possible(&self) -> bool {
        let has_possible_end = match self.number {
            1 => self.previous_end == 0,
            _ => self.previous_end >= VERSION_1_HEADER_BYTES as u64,
        };
        self.first_sequence > 0 && (1..u64::MAX).contains(&self.number) && has_possible_end
    }

    /// Reads the header of a segment file and checks it against the file's name.
    ///
    /// # Errors
    ///
    /// [`WalError::NewerVersion`] before the checksum is checked, [`WalError::Damage`] when it is not a header.
    pub fn read<F: DiskFile>(file: &F, path: &Path) -> Result<Self, WalError> {
        let named = sequence_of(path).unwrap_or(0);
        let mut bytes = [0; HEADER_BYTES];
        let length = read_full(file, &mut bytes, 0).map_err(|error| WalError::io("read", path, error))?;
        let too_short = |needed: usize| {
            let detail = format!("the header has {length} of {needed} bytes");
            Err(WalError::damage(path, 0, named, detail))
        };
        if length < VERSION_1_HEADER_BYTES {
            return too_short(HEADER_BYTES);
        }
        if &bytes[..8] != MAGIC {
            return Err(WalError::damage(
                path,
                0,
                named,
                "not a segment of this log (bad magic)",
            ));
        }
        let version = read_u32(&bytes, 8);
        if version > FORMAT_VERSION {
            return Err(WalError::NewerVersion {
                segment: path.to_owned(),
                version,
                known: FORMAT_VERSION,
            });
        }
        let header_bytes = header_bytes(version);
        if length < header_bytes {
            return too_short(header_bytes);
        }
        let checksum_at = header_bytes - 4;
        if crc32c::crc32c(&bytes[..checksum_at]) != read_u32(&bytes, checksum_at) {
            return Err(WalError::damage(path, 0, named, "the header's checksum is wrong"));
        }
        let life_at = |at: usize| match version {
            FORMAT_VERSION => LifeId(Uuid::from_slice(&bytes[at..at + 16]).expect("16 bytes")),
            _ => LifeId::UNKNOWN,
        };
        let header = Self {
            version,
            life: life_at(56),
            previous_life: life_at(72),
            salt: read_u32(&bytes, 12),
            wal_id: WalId(Uuid::from_slice(&bytes[16..32]).expect("16 bytes")),
            number: read_u64(&bytes, 32),
            first_sequence: read_u64(&bytes, 40),
            previous_end: read_u64(&bytes, 48),
        };
        if version == 0 || !header.is_possible() {
            let detail = "the header has fields that no segment can have";
            return Err(WalError::damage(path, 8, named, detail));
        }
        if header.first_sequence != named {
            let detail = format!("the header says it begins at sequence {}", header.first_sequence);
            return Err(WalError::damage(path, 40, named, detail));
        }
        Ok(header)
    }
}

fn header_bytes(version: u32) -> usize {
    match version {
        VERSION_1 => VERSION_1_HEADER_BYTES,
        _ => HEADER_BYTES,
    }
}

/// The path of the segment that begins at `first_sequence`.
pub fn path_of(dir: &Path, first_sequence: Sequence) -> PathBuf {
    dir.join(format!("{first_sequence:020}.wal"))
}

/// The first sequence that a file name stands for; `None` if it is not a segment's.
pub fn sequence_of(path: &Path) -> Option<Sequence> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".wal")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// A valid record, borrowed from the scanner's buffer.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Its header.
    pub header: RecordHeader,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its events, encoded.
    pub payload: &'a [u8],
}

/// What a scanner found where a record should be.
#[derive(Debug)]
pub enum ScanError {
    /// The bytes are not the next record.
    Invalid(&'static str),
    /// The file could not be read: never taken for the end of the log.
    Io(io::Error),
}

/// Walks the records of one segment from an offset to a logical end, in large reads.
#[derive(Debug)]
pub struct RecordScanner<F> {
    file: F,
    salt: u32,
    /// Where the next record begins in the file; `buffer[start]` is the byte there.
    offset: u64,
    /// Nothing at or after this offset is read.
    end: u64,
    next_sequence: Sequence,
    buffer: Vec<u8>,
    start: usize,
}

/// Large enough to make the system call cheap, small enough to count for nothing in memory.
const READ_BYTES: usize = 256 * 1024;

impl<F: DiskFile> RecordScanner<F> {
    /// A scanner at the first record of a segment.
    pub fn new(file: F, header: &SegmentHeader, end: u64) -> Self {
        Self {
            file,
            salt: header.salt,
            offset: header.bytes_len() as u64,
            end,
            next_sequence: header.first_sequence,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// Moves the logical end further out, as a live segment grows.
    pub fn extend_to(&mut self, end: u64) {
        assert!(end >= self.end, "a segment only grows");
        self.end = end;
    }

    /// Where the next record begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The sequence of the next event.
    pub fn next_sequence(&self) -> Sequence {
        self.next_sequence
    }

    /// Looks at the next record without passing it; `None` at the logical end.
    pub fn peek(&mut self) -> Result<Option<RecordRef<'_>>, ScanError> {
        if self.offset == self.end {
            return Ok(None);
        }
        let header = self
            .fetch(record::HEADER_BYTES)?
            .first_chunk()
            .and_then(record::decode_header);
        let Some(header) = header else {
            return Err(ScanError::Invalid("not a record header"));
        };
        if header.first_sequence != self.next_sequence {
            return Err(ScanError::Invalid("the record does not follow the one before it"));
        }
        let (salt, offset) = (self.salt, self.offset);
        let bytes = self.fetch(header.record_bytes())?;
        if !record::checksum_holds(bytes, salt) {
            return Err(ScanError::Invalid("the record's checksum is wrong"));
        }
        Ok(Some(RecordRef {
            header,
            offset,
            payload: &bytes[record::HEADER_BYTES..],
        }))
    }

    /// Passes the record that [`Self::peek`] just returned.
    pub fn advance(&mut self, header: &RecordHeader) {
        self.offset += header.record_bytes() as u64;
        self.start += header.record_bytes();
        self.next_sequence += Sequence::from(header.event_count);
    }

    /// Passes all records that are left, showing each to `visit`. On an error the scanner stays where that occurred.
    pub fn walk(&mut self, mut visit: impl FnMut(&RecordRef<'_>)) -> Result<(), ScanError> {
        loop {
            let passed = match self.peek()? {
                Some(record) => {
                    visit(&record);
                    record.header
                }
                None => return Ok(()),
            };
            self.advance(&passed);
        }
    }

    /// The raw bytes from here to the logical end.
    pub fn read_rest(&self) -> io::Result<Vec<u8>> {
        let mut rest = vec![0; (self.end - self.offset) as usize];
        let length = read_full(&self.file, &mut rest, self.offset)?;
        rest.truncate(length);
        Ok(rest)
    }

    /// Searches `rest`, which begins at an invalid record, for a valid record that was written after `sequence` had
    /// been synced: the proof that durable data was there. Returns that record's offset.
    pub fn find_proof_of_damage(&self, rest: &[u8], sequence: Sequence) -> Option<u64> {
        // The invalid record may have lost its length field, so the next one may begin at any byte. Also at the first:
        // a later record in the place of the missing one is a proof too.
        for at in 0..rest.len().saturating_sub(record::HEADER_BYTES - 1) {
            let Some(header) = rest[at..].first_chunk().and_then(record::decode_header) else {
                continue;
            };
            let whole = rest.get(at..at + header.record_bytes());
            if header.durable_through >= sequence && whole.is_some_and(|bytes| record::checksum_holds(bytes, self.salt))
            {
                return Some(self.offset + at as u64);
            }
        }
        None
    }

    /// Makes the next `bytes` of the file available.
    fn fetch(&mut self, bytes: usize) -> Result<&[u8], ScanError> {
        let remaining = self.end - self.offset;
        if bytes as u64 > remaining {
            return Err(ScanError::Invalid("the record is cut off"));
        }
        let buffered = self.buffer.len() - self.start;
        if buffered < bytes {
            self.buffer.drain(..self.start);
            self.start = 0;
            let wanted = bytes
                .max(READ_BYTES)
                .min(usize::try_from(remaining).unwrap_or(usize::MAX));
            self.buffer.resize(wanted, 0);
            let read_at = self.offset + buffered as u64;
            let length = read_full(&self.file, &mut self.buffer[buffered..], read_at).map_err(ScanError::Io)?;
            self.buffer.truncate(buffered + length);
            if self.buffer.len() < bytes {
                return Err(ScanError::Invalid("the file ends inside the record"));
            }
        }
        Ok(&self.buffer[self.start..self.start + bytes])
    }
}

/// Opens a segment and reads its header.
pub fn open<D: Disk>(disk: &D, path: &Path) -> Result<(D::File, SegmentHeader), WalError> {
    let file = disk.open(path).map_err(|error| WalError::io("open", path, error))?;
    let header = SegmentHeader::read(&file, path)?;
    Ok((file, header))
}

/// Reads until the buffer is full or the file ends; returns how much it got.
pub(super) fn read_full<F: DiskFile>(file: &F, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
