//! The format document at the top of `wal.rs`, compared with the code byte by byte.

use uuid::Uuid;

use super::*;
use crate::wal::end::{self, End};
use crate::wal::id::{LifeId, WalId};
use crate::wal::record;
use crate::wal::segment::SegmentHeader;

/// The tables of the format document explain each line.
#[rustfmt::skip]
const SEGMENT_HEADER: [u8; 96] = [
    b'F', b'S', b'T', b'I', b'N', b'G', b'S', b'T',             // magic
    2, 0, 0, 0,                                                 // version
    0x78, 0x56, 0x34, 0x12,                                     // salt
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,       // WAL id
    3, 0, 0, 0, 0, 0, 0, 0,                                     // number
    0x67, 0x12, 0, 0, 0, 0, 0, 0,                               // first sequence 4711
    0x00, 0x20, 0, 0, 0, 0, 0, 0,                               // previous end 8192
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, // life
    48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, // previous life
    0, 0, 0, 0,                                                 // reserved
    0x4b, 0x54, 0xd3, 0xe1,                                     // checksum
];

/// The same segment as version 1 described it.
#[rustfmt::skip]
const SEGMENT_HEADER_1: [u8; 64] = [
    b'F', b'S', b'T', b'I', b'N', b'G', b'S', b'T',             // magic
    1, 0, 0, 0,                                                 // version
    0x78, 0x56, 0x34, 0x12,                                     // salt
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,       // WAL id
    3, 0, 0, 0, 0, 0, 0, 0,                                     // number
    0x67, 0x12, 0, 0, 0, 0, 0, 0,                               // first sequence 4711
    0x00, 0x20, 0, 0, 0, 0, 0, 0,                               // previous end 8192
    0, 0, 0, 0,                                                 // reserved
    0x0e, 0x05, 0x77, 0xf4,                                     // checksum
];

#[rustfmt::skip]
const RECORD: [u8; 35] = [
    0xe4, 0x96, 0x3d, 0x0c,                                     // checksum
    3, 0, 0, 0,                                                 // length
    0x67, 0x12, 0, 0, 0, 0, 0, 0,                               // first sequence 4711
    0x60, 0x12, 0, 0, 0, 0, 0, 0,                               // durable through 4704
    1, 0, 0, 0,                                                 // events
    0, 0, 0, 0,                                                 // reserved
    b'a', b'b', b'c',                                           // payload
];

/// The used part of a slot of END.
#[rustfmt::skip]
const END: [u8; 68] = [
    b'F', b'S', b'T', b'I', b'N', b'G', b'E', b'N',             // magic
    1, 0, 0, 0,                                                 // version
    0, 0, 0, 0,                                                 // reserved
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,       // WAL id
    9, 0, 0, 0, 0, 0, 0, 0,                                     // counter
    3, 0, 0, 0, 0, 0, 0, 0,                                     // number
    0x67, 0x12, 0, 0, 0, 0, 0, 0,                               // first sequence 4711
    0x68, 0x12, 0, 0, 0, 0, 0, 0,                               // durable through 4712
    0x24, 0x71, 0x87, 0x80,                                     // checksum
];

fn header() -> SegmentHeader {
    SegmentHeader {
        version: 2,
        life: LifeId(Uuid::from_bytes(std::array::from_fn(|at| 32 + at as u8))),
        previous_life: LifeId(Uuid::from_bytes(std::array::from_fn(|at| 48 + at as u8))),
        salt: 0x1234_5678,
        wal_id: WalId(Uuid::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])),
        number: 3,
        first_sequence: 4711,
        previous_end: 8192,
    }
}

/// CRC-32C bit by bit, straight from its definition (reflected polynomial 0x82f63b78), so that the constants above do
/// not depend on the library under test.
fn crc32c_by_definition(start: u32, bytes: &[u8]) -> u32 {
    let mut crc = !start;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[test]
fn the_checksums_in_the_golden_bytes_follow_the_definition() {
    // RFC 3720, appendix B.4: 32 bytes of zeros.
    assert_eq!(crc32c_by_definition(0, &[0; 32]), 0x8a91_36aa);
    assert_eq!(
        crc32c_by_definition(0, &SEGMENT_HEADER[..92]).to_le_bytes(),
        SEGMENT_HEADER[92..]
    );
    assert_eq!(
        crc32c_by_definition(0, &SEGMENT_HEADER_1[..60]).to_le_bytes(),
        SEGMENT_HEADER_1[60..]
    );
    assert_eq!(
        crc32c_by_definition(0x1234_5678, &RECORD[4..]).to_le_bytes(),
        RECORD[..4]
    );
    assert_eq!(crc32c_by_definition(0, &END[..64]).to_le_bytes(), END[64..]);
}

#[test]
fn a_segment_header_is_written_as_documented() {
    assert_eq!(header().encode(), SEGMENT_HEADER);
}

#[test]
fn a_segment_header_is_read_as_documented() {
    let dir = TempDir::new().unwrap();
    let path = segment::path_of(dir.path(), 4711);
    assert_eq!(path.file_name().unwrap(), "00000000000000004711.wal");
    fs::write(&path, SEGMENT_HEADER).unwrap();
    let (_, read) = segment::open(&RealDisk, &path).unwrap();
    assert_eq!(read, header());
    assert_eq!(read.bytes_len(), 96);
}

#[test]
fn a_segment_header_of_version_1_is_read_as_it_was_documented() {
    let dir = TempDir::new().unwrap();
    let path = segment::path_of(dir.path(), 4711);
    fs::write(&path, SEGMENT_HEADER_1).unwrap();
    let (_, read) = segment::open(&RealDisk, &path).unwrap();
    let expected = SegmentHeader {
        version: 1,
        life: LifeId::UNKNOWN,
        previous_life: LifeId::UNKNOWN,
        ..header()
    };
    assert_eq!(read, expected);
    assert_eq!(read.bytes_len(), 64);
}

#[test]
fn an_end_is_written_and_read_as_documented() {
    let end = End::of(&header(), 4712);
    let slot = end.encode(9);
    assert_eq!(slot[..END.len()], END);
    assert_eq!(slot[END.len()..], [0; 512 - END.len()]);
    let dir = TempDir::new().unwrap();
    let mut file = end.encode(8).to_vec();
    file.extend_from_slice(&slot);
    fs::write(dir.path().join("END"), file).unwrap();
    assert_eq!(end::read(&RealDisk, dir.path()).unwrap(), Some(end));
}

#[test]
fn a_record_is_written_and_read_as_documented() {
    let mut bytes = vec![0; record::HEADER_BYTES];
    bytes.extend_from_slice(b"abc");
    record::seal(&mut bytes, 0x1234_5678, 4711, 4704, 1);
    assert_eq!(bytes, RECORD);
    assert!(record::checksum_holds(&bytes, 0x1234_5678));
    assert!(
        !record::checksum_holds(&bytes, 0x1234_5679),
        "another segment's record does not pass"
    );
    let read = record::decode_header(bytes.first_chunk().unwrap()).unwrap();
    assert_eq!(
        (
            read.payload_bytes,
            read.first_sequence,
            read.durable_through,
            read.event_count
        ),
        (3, 4711, 4704, 1)
    );
}
