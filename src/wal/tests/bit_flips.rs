//! Damage to bytes that were synced: the log refuses, or reads exactly what was sent, never silently less.

use super::ledger::{DIR, Ledger, Plan, read_all, stay};
use super::*;
use crate::testing::disk::simulated::SimulatedDisk;
use crate::wal::record;

/// A small log of several segments, stopped cleanly, so that a marker ends it; returns its users and segments too.
fn small_log() -> (SimulatedDisk, Vec<u64>, Vec<PathBuf>) {
    let disk = SimulatedDisk::new();
    let mut ledger = Ledger::default();
    let plan = Plan {
        segment_bytes: 300,
        unflushed: usize::MAX,
        ..Plan::of(&[&[1], &[1, 2], &[1], &[1], &[1], &[1]])
    };
    stay(&disk, &mut ledger, &plan).unwrap();
    let segments: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| segment::sequence_of(path).is_some())
        .collect();
    assert!(segments.len() >= 3, "{segments:?}");
    (disk, ledger.sent, segments)
}

/// Whether the log with these bytes in a segment refuses; panics when it reads anything but `users`.
fn refuses(disk: &SimulatedDisk, path: &Path, bytes: &[u8], users: &[u64], what: &str) -> bool {
    let disk = disk.copy();
    disk.overwrite(path, bytes);
    match read_all(&disk) {
        Ok(read) => {
            assert_eq!(read, users, "{what} of {}", path.display());
            false
        }
        Err(WalError::Damage { .. } | WalError::NewerVersion { .. }) => true,
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn no_flipped_bit_makes_the_log_silently_shorter() {
    let (disk, users, segments) = small_log();
    for path in &segments {
        let mut bytes = disk.contents(path);
        let is_last = Some(path) == segments.last();
        let marker = bytes.len() - record::HEADER_BYTES;
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let refused = refuses(&disk, path, &bytes, &users, &format!("bit {bit}"));
            bytes[bit / 8] ^= 1 << (bit % 8);
            // The marker holds no event: a damaged marker is cut off like any torn tail.
            assert_eq!(refused, !is_last || bit / 8 < marker, "bit {bit}");
        }
    }
}

#[test]
fn a_segment_cut_at_any_length_is_refused_unless_only_the_marker_is_gone() {
    let (disk, users, segments) = small_log();
    let (last, sealed) = segments.split_last().unwrap();
    for path in sealed {
        let bytes = disk.contents(path);
        for length in 0..bytes.len() {
            let what = format!("the first {length} bytes");
            assert!(refuses(&disk, path, &bytes[..length], &users, &what), "{what}");
        }
    }
    let bytes = disk.contents(last);
    let marker = bytes.len() - record::HEADER_BYTES;
    for length in 0..=bytes.len() {
        let what = format!("the first {length} bytes");
        let refused = refuses(&disk, last, &bytes[..length], &users, &what);
        assert_eq!(refused, length < marker, "{what}");
    }
}

#[test]
fn without_its_end_the_last_segment_cut_at_any_length_keeps_every_whole_record() {
    let (disk, users, segments) = small_log();
    disk.lose(&Path::new(DIR).join(crate::wal::end::NAME));
    let last = segments.last().unwrap();
    let bytes = disk.contents(last);
    let mut kept_before = 0;
    for length in 0..=bytes.len() {
        let disk = disk.copy();
        disk.overwrite(last, &bytes[..length]);
        match read_all(&disk) {
            Ok(read) => {
                assert!(users.starts_with(&read) && read.len() >= kept_before);
                assert!(length >= segment::HEADER_BYTES);
                kept_before = read.len();
            }
            Err(error) => assert!(length < segment::HEADER_BYTES, "{length}: {error}"),
        }
    }
    assert_eq!(kept_before, users.len(), "the whole file holds everything");
}

#[test]
fn a_segment_in_the_place_of_another_or_none_is_refused() {
    let (disk, users, segments) = small_log();
    for (index, path) in segments.iter().enumerate() {
        for other in &segments {
            if other != path {
                let bytes = disk.contents(other);
                assert!(refuses(&disk, path, &bytes, &users, "another segment in place"));
            }
        }
        // The oldest segment may be missing, because all of it is in the database.
        if index > 0 {
            let disk = disk.copy();
            disk.lose(path);
            assert!(matches!(read_all(&disk), Err(WalError::Damage { .. })));
        }
    }
    // Another log's segment of the same name and shape.
    let (foreign, _, _) = small_log();
    for path in &segments {
        let bytes = foreign.contents(path);
        assert!(refuses(&disk, path, &bytes, &users, "another log's segment"));
    }
}
