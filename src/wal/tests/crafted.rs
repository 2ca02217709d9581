//! Files with valid checksums that no log has written: they are refused with a named error, and never believed.

use super::*;
use crate::wal::id::{LifeId, WalId};
use crate::wal::record;
use crate::wal::segment::SegmentHeader;

const HEADER: SegmentHeader = SegmentHeader {
    version: segment::FORMAT_VERSION,
    life: LifeId::UNKNOWN,
    previous_life: LifeId::UNKNOWN,
    salt: 7,
    wal_id: WalId(uuid::Uuid::from_u128(0xf00d)),
    number: 1,
    first_sequence: 1,
    previous_end: 0,
};

/// A record with one event for each of `users`; the first one has the sequence `first`.
fn record(header: &SegmentHeader, first: Sequence, durable: Sequence, users: &[u64]) -> Vec<u8> {
    let mut record = vec![0; record::HEADER_BYTES];
    for user in users {
        encode_user(*user, &mut record);
    }
    let count = users.len() as u32;
    record::seal(&mut record, header.salt, first, durable, count);
    record
}

/// Puts segments into a fresh directory.
fn place_with(segments: &[(SegmentHeader, Vec<u8>)]) -> LogPlace {
    let place = LogPlace::new();
    fs::create_dir(place.path()).unwrap();
    for (header, records) in segments {
        let path = segment::path_of(&place.path(), header.first_sequence);
        fs::write(path, [header.encode().as_slice(), records].concat()).unwrap();
    }
    place
}

#[test]
fn headers_that_no_segment_can_have_are_damage() {
    let second = SegmentHeader {
        number: 2,
        first_sequence: 2,
        previous_end: 64,
        ..HEADER
    };
    let impossible = [
        (
            "sequence 0",
            SegmentHeader {
                first_sequence: 0,
                ..HEADER
            },
        ),
        ("number 0", SegmentHeader { number: 0, ..HEADER }),
        (
            "the last number",
            SegmentHeader {
                number: u64::MAX,
                ..second
            },
        ),
        (
            "something before the first",
            SegmentHeader {
                previous_end: 64,
                ..HEADER
            },
        ),
        (
            "an end inside a header",
            SegmentHeader {
                previous_end: 63,
                ..second
            },
        ),
    ];
    for (what, header) in impossible {
        let outcome = open(RealDisk, &place_with(&[(header, Vec::new())]).settings());
        assert!(matches!(outcome, Err(WalError::Damage { .. })), "{what}: {outcome:?}");
    }
    for header in [HEADER, second] {
        open(RealDisk, &place_with(&[(header, Vec::new())]).settings()).unwrap();
    }
}

#[test]
fn a_later_record_in_the_place_of_a_missing_one_proves_the_loss() {
    let later = record(&HEADER, 2, 1, &[20]);
    let outcome = open(RealDisk, &place_with(&[(HEADER, later)]).settings());
    assert!(
        matches!(
            outcome,
            Err(WalError::Damage {
                offset: 96,
                sequence: 1,
                ..
            })
        ),
        "{outcome:?}"
    );
    // A later record of the same group as the missing one proves nothing.
    let same_group = record(&HEADER, 2, 0, &[20]);
    let opened = open(RealDisk, &place_with(&[(HEADER, same_group)]).settings()).unwrap();
    assert!(opened.torn_tail.is_some());
}

#[test]
fn a_segment_that_does_not_go_on_where_the_one_before_it_ended_is_damage() {
    let records = record(&HEADER, 1, 0, &[10, 20]);
    for (records, next_first, damaged_at) in [(records.clone(), 2, 1), (records, 4, 3), (Vec::new(), 3, 1)] {
        let next = SegmentHeader {
            number: 2,
            first_sequence: next_first,
            previous_end: (segment::HEADER_BYTES + records.len()) as u64,
            ..HEADER
        };
        let next_record = record(&next, next_first, next_first - 1, &[30, 40, 50]);
        let place = place_with(&[(HEADER, records), (next, next_record)]);
        let opened = open(RealDisk, &place.settings()).unwrap();
        let mut reader = crate::wal::reader::LogReader::new(Arc::clone(&opened.log), 0);
        let mut batch = Batch::new(opened.log.wal_id(), 0);
        let outcome = reader.fill(&mut batch, 100, 1 << 20);
        assert!(
            matches!(outcome, Err(WalError::Damage { sequence, .. }) if sequence == damaged_at),
            "{next_first}: {outcome:?}"
        );
    }
}
