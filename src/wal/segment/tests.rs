//! Headers and names of segments: any flipped bit is noticed, and a name stands for one sequence.

use proptest::prelude::*;

use super::*;
use crate::testing::disk::simulated::SimulatedDisk;

/// Reads the header of a file that has these bytes.
fn read(bytes: &[u8], named: Sequence) -> Result<SegmentHeader, WalError> {
    let path = path_of(Path::new("/wal"), named);
    let mut file = SimulatedDisk::new().create_new(&path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    SegmentHeader::read(&file, &path)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_header_reads_back_and_no_single_bit_can_change(
        salt: u32,
        wal_id: u128,
        number in 2..u64::MAX,
        first_sequence in 1..=u64::MAX,
        previous_end in HEADER_BYTES as u64..,
        life: u128,
        previous_life: u128,
        bit in 0..8 * HEADER_BYTES,
    ) {
        let wal_id = WalId(Uuid::from_u128(wal_id));
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            salt,
            wal_id,
            number,
            first_sequence,
            previous_end,
            life: LifeId(Uuid::from_u128(life)),
            previous_life: LifeId(Uuid::from_u128(previous_life)),
        };
        let mut bytes = header.encode();
        prop_assert_eq!(read(&bytes, first_sequence).unwrap(), header);
        prop_assert!(read(&bytes, first_sequence ^ 1).is_err(), "under another name");
        prop_assert!(read(&bytes[..bit / 8], first_sequence).is_err(), "cut off");
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read(&bytes, first_sequence).is_err());
    }

    #[test]
    fn a_name_stands_for_one_sequence(sequence: u64, name in "[0-9]{18,22}\\.wal|[0-9a+ -]{20}\\.(wal|tmp)") {
        prop_assert_eq!(sequence_of(&path_of(Path::new("/wal"), sequence)), Some(sequence));
        if let Some(sequence) = sequence_of(Path::new(&name)) {
            prop_assert_eq!(path_of(Path::new(""), sequence), Path::new(&name));
        }
    }
}
