//! What a start does about every kind of tail and damage.

use super::*;
use crate::wal::recovery::{Findings, examine};
use crate::wal::segment::SegmentHeader;
use crate::wal::tail::{Tail, TailKind};
use crate::wal::{directory, record};

/// A log of three records (users 1, 2 3, 4) in one segment; returns where each record ends. Stopped cleanly, so a
/// marker follows.
fn three_records(place: &LogPlace) -> Vec<u64> {
    let running = start(&place.settings());
    let mut ends = vec![];
    for users in [&[1][..], &[2, 3], &[4]] {
        running.append(users).unwrap();
        ends.push(running.log.durable().active_end);
    }
    running.stop().unwrap();
    ends
}

/// Removes END, which a clean stop has written, so that a cut tail may be one that a crash left.
fn forget_the_stop(place: &LogPlace) {
    fs::remove_file(place.path().join(crate::wal::end::NAME)).unwrap();
}

fn examined(place: &LogPlace) -> Result<Findings, WalError> {
    examine(&RealDisk, &place.path())
}

/// Names and contents of all files but the lock.
fn snapshot(place: &LogPlace) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn every_length_of_a_cut_tail_keeps_every_whole_record() {
    let place = LogPlace::new();
    let ends = three_records(&place);
    let path = place.segments()[0].clone();
    let whole = fs::read(&path).unwrap();
    let last_sequences = [1, 3, 4];
    forget_the_stop(&place);

    for length in segment::HEADER_BYTES..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let findings = examined(&place).unwrap();
        let kept = ends.iter().filter(|&&end| end <= length as u64).count();
        let expected_next = if kept == 0 { 1 } else { last_sequences[kept - 1] + 1 };
        assert_eq!(findings.next_sequence, expected_next, "cut at {length}");
        let is_between_records =
            length == segment::HEADER_BYTES || length == whole.len() || ends.contains(&(length as u64));
        assert_eq!(findings.torn_tail().is_none(), is_between_records, "cut at {length}");
    }
}

#[test]
fn a_cut_header_is_damage_because_it_was_synced_before_the_file_got_its_name() {
    let place = LogPlace::new();
    three_records(&place);
    let path = place.segments()[0].clone();
    let whole = fs::read(&path).unwrap();
    for length in 0..segment::HEADER_BYTES {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(
            matches!(examined(&place), Err(WalError::Damage { offset: 0, .. })),
            "cut at {length}"
        );
    }
}

#[test]
fn a_torn_tail_is_cut_a_copy_kept_and_the_log_goes_on_in_a_new_segment() {
    let place = LogPlace::new();
    let ends = three_records(&place);
    let path = place.segments()[0].clone();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..ends[1] as usize + 7]).unwrap();
    forget_the_stop(&place);

    let running = start(&place.settings());
    assert_eq!(running.cut_bytes, 7);
    running.append(&[5]).unwrap();
    assert_eq!(running.read_after(0).unwrap(), [1, 2, 3, 5]);
    running.stop().unwrap();

    assert_eq!(
        fs::read(&path).unwrap(),
        &whole[..ends[1] as usize],
        "cut to the last whole record"
    );
    let copy = PathBuf::from(format!("{}.torn-{}", path.display(), ends[1]));
    assert_eq!(fs::read(copy).unwrap(), &whole[ends[1] as usize..ends[1] as usize + 7]);
    assert_eq!(place.segments().len(), 2);
    assert_eq!(start(&place.settings()).cut_bytes, 0, "nothing is cut twice");
}

#[test]
fn a_crash_leaves_room_that_is_cut_without_a_copy_and_a_stop_leaves_none() {
    let place = LogPlace::new();
    let ends = three_records(&place);
    let path = place.segments()[0].clone();
    let whole = fs::read(&path).unwrap();
    let marker_bytes = record::HEADER_BYTES as u64;
    assert_eq!(whole.len() as u64, ends[2] + marker_bytes, "no room");
    // As a kill would leave it: the marker was not written, the room was not cut.
    let mut crashed = whole[..ends[2] as usize].to_vec();
    crashed.extend_from_slice(&[0; 100_000]);
    fs::write(&path, &crashed).unwrap();
    let findings = examined(&place).unwrap();
    assert!(findings.torn_tail().is_none());
    assert_eq!(
        findings.tail.unwrap(),
        Tail {
            segment: path.clone(),
            offset: ends[2],
            bytes: 100_000,
            kind: TailKind::Blank,
            first_sequence: 5,
            last_sequence: None,
            copy: None,
        }
    );

    let running = start(&place.settings());
    assert_eq!(running.cut_bytes, 0);
    running.append(&[5]).unwrap();
    assert_eq!(running.read_after(0).unwrap(), [1, 2, 3, 4, 5]);
    let active = place.segments()[1].clone();
    let bytes_len = || fs::metadata(&active).unwrap().len();
    let end = running.log.durable().active_end;
    assert!(bytes_len() > end, "room is made ahead");
    running.stop().unwrap();
    assert_eq!(bytes_len(), end + marker_bytes, "no room");
    assert_eq!(fs::read(&path).unwrap(), &whole[..ends[2] as usize]);
    let is_copy = |path: &Path| path.to_string_lossy().contains("torn");
    let copies = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .filter(|entry| is_copy(&entry.as_ref().unwrap().path()));
    assert_eq!(copies.count(), 0);
}

#[test]
fn each_torn_tail_keeps_its_own_copy_even_at_the_same_place() {
    let place = LogPlace::new();
    start(&place.settings()).stop().unwrap();
    let path = place.segments()[0].clone();
    for torn in [&b"first"[..], b"second"] {
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(torn);
        fs::write(&path, bytes).unwrap();
        let running = start(&place.settings());
        assert_eq!(running.cut_bytes, torn.len() as u64);
        running.stop().unwrap();
    }
    let copy = format!("{}.torn-{}", path.display(), segment::HEADER_BYTES);
    assert_eq!(fs::read(&copy).unwrap(), b"first");
    assert_eq!(fs::read(format!("{copy}-1")).unwrap(), b"second");
}

#[test]
fn the_last_copies_of_torn_tails_are_kept_and_no_others() {
    let place = LogPlace::new();
    start(&place.settings()).stop().unwrap();
    let path = place.segments()[0].clone();
    for torn in 0_u8..20 {
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&[torn; 5]);
        fs::write(&path, bytes).unwrap();
        start(&place.settings()).stop().unwrap();
    }
    let names = fs::read_dir(place.path()).unwrap();
    let copies = names
        .map(|file| file.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains(".torn-"));
    let mut kept: Vec<_> = copies.map(|copy| fs::read(copy).unwrap()[0]).collect();
    kept.sort_unstable();
    assert_eq!(kept, [12, 13, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn any_flipped_bit_is_refused_or_harmless_never_a_silently_shorter_log() {
    let place = LogPlace::new();
    let ends = three_records(&place);
    let path = place.segments()[0].clone();
    let whole = fs::read(&path).unwrap();
    let marker_start = *ends.last().unwrap() as usize;
    assert_eq!(
        whole.len(),
        marker_start + record::HEADER_BYTES,
        "a clean stop leaves a marker"
    );

    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        let outcome = examined(&place);
        if bit / 8 >= marker_start {
            // Nothing valid follows the marker and it holds no event: cutting it off loses nothing.
            assert_eq!(outcome.unwrap().next_sequence, 5, "bit {bit}");
        } else {
            let refused = matches!(outcome, Err(WalError::Damage { .. } | WalError::NewerVersion { .. }));
            assert!(refused, "bit {bit}: {outcome:?}");
        }
    }
}

#[test]
fn damage_names_segment_offset_and_sequence_and_changes_nothing() {
    let place = LogPlace::new();
    let ends = three_records(&place);
    let path = place.segments()[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[ends[0] as usize + 40] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let before = snapshot(&place);

    match open(RealDisk, &place.settings()).unwrap_err() {
        WalError::Damage {
            segment,
            offset,
            sequence,
            ..
        } => {
            assert_eq!((segment, offset, sequence), (path, ends[0], 2));
        }
        other => panic!("{other}"),
    }
    assert_eq!(snapshot(&place), before);
}

/// Builds a segment whose records were all written in one group, so none proves that another was synced.
fn one_unsynced_group(place: &LogPlace) -> (PathBuf, Vec<usize>) {
    let header = SegmentHeader {
        version: segment::FORMAT_VERSION,
        life: crate::wal::id::LifeId::UNKNOWN,
        previous_life: crate::wal::id::LifeId::UNKNOWN,
        salt: 7,
        wal_id: crate::wal::id::WalId(uuid::Uuid::new_v4()),
        number: 1,
        first_sequence: 1,
        previous_end: 0,
    };
    let mut bytes = header.encode().to_vec();
    let mut starts = vec![];
    for sequence in 1..=3 {
        let mut record = vec![0; record::HEADER_BYTES];
        encode_user(sequence, &mut record);
        record::seal(&mut record, header.salt, sequence, 0, 1);
        starts.push(bytes.len());
        bytes.extend_from_slice(&record);
    }
    fs::create_dir_all(place.path()).unwrap();
    let path = segment::path_of(&place.path(), 1);
    fs::write(&path, bytes).unwrap();
    (path, starts)
}

#[test]
fn a_hole_inside_the_one_unsynced_group_is_a_torn_tail() {
    // A power cut may persist the pages of one write out of order: the third record arrived, the second did not.
    let place = LogPlace::new();
    let (path, starts) = one_unsynced_group(&place);
    let mut bytes = fs::read(&path).unwrap();
    bytes[starts[1]..starts[2]].fill(0);
    fs::write(&path, &bytes).unwrap();

    let findings = examined(&place).unwrap();
    assert_eq!(findings.next_sequence, 2);
    let tail = findings.torn_tail().unwrap();
    // Nobody can say what the second record was.
    assert_eq!((tail.first_sequence, tail.last_sequence), (2, None));
    assert_eq!(
        (tail.offset, tail.bytes),
        (starts[1] as u64, (bytes.len() - starts[1]) as u64)
    );
}

#[test]
fn a_missing_foreign_or_shortened_segment_is_damage() {
    let place = LogPlace::new();
    for user in 1..=3 {
        let running = start(&place.settings());
        running.append(&[user]).unwrap();
        running.stop().unwrap();
    }
    let segments = place.segments();
    assert_eq!(segments.len(), 3);
    let contents: Vec<_> = segments.iter().map(|path| fs::read(path).unwrap()).collect();
    let is_damage = || matches!(examined(&place), Err(WalError::Damage { .. }));
    assert!(!is_damage());

    fs::remove_file(&segments[1]).unwrap();
    assert!(is_damage(), "a missing segment in the middle");
    fs::write(&segments[1], &contents[0]).unwrap();
    assert!(is_damage(), "an older segment in its place");
    fs::write(&segments[1], &contents[1][..contents[1].len() - 1]).unwrap();
    assert!(is_damage(), "one byte short of its logical end");

    let other = LogPlace::new();
    start(&other.settings()).stop().unwrap();
    fs::write(&segments[1], &contents[1]).unwrap();
    fs::write(&segments[0], fs::read(&other.segments()[0]).unwrap()).unwrap();
    assert!(is_damage(), "another log's segment");
}

#[test]
fn a_newer_format_is_refused_untouched() {
    let place = LogPlace::new();
    three_records(&place);
    let path = place.segments()[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 3;
    fs::write(&path, bytes).unwrap();
    let before = snapshot(&place);
    let error = open(RealDisk, &place.settings()).unwrap_err();
    assert!(
        matches!(
            error,
            WalError::NewerVersion {
                version: 3,
                known: 2,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(snapshot(&place), before);
}

#[test]
fn starts_without_events_leave_one_segment_and_keep_the_identity() {
    let place = LogPlace::new();
    let first = start(&place.settings());
    let wal_id = first.log.wal_id();
    first.append(&[1]).unwrap();
    first.stop().unwrap();
    for _ in 0..3 {
        let running = start(&place.settings());
        assert_eq!(running.log.wal_id(), wal_id);
        assert_eq!(running.log.recovered_through(), 1);
        running.stop().unwrap();
        assert_eq!(
            place.segments().len(),
            2,
            "the segment with the event and one fresh one"
        );
    }
}

#[test]
fn a_second_process_is_kept_out_until_the_first_is_gone() {
    let place = LogPlace::new();
    let running = start(&place.settings());
    assert!(matches!(
        open(RealDisk, &place.settings()),
        Err(WalError::Locked { .. })
    ));
    let log = Arc::clone(&running.log);
    running.stop().unwrap();
    assert!(
        matches!(open(RealDisk, &place.settings()), Err(WalError::Locked { .. })),
        "held as long as anyone uses the log"
    );
    drop(log);
    assert!(open(RealDisk, &place.settings()).is_ok());
}

#[test]
fn a_second_process_is_kept_out_although_somebody_removed_the_lock() {
    let place = LogPlace::new();
    let running = start(&place.settings());
    fs::remove_file(place.path().join(directory::LOCK_NAME)).unwrap();
    assert!(directory::is_in_use(&RealDisk, &place.path()).unwrap());
    assert!(matches!(
        open(RealDisk, &place.settings()),
        Err(WalError::Locked { .. })
    ));
    running.append(&[1]).unwrap();
    running.stop().unwrap();
    assert!(!directory::is_in_use(&RealDisk, &place.path()).unwrap());
    assert!(open(RealDisk, &place.settings()).is_ok());
}

#[test]
fn directory_and_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = LogPlace::new();
    three_records(&place);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path()), 0o700);
    for (path, _) in snapshot(&place) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}
