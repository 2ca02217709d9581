//! Arbitrary bytes as the segments of a log.
//!
//! The first byte says whether checksums are corrected (without that, few inputs get past the first header) and whether
//! the bytes are one segment or two.

use super::log_format::{self, RECORD_HEADER_BYTES, SEGMENT_HEADER_1_BYTES, SEGMENT_HEADER_BYTES};
use crate::testing::disk::memory::MemoryDisk;

const REPAIR_HEADERS: u8 = 1;
const REPAIR_RECORDS: u8 = 2;
const TWO_SEGMENTS: u8 = 4;
/// The fields of the second segment's header that must fit the first are corrected.
const CHAIN: u8 = 8;
/// Headers are corrected as those of version 2 instead of 1.
const VERSION_2: u8 = 16;

/// A log of these bytes reads as the format document says, or is refused.
///
/// # Panics
///
/// When the log does neither, or when it reads or changes more than is there.
pub fn segment(data: &[u8]) {
    let Some((&flags, data)) = data.split_first() else {
        return;
    };
    let mut first = data.to_vec();
    let mut second = None;
    if flags & TWO_SEGMENTS != 0
        && let Some((length, rest)) = data.split_first_chunk()
    {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        first = rest[..length].to_vec();
        second = Some(rest[length..].to_vec());
    }
    if let Some(second) = &mut second
        && flags & CHAIN != 0
    {
        chain(&first, second);
    }
    let mut segments = Vec::new();
    for mut bytes in [Some(first), second].into_iter().flatten() {
        if flags & REPAIR_HEADERS != 0 {
            repair_header(&mut bytes, 1 + u32::from(flags & VERSION_2 != 0));
        }
        if flags & REPAIR_RECORDS != 0 {
            repair_records(&mut bytes);
        }
        segments.push((named(&bytes), bytes));
    }
    // Each start begins a segment with the next number, and `read_log` starts twice: no log has been started so often.
    if segments.iter().any(|(_, bytes)| field(bytes, 32) >= u64::MAX - 2) {
        return;
    }
    // A directory has each name once, and the log reads them in order.
    segments.sort_by_key(|(named, _)| *named);
    segments.dedup_by_key(|(named, _)| *named);
    let segments: Vec<_> = segments
        .iter()
        .map(|(named, bytes)| (*named, bytes.as_slice()))
        .collect();
    let expected = log_format::read_log(&segments);
    let read = MemoryDisk::with_segments(segments).read_log();
    let read = read
        .as_ref()
        .map(|events| events.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(read, expected, "the log against the format document");
}

/// The first sequence in the header, which the file name must repeat.
fn named(bytes: &[u8]) -> u64 {
    field(bytes, 40)
}

/// A field of a header; 1 where there is none.
fn field(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(1, |field| u64::from_le_bytes(*field))
}

/// Corrects identity, number and previous end in the second header to those that the first segment demands.
fn chain(first: &[u8], second: &mut [u8]) {
    if let (Some(first_header), Some(header)) = (
        first.get(..SEGMENT_HEADER_1_BYTES),
        second.get_mut(..SEGMENT_HEADER_1_BYTES),
    ) {
        header[16..32].copy_from_slice(&first_header[16..32]);
        let number = first_header[32..].first_chunk().expect("eight bytes");
        let next = u64::from_le_bytes(*number).wrapping_add(1);
        header[32..40].copy_from_slice(&next.to_le_bytes());
        header[48..56].copy_from_slice(&(first.len() as u64).to_le_bytes());
    }
}

fn repair_header(bytes: &mut [u8], version: u32) {
    if let Some(header) = bytes.get_mut(..header_bytes(version)) {
        header[..8].copy_from_slice(b"FSTINGST");
        header[8..12].copy_from_slice(&version.to_le_bytes());
        let (checked, checksum) = header.split_at_mut(header_bytes(version) - 4);
        checksum.copy_from_slice(&log_format::checksum(0, checked).to_le_bytes());
    }
}

fn header_bytes(version: u32) -> usize {
    match version {
        2 => SEGMENT_HEADER_BYTES,
        _ => SEGMENT_HEADER_1_BYTES,
    }
}

/// Corrects the checksums of records as far as the length fields lead.
fn repair_records(bytes: &mut [u8]) {
    let version = bytes.get(8..).and_then(|rest| rest.first_chunk());
    let version = version.map_or(0, |version| u32::from_le_bytes(*version));
    let Some((header, mut rest)) = bytes.split_at_mut_checked(header_bytes(version)) else {
        return;
    };
    let salt = u32::from_le_bytes(*header[12..].first_chunk().expect("four bytes"));
    while let Some(length) = rest.get(4..).and_then(|rest| rest.first_chunk()) {
        let length = RECORD_HEADER_BYTES.saturating_add(u32::from_le_bytes(*length) as usize);
        let Some((record, behind)) = rest.split_at_mut_checked(length) else {
            return;
        };
        let checksum = log_format::checksum(salt, &record[4..]);
        record[..4].copy_from_slice(&checksum.to_le_bytes());
        rest = behind;
    }
}
