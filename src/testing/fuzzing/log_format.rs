//! A second reader of the log, written from the format document in [`crate::wal`] and as plainly as possible: all bytes
//! in memory, one checksum bit after the other. Both readers must agree.

/// Bytes of a segment header as it is written now.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 96;
/// Bytes of a segment header of version 1, which is still read.
pub(crate) const SEGMENT_HEADER_1_BYTES: usize = 64;
/// Bytes of a record header.
pub(crate) const RECORD_HEADER_BYTES: usize = 32;
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of the smallest event: length, time and flags, and three texts with a length byte each.
const EVENT_BYTES_MIN: usize = 4 + 8 + 1 + 3;

/// The fields of a segment header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub(crate) salt: u32,
    pub(crate) wal_id: &'a [u8],
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    pub(crate) previous_end: u64,
    /// Where the first record begins.
    pub(crate) bytes_len: usize,
}

/// A valid record.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) first_sequence: u64,
    pub(crate) durable_through: u64,
    pub(crate) event_count: u32,
    pub(crate) payload: &'a [u8],
    /// Header and payload.
    pub(crate) bytes: &'a [u8],
}

/// CRC-32C of `bytes`, going on from the checksum of what came before.
pub(crate) fn checksum(start: u32, bytes: &[u8]) -> u32 {
    let mut remainder = !start;
    for byte in bytes {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            // All ones where the lowest bit is set: a branch here would be most of what a fuzzer traces.
            let mask = (remainder & 1).wrapping_neg();
            remainder = (remainder >> 1) ^ (0x82f6_3b78 & mask);
        }
    }
    !remainder
}

/// The header of a segment whose file name says `named`; `None` if the header is not valid.
pub(crate) fn header(bytes: &[u8], named: u64) -> Option<Header<'_>> {
    let version = u32_at(bytes.get(..12)?, 8);
    let bytes_len = match version {
        1 => SEGMENT_HEADER_1_BYTES,
        2 => SEGMENT_HEADER_BYTES,
        _ => return None,
    };
    let bytes = bytes.get(..bytes_len)?;
    let header = Header {
        salt: u32_at(bytes, 12),
        wal_id: &bytes[16..32],
        number: u64_at(bytes, 32),
        first_sequence: u64_at(bytes, 40),
        previous_end: u64_at(bytes, 48),
        bytes_len,
    };
    let is_ours = bytes.starts_with(b"FSTINGST");
    // Sequences and numbers count from 1 and go on; no segment ends inside its header.
    let is_possible = header.first_sequence > 0
        && (1..u64::MAX).contains(&header.number)
        && match header.number {
            1 => header.previous_end == 0,
            _ => header.previous_end >= SEGMENT_HEADER_1_BYTES as u64,
        };
    let checksum_at = bytes_len - 4;
    let holds = checksum(0, &bytes[..checksum_at]) == u32_at(bytes, checksum_at);
    (is_ours && holds && is_possible && header.first_sequence == named).then_some(header)
}

/// The valid record that begins at `offset`, wherever in the log it belongs.
pub(crate) fn record_at(bytes: &[u8], offset: usize, salt: u32) -> Option<Record<'_>> {
    let rest = bytes.get(offset..)?;
    let header = rest.get(..RECORD_HEADER_BYTES)?;
    let length = u32_at(header, 4) as usize;
    let whole = rest.get(..RECORD_HEADER_BYTES.checked_add(length)?)?;
    let record = Record {
        first_sequence: u64_at(header, 8),
        durable_through: u64_at(header, 16),
        event_count: u32_at(header, 24),
        payload: &whole[RECORD_HEADER_BYTES..],
        bytes: whole,
    };
    let is_possible = length <= PAYLOAD_BYTES_MAX
        && u32_at(header, 28) == 0
        && (record.event_count == 0) == (length == 0)
        && record.durable_through < record.first_sequence
        && record.first_sequence.checked_add(record.event_count.into()).is_some();
    let holds = || checksum(salt, &whole[4..]) == u32_at(header, 0);
    (is_possible && holds()).then_some(record)
}

/// All events of a log whose segments have these names and bytes, oldest first; `None` if it must be refused.
///
/// Segments before the last are read only as far as they hold events: a start cannot afford more, and misses nothing.
pub(crate) fn read_log<'a>(segments: &[(u64, &'a [u8])]) -> Option<Vec<&'a [u8]>> {
    let mut chain: Vec<(Header<'a>, &'a [u8])> = Vec::new();
    for (named, bytes) in segments {
        let header = header(bytes, *named)?;
        if let Some((previous, previous_bytes)) = chain.last_mut() {
            let follows = header.wal_id == previous.wal_id && header.number == previous.number + 1;
            if !follows {
                return None;
            }
            *previous_bytes = previous_bytes.get(..usize::try_from(header.previous_end).ok()?)?;
        }
        chain.push((header, bytes));
    }
    let (last, last_bytes) = chain.last_mut()?;
    let (_, end, next_sequence) = records(last_bytes, last, u64::MAX);
    let is_proof =
        |at| record_at(last_bytes, at, last.salt).is_some_and(|record| record.durable_through >= next_sequence);
    if (end..last_bytes.len()).any(is_proof) {
        return None;
    }
    *last_bytes = &last_bytes[..end];

    let mut events = Vec::new();
    let mut sequence = chain.first()?.0.first_sequence;
    for (index, (header, bytes)) in chain.iter().enumerate() {
        if sequence >= next_sequence {
            break;
        }
        let (records, end, behind) = records(bytes, header, next_sequence - 1);
        let is_whole = end == bytes.len() || behind >= next_sequence;
        let overlaps = chain
            .get(index + 1)
            .is_some_and(|(next, _)| behind > next.first_sequence);
        if header.first_sequence != sequence || !is_whole || overlaps {
            return None;
        }
        for record in &records {
            split(record, &mut events)?;
        }
        sequence = behind;
    }
    Some(events)
}

/// The records from the first to the one with `through` or to an invalid one; where the next begins, and its sequence.
fn records<'a>(bytes: &'a [u8], header: &Header<'_>, through: u64) -> (Vec<Record<'a>>, usize, u64) {
    let mut records = Vec::new();
    let mut at = header.bytes_len;
    let mut sequence = header.first_sequence;
    while sequence <= through
        && let Some(record) = record_at(bytes, at, header.salt)
        && record.first_sequence == sequence
    {
        at += record.bytes.len();
        sequence += u64::from(record.event_count);
        records.push(record);
    }
    (records, at, sequence)
}

/// The events of a record; `None` if they are not what its header says.
fn split<'a>(record: &Record<'a>, events: &mut Vec<&'a [u8]>) -> Option<()> {
    let mut rest = record.payload;
    for _ in 0..record.event_count {
        let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        let (event, behind) = rest.split_at_checked(length)?;
        if length < EVENT_BYTES_MIN {
            return None;
        }
        events.push(event);
        rest = behind;
    }
    rest.is_empty().then_some(())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes[at..].first_chunk().expect("a field of four bytes");
    u32::from_le_bytes(*field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes[at..].first_chunk().expect("a field of eight bytes");
    u64::from_le_bytes(*field)
}
