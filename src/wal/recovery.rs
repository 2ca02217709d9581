//! What a start finds in the directory, and what it does about it.
//!
//! [`examine`] only looks: it reads the headers of all segments and the records of the last one, so its cost does not
//! grow with the backlog. [`apply`] makes the outcome durable: cuts a tail (keeping a copy of a torn one) and begins a
//! fresh segment whose header states where the old one ended. Nothing is changed before everything has been judged.

use std::io::ErrorKind;
use std::path::Path;

use uuid::Uuid;

use super::directory::{self, Segment};
use super::disk::{Disk, DiskFile};
use super::end;
use super::error::WalError;
use super::segment::{self, RecordScanner, ScanError, SegmentHeader};
use super::tail::{Tail, TailKind, last_sequence_in};
use super::torn_copies;
use crate::wal::id::{LifeId, Sequence, WalId};

/// How often a log that a server may be writing to is examined before an error is believed.
const LIVE_TRIES: usize = 10;

/// What the directory holds.
#[derive(Debug)]
pub struct Findings {
    /// The log's identity; `None` if there is no segment.
    pub wal_id: Option<WalId>,
    /// Every segment, oldest first, with its logical end.
    pub segments: Vec<FoundSegment>,
    /// The sequence that the next event gets.
    pub next_sequence: Sequence,
    /// The bytes after the last record of the last segment, if there are any.
    pub tail: Option<Tail>,
}

/// One segment as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundSegment {
    /// Its header.
    pub header: SegmentHeader,
    /// Where it logically ends.
    pub end: u64,
}

impl Findings {
    /// The torn tail of the last segment, if it has one.
    pub fn torn_tail(&self) -> Option<&Tail> {
        self.tail.as_ref().filter(|tail| tail.kind == TailKind::Torn)
    }
}

/// A recovered log, ready to be written to.
#[derive(Debug)]
pub struct Recovered<F> {
    /// The log's identity.
    pub wal_id: WalId,
    /// Sealed segments, oldest first, and then the fresh active one.
    pub segments: Vec<Segment>,
    /// The fresh segment's file; the first record goes after its header.
    pub active: F,
    /// The fresh segment's header.
    pub active_header: SegmentHeader,
    /// Everything up to here was found, and is durable.
    pub recovered_through: Sequence,
    /// What was cut off, unless it was blank.
    pub torn_tail: Option<Tail>,
}

/// Looks at the directory and judges it. Changes nothing.
///
/// # Errors
///
/// [`WalError::Damage`] when acknowledged data is not what was written, [`WalError::NewerVersion`], [`WalError::Io`].
pub fn examine<D: Disk>(disk: &D, dir: &Path) -> Result<Findings, WalError> {
    // Before the segments: in a log in use, END might otherwise name a segment that is newer than their list.
    let end = end::read(disk, dir)?;
    let sequences = directory::list_segments(disk, dir)?;
    let mut segments: Vec<FoundSegment> = Vec::with_capacity(sequences.len());
    for first_sequence in sequences {
        let path = segment::path_of(dir, first_sequence);
        let (file, header) = segment::open(disk, &path)?;
        let length = file
            .bytes_len()
            .map_err(|error| WalError::io("measure", &path, error))?;
        if let Some(previous) = segments.last_mut() {
            check_chain(dir, previous, &header, &path)?;
        }
        segments.push(FoundSegment { header, end: length });
    }
    let Some(last) = segments.last_mut() else {
        if let Some(end) = end {
            end.hold_against(dir, None, 1)?;
        }
        return Ok(Findings {
            wal_id: None,
            segments,
            next_sequence: 1,
            tail: None,
        });
    };
    let (next_sequence, tail) = scan_last(disk, dir, last)?;
    if let Some(end) = end {
        end.hold_against(dir, Some(&last.header), next_sequence)?;
    }
    Ok(Findings {
        wal_id: Some(last.header.wal_id),
        segments,
        next_sequence,
        tail,
    })
}

/// Examines a log that a server may be writing to: segments that are removed meanwhile, and records that are completed
/// between two reads, are not damage, so [`examine`] is tried again after such errors.
///
/// # Errors
///
/// As [`examine`].
pub fn examine_live<D: Disk>(disk: &D, dir: &Path) -> Result<Findings, WalError> {
    let mut examined = examine(disk, dir);
    for _ in 1..LIVE_TRIES {
        match &examined {
            Err(WalError::Damage { .. }) => {}
            Err(WalError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => {}
            _ => break,
        }
        examined = examine(disk, dir);
    }
    examined
}

/// Brings the directory into the state from which the log continues.
///
/// The caller holds the lock. A crash at any point leaves a directory from which a start comes to the same outcome.
pub fn apply<D: Disk>(disk: &D, dir: &Path, findings: Findings) -> Result<Recovered<D::File>, WalError> {
    let Findings {
        wal_id,
        mut segments,
        next_sequence,
        mut tail,
    } = findings;
    if let Some(tail) = &mut tail {
        cut(disk, dir, tail)?;
    }
    // A segment without events would share its name with the fresh one, which takes its place.
    let replaced = segments.pop_if(|last| last.header.first_sequence == next_sequence);
    let (number, previous_end, previous_life) = match (&replaced, segments.last()) {
        (Some(FoundSegment { header, .. }), _) => (header.number, header.previous_end, header.previous_life),
        (None, Some(last)) => (last.header.number + 1, last.end, last.header.life),
        (None, None) => (1, 0, LifeId::UNKNOWN),
    };
    let active_header = SegmentHeader {
        version: segment::FORMAT_VERSION,
        life: LifeId::random(),
        previous_life,
        salt: random_salt(),
        wal_id: wal_id.unwrap_or_else(|| WalId(Uuid::new_v4())),
        number,
        first_sequence: next_sequence,
        previous_end,
    };
    let active = directory::create_segment(disk, dir, &active_header)?;
    let mut listed: Vec<_> = segments
        .iter()
        .map(|found| Segment {
            sealed_end: Some(found.end),
            ..Segment::active(&found.header)
        })
        .collect();
    listed.push(Segment::active(&active_header));
    Ok(Recovered {
        wal_id: active_header.wal_id,
        segments: listed,
        active,
        active_header,
        recovered_through: next_sequence - 1,
        torn_tail: tail.filter(|tail| tail.kind == TailKind::Torn),
    })
}

/// A number that no other segment's checksums start from, for all practical purposes.
pub(super) fn random_salt() -> u32 {
    let (high, _, _, _) = Uuid::new_v4().as_fields();
    high
}

/// Checks a segment's header against the segment before it, and notes where that one logically ended.
fn check_chain(dir: &Path, previous: &mut FoundSegment, header: &SegmentHeader, path: &Path) -> Result<(), WalError> {
    let damage = |detail: String| Err(WalError::damage(path, 0, header.first_sequence, detail));
    if header.wal_id != previous.header.wal_id {
        return damage(format!(
            "it belongs to another log ({} instead of {})",
            header.wal_id, previous.header.wal_id
        ));
    }
    if header.number != previous.header.number + 1 {
        return damage(format!(
            "segment number {} follows number {}: a file is missing",
            header.number, previous.header.number
        ));
    }
    if previous.end < header.previous_end {
        let previous_path = segment::path_of(dir, previous.header.first_sequence);
        let detail = format!("the file ends here, but held {} bytes", header.previous_end);
        return Err(WalError::damage(
            &previous_path,
            previous.end,
            previous.header.first_sequence,
            detail,
        ));
    }
    previous.end = header.previous_end;
    Ok(())
}

/// Walks the last segment; returns the next sequence, and sets its logical end before a tail.
fn scan_last<D: Disk>(disk: &D, dir: &Path, last: &mut FoundSegment) -> Result<(Sequence, Option<Tail>), WalError> {
    let path = segment::path_of(dir, last.header.first_sequence);
    let file = disk.open(&path).map_err(|error| WalError::io("open", &path, error))?;
    let mut scanner = RecordScanner::new(file, &last.header, last.end);
    let tail = match scanner.walk(|_| {}) {
        Ok(()) => None,
        Err(ScanError::Io(error)) => return Err(WalError::io("read", &path, error)),
        Err(ScanError::Invalid(reason)) => Some(judge_tail(&scanner, &path, reason)?),
    };
    if let Some(tail) = &tail {
        last.end = tail.offset;
    }
    Ok((scanner.next_sequence(), tail))
}

/// Tells a tail from damage (see the format document).
fn judge_tail<F: DiskFile>(scanner: &RecordScanner<F>, path: &Path, reason: &str) -> Result<Tail, WalError> {
    let (offset, sequence) = (scanner.offset(), scanner.next_sequence());
    let rest = scanner.read_rest().map_err(|error| WalError::io("read", path, error))?;
    match scanner.find_proof_of_damage(&rest, sequence) {
        Some(proof) => {
            let detail = format!("{reason}, yet the record at byte {proof} was written after it had been synced");
            Err(WalError::damage(path, offset, sequence, detail))
        }
        None => {
            let is_blank = rest.iter().all(|&byte| byte == 0);
            Ok(Tail {
                segment: path.to_owned(),
                offset,
                bytes: rest.len() as u64,
                kind: if is_blank { TailKind::Blank } else { TailKind::Torn },
                first_sequence: sequence,
                last_sequence: last_sequence_in(&rest, sequence),
                copy: None,
            })
        }
    }
}

/// Cuts a tail off; a torn one is first copied aside.
fn cut<D: Disk>(disk: &D, dir: &Path, tail: &mut Tail) -> Result<(), WalError> {
    let path = &tail.segment;
    let mut file = disk.open_rw(path).map_err(|error| WalError::io("open", path, error))?;
    if tail.kind == TailKind::Torn {
        let mut bytes = vec![0; tail.bytes as usize];
        let length =
            segment::read_full(&file, &mut bytes, tail.offset).map_err(|error| WalError::io("read", path, error))?;
        bytes.truncate(length);
        tail.copy = Some(torn_copies::keep(disk, dir, tail, &bytes)?);
    }
    file.truncate(tail.offset)
        .map_err(|error| WalError::io("cut", path, error))?;
    file.sync_data().map_err(|error| WalError::io("sync", path, error))?;
    directory::sync_dir(disk, dir)
}
