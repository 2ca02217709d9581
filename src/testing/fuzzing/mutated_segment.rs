//! A valid log, then damage to its bytes: the log refuses, or reads a prefix of what was written, and never less than
//! was proved durable.

use super::input::Input;
use super::log_format;
use crate::event::{EventRef, Timestamp, codec};
use crate::testing::disk::memory::MemoryDisk;
use crate::wal::id::{LifeId, WalId};
use crate::wal::record;
use crate::wal::segment::{self, SegmentHeader};

/// Most segments: a first, one between, a last.
const SEGMENTS_MAX: usize = 3;
/// Most records in one of them.
const RECORDS_MAX: usize = 6;
/// Most events in one record.
const EVENTS_MAX: usize = 3;

/// A segment as written.
struct Written {
    first_sequence: u64,
    bytes: Vec<u8>,
    events: Vec<Vec<u8>>,
    records: Vec<WrittenRecord>,
}

struct WrittenRecord {
    bytes: Vec<u8>,
    /// Where the record ends in the segment.
    end: usize,
    last_sequence: u64,
    durable_through: u64,
}

/// The first bytes choose what is written, the rest how it is damaged.
///
/// # Panics
///
/// When the log reads an event that was not written, or too few, or refuses what nobody has touched.
pub fn mutated_segment(data: &[u8]) {
    let mut input = Input(data);
    let log = write(&mut input);
    let mut damaged: Vec<_> = log.iter().map(|segment| segment.bytes.clone()).collect();
    damage(&mut damaged, &mut input);
    let is_untouched = log
        .iter()
        .zip(&damaged)
        .all(|(segment, damaged)| segment.bytes == *damaged);
    if log
        .iter()
        .zip(&damaged)
        .any(|(segment, damaged)| is_forged(segment, damaged))
    {
        return;
    }

    let segments = log.iter().zip(&damaged);
    let segments = segments.map(|(segment, damaged)| (segment.first_sequence, damaged.as_slice()));
    let Some(read) = MemoryDisk::with_segments(segments).read_log() else {
        assert!(!is_untouched, "a sound log was refused");
        return;
    };
    let written: Vec<_> = log.iter().flat_map(|segment| &segment.events).collect();
    assert!(
        read.len() <= written.len() && read.iter().zip(&written).all(|(read, &event)| read == event),
        "an event was read that was not written there"
    );
    let (Some(first), Some(last), Some(last_damaged)) = (log.first(), log.last(), damaged.last()) else {
        unreachable!("a log has a segment");
    };
    let read_through = first.first_sequence + read.len() as u64 - 1;
    let due_through = due_through(last, last_damaged);
    assert!(
        read_through >= due_through,
        "read up to sequence {read_through}, but {due_through} is whole or was proved durable"
    );
}

/// Writes a log as the committer would.
fn write(input: &mut Input<'_>) -> Vec<Written> {
    let mut log: Vec<Written> = Vec::new();
    let mut next_sequence = 1 + u64::from(input.byte() >> 6);
    let first_number = 1 + u64::from(next_sequence > 1);
    let segment_count = 1 + input.below(SEGMENTS_MAX);
    for number in first_number..first_number + segment_count as u64 {
        let header = SegmentHeader {
            version: segment::FORMAT_VERSION,
            life: LifeId::UNKNOWN,
            previous_life: LifeId::UNKNOWN,
            salt: 0x5a17_0000 ^ number as u32,
            wal_id: WalId(uuid::Uuid::from_u128(0xf00d)),
            number,
            first_sequence: next_sequence,
            previous_end: match log.last() {
                Some(previous) => previous.bytes.len() as u64,
                None if number == 1 => 0,
                // Earlier segments are flushed and gone.
                None => 4711,
            },
        };
        let mut segment = Written {
            first_sequence: next_sequence,
            bytes: header.encode().to_vec(),
            events: Vec::new(),
            records: Vec::new(),
        };
        // A segment is sealed only after it was synced.
        let mut durable_through = next_sequence - 1;
        for _ in 0..1 + input.below(RECORDS_MAX) {
            let shape = input.byte();
            if shape & 0x80 != 0 {
                durable_through = next_sequence - 1;
            }
            let event_count = usize::from(shape) % (EVENTS_MAX + 1);
            let mut record = vec![0; record::HEADER_BYTES];
            for sequence in next_sequence..next_sequence + event_count as u64 {
                let event = event(sequence, usize::from(shape >> 2 & 0x1f));
                record.extend_from_slice(&event);
                segment.events.push(event);
            }
            record::seal(
                &mut record,
                header.salt,
                next_sequence,
                durable_through,
                event_count as u32,
            );
            next_sequence += event_count as u64;
            segment.bytes.extend_from_slice(&record);
            segment.records.push(WrittenRecord {
                bytes: record,
                end: segment.bytes.len(),
                last_sequence: next_sequence - 1,
                durable_through,
            });
        }
        // The next segment must have another name.
        let is_empty = segment.events.is_empty();
        log.push(segment);
        if is_empty {
            break;
        }
    }
    log
}

/// An event whose bytes are determined by its sequence.
fn event(sequence: u64, campaign_bytes: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    let event = EventRef {
        event_name: "view",
        channel: "web",
        user_id: &sequence.to_string(),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
        event_id: None,
        campaign_id: Some(&"c".repeat(campaign_bytes)),
        tags: None,
        metadata: None,
    };
    codec::encode(&event, &mut encoded);
    encoded
}

/// Damages the segments as the rest of the input says.
fn damage(segments: &mut [Vec<u8>], input: &mut Input<'_>) {
    while !input.is_empty() {
        let kind = input.byte();
        let source = segments[usize::from(kind >> 6) % segments.len()].clone();
        let target = usize::from(kind >> 4 & 3) % segments.len();
        let bytes = &mut segments[target];
        if bytes.is_empty() {
            return;
        }
        let at = input.below(bytes.len());
        match kind & 15 {
            0..=3 => bytes[at] ^= 1 << (kind & 7),
            4 => bytes[at] = input.byte(),
            5 => bytes.truncate(at),
            6 => bytes.extend(std::iter::repeat_n(0, at)),
            kind => {
                // A range, often one of whole records: what a misdirected or a lost write leaves behind.
                let length = 1 + input.below(bytes.len() - at);
                let range = at..at + length;
                let from = input.below(source.len().max(1));
                let spliced = source[from.min(source.len())..].iter().copied();
                match kind {
                    7 => bytes[range].fill(0),
                    8 | 9 => drop(bytes.drain(range)),
                    10..=12 => drop(bytes.splice(at..at, spliced.take(length))),
                    _ => drop(bytes.splice(range, spliced.take(length))),
                }
            }
        }
    }
}

/// Whether the damaged segment has a checksum that holds over something that was never written. That is no fault of the
/// log: a checksum cannot tell, and a fuzzer that watches comparisons can guess one.
fn is_forged(segment: &Written, damaged: &[u8]) -> bool {
    let Some(header) = log_format::header(damaged, segment.first_sequence) else {
        return false;
    };
    if !damaged.starts_with(&segment.bytes[..log_format::SEGMENT_HEADER_BYTES]) {
        return true;
    }
    (0..damaged.len()).any(|at| {
        log_format::record_at(damaged, at, header.salt)
            .is_some_and(|record| !segment.records.iter().any(|written| written.bytes == record.bytes))
    })
}

/// The sequence up to which everything must be read, if the log is not refused: all before the last segment, all
/// records before the first damage in it, and what its records that are still found anywhere prove durable.
fn due_through(last: &Written, damaged: &[u8]) -> u64 {
    let whole = last
        .bytes
        .iter()
        .zip(damaged)
        .take_while(|(written, damaged)| written == damaged)
        .count();
    let mut due = last.first_sequence - 1;
    for record in &last.records {
        if record.end <= whole {
            due = due.max(record.last_sequence);
        }
        if damaged.windows(record.bytes.len()).any(|window| window == record.bytes) {
            due = due.max(record.durable_through);
        }
    }
    due
}
