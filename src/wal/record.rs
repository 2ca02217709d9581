//! One record: header and checksum, no I/O. The layout is in the format document at the top of [`crate::wal`].

use crate::wal::id::Sequence;

/// Bytes of a record header.
pub const HEADER_BYTES: usize = 32;
/// Longest payload of a record. A length field beyond it is damage, found before anything is allocated.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The fields of a record header, without its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// Sequence of the first event, or of the next one to come when the record is a marker.
    pub first_sequence: Sequence,
    /// Everything up to here was synced before this record was written.
    pub durable_through: Sequence,
    /// Number of events; 0 for a marker.
    pub event_count: u32,
}

impl RecordHeader {
    /// Sequence of the record's last event; one before the first for a marker.
    pub fn last_sequence(&self) -> Sequence {
        self.first_sequence + Sequence::from(self.event_count) - 1
    }

    /// Bytes of header and payload.
    pub fn record_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes as usize
    }
}

/// Fills in the header of a record: the first `HEADER_BYTES`, before the payload.
///
/// # Panics
///
/// When the record is shorter than a header or longer than the format allows, or when the sequences contradict each
/// other.
pub fn seal(record: &mut [u8], salt: u32, first_sequence: Sequence, durable_through: Sequence, event_count: u32) {
    let payload_bytes = record
        .len()
        .checked_sub(HEADER_BYTES)
        .expect("a record has room for its header");
    assert!(
        payload_bytes <= PAYLOAD_BYTES_MAX,
        "a payload of {payload_bytes} bytes is beyond the format"
    );
    assert!(
        durable_through < first_sequence,
        "a record comes after what was durable before it"
    );
    assert_eq!(event_count == 0, payload_bytes == 0, "only a marker is empty");
    record[4..8].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    record[8..16].copy_from_slice(&first_sequence.to_le_bytes());
    record[16..24].copy_from_slice(&durable_through.to_le_bytes());
    record[24..28].copy_from_slice(&event_count.to_le_bytes());
    record[28..32].fill(0);
    let checksum = crc32c::crc32c_append(salt, &record[4..]);
    record[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a header; `None` if its fields cannot be a record's, whatever the checksum says.
pub fn decode_header(bytes: &[u8; HEADER_BYTES]) -> Option<RecordHeader> {
    let header = RecordHeader {
        payload_bytes: read_u32(bytes, 4),
        first_sequence: read_u64(bytes, 8),
        durable_through: read_u64(bytes, 16),
        event_count: read_u32(bytes, 24),
    };
    let reserved = read_u32(bytes, 28);
    let plausible = reserved == 0
        && header.payload_bytes as usize <= PAYLOAD_BYTES_MAX
        && (header.event_count == 0) == (header.payload_bytes == 0)
        && header.durable_through < header.first_sequence
        && header.first_sequence.checked_add(header.event_count.into()).is_some();
    plausible.then_some(header)
}

/// Whether a whole record (header and payload) carries the right checksum.
pub fn checksum_holds(record: &[u8], salt: u32) -> bool {
    record.len() >= HEADER_BYTES && crc32c::crc32c_append(salt, &record[4..]) == read_u32(record, 0)
}

/// Reads a little-endian integer.
///
/// # Panics
///
/// When `bytes` is too short.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Reads a little-endian integer.
///
/// # Panics
///
/// When `bytes` is too short.
pub(crate) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn a_record_reads_back_and_no_single_bit_can_change(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            salt: u32,
            first_sequence in 1..u64::MAX - u64::from(u32::MAX),
            durable_back: u64,
            event_count in 1..u32::MAX,
            flipped: prop::sample::Index,
        ) {
            let durable_through = first_sequence - 1 - durable_back % first_sequence;
            let event_count = if payload.is_empty() { 0 } else { event_count };
            let mut record = vec![0xaa; HEADER_BYTES];
            record.extend_from_slice(&payload);
            seal(&mut record, salt, first_sequence, durable_through, event_count);
            let header = RecordHeader {
                payload_bytes: payload.len() as u32,
                first_sequence,
                durable_through,
                event_count,
            };
            prop_assert_eq!(decode_header(record.first_chunk().unwrap()), Some(header));
            prop_assert_eq!(header.record_bytes(), record.len());
            prop_assert!(checksum_holds(&record, salt));
            prop_assert_eq!(&record[HEADER_BYTES..], &payload[..]);
            prop_assert!(!checksum_holds(&record, salt ^ 1), "of another segment");

            let bit = flipped.index(8 * record.len());
            record[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!checksum_holds(&record, salt));
        }

        #[test]
        fn arbitrary_bytes_are_no_header_or_one_that_makes_sense(bytes: [u8; HEADER_BYTES]) {
            if let Some(header) = decode_header(&bytes) {
                prop_assert!(header.durable_through < header.first_sequence);
                prop_assert!(header.record_bytes() <= HEADER_BYTES + PAYLOAD_BYTES_MAX);
                prop_assert!(header.last_sequence() >= header.first_sequence - 1);
            }
        }
    }
}
