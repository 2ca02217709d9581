//! The file END: a log with less than it says is refused by name, a torn slot leaves the other, and every stay of a
//! server writes it.

use super::ledger::{DIR, Ledger, Plan, stay};
use super::*;
use crate::testing::disk::simulated::SimulatedDisk;
use crate::wal::end::{self, End, FILE_BYTES, NAME, SLOT_BYTES};
use crate::wal::id::WalId;
use crate::wal::inspect::{Verdict, inspect};
use crate::wal::recovery::examine;

fn end_path(place: &LogPlace) -> PathBuf {
    place.path().join(NAME)
}

fn read(place: &LogPlace) -> End {
    end::read(&RealDisk, &place.path()).unwrap().unwrap()
}

/// A log after two stays of a server, each with two events and a clean stop.
fn two_stays() -> LogPlace {
    let place = LogPlace::new();
    for users in [[1, 2], [3, 4]] {
        let running = start(&place.settings());
        running.append(&users[..1]).unwrap();
        running.append(&users[1..]).unwrap();
        running.stop().unwrap();
    }
    assert_eq!(place.segments().len(), 2);
    place
}

fn contents(place: &LogPlace) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(place.path()).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// A start and an inspection both refuse with these words, and nothing is changed.
#[track_caller]
fn assert_damage(place: &LogPlace, words: &[&str]) {
    let before = contents(place);
    let refused = open(RealDisk, &place.settings()).unwrap_err();
    assert!(matches!(refused, WalError::Damage { .. }), "{refused}");
    for word in words {
        assert!(refused.to_string().contains(word), "{word}: {refused}");
    }
    match inspect(&RealDisk, &place.path()).unwrap().verdict {
        Verdict::Refused(error) => assert_eq!(error.to_string(), refused.to_string()),
        other => panic!("{other:?}"),
    }
    assert_eq!(contents(place), before);
}

#[test]
fn a_log_without_its_newest_segment_is_refused_by_number_and_name() {
    let place = two_stays();
    fs::remove_file(&place.segments()[1]).unwrap();
    assert_damage(&place, &["segment number 2, 00000000000000000003.wal, is missing"]);
}

#[test]
fn a_log_without_any_segment_is_refused_with_what_it_held() {
    let place = two_stays();
    for segment in place.segments() {
        fs::remove_file(segment).unwrap();
    }
    assert_damage(&place, &["all segments are missing", "held events through 4"]);
}

#[test]
fn a_log_cut_between_records_after_a_clean_stop_is_refused_with_both_sequences() {
    let place = LogPlace::new();
    let running = start(&place.settings());
    running.append(&[1]).unwrap();
    let cut = running.log.durable().active_end as usize;
    running.append(&[2]).unwrap();
    let end = running.log.durable().active_end as usize;
    running.stop().unwrap();
    let path = &place.segments()[0];
    let whole = fs::read(path).unwrap();
    for (length, last) in [(segment::HEADER_BYTES, 0), (cut, 1), (end - 1, 1)] {
        fs::write(path, &whole[..length]).unwrap();
        let words = format!("the log ends at {last}, but held events through 2");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_damage(&place, &[&words, name]);
    }
    // The marker holds no event, so it may be missing.
    fs::write(path, &whole[..end]).unwrap();
    start(&place.settings()).stop().unwrap();
}

#[test]
fn a_crash_between_a_start_and_the_stop_takes_nothing_from_what_the_start_had_found() {
    let place = two_stays();
    let running = start(&place.settings());
    running.append(&[5]).unwrap();
    let of_the_start = fs::read(end_path(&place)).unwrap();
    running.stop().unwrap();
    // As a kill would leave END, if the last group was never synced.
    fs::write(end_path(&place), of_the_start).unwrap();
    let active = &place.segments()[2];
    let whole = fs::read(active).unwrap();
    fs::write(active, &whole[..segment::HEADER_BYTES + 10]).unwrap();
    assert_eq!(
        examine(&RealDisk, &place.path()).unwrap().next_sequence,
        5,
        "END did not know of the stop"
    );
    fs::remove_file(active).unwrap();
    assert_damage(&place, &["segment number 3, 00000000000000000005.wal"]);
}

#[test]
fn the_end_of_another_log_is_refused() {
    let (place, other) = (two_stays(), two_stays());
    fs::copy(end_path(&other), end_path(&place)).unwrap();
    assert_damage(&place, &["END", "it belongs to another log"]);
}

#[test]
fn every_start_rotation_and_stop_says_how_far_the_log_is() {
    let place = LogPlace::new();
    let mut settings = place.settings();
    settings.segment_bytes = 100;
    let running = start(&settings);
    let wal_id = running.log.wal_id();
    let is_at = |number, first_sequence, durable_through| {
        let expected = End {
            wal_id,
            number,
            first_sequence,
            durable_through,
        };
        assert_eq!(read(&place), expected);
    };
    is_at(1, 1, 0);
    for (user, number) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        running.append(&[user]).unwrap();
        is_at(number, user, user - 1);
    }
    running.stop().unwrap();
    is_at(4, 4, 4);
    // The segment of a start without events is replaced by that of the next start.
    for _ in 0..3 {
        let running = start(&settings);
        is_at(5, 5, 4);
        running.stop().unwrap();
        is_at(5, 5, 4);
    }
}

#[test]
fn a_slot_torn_anywhere_leaves_the_other() {
    let place = two_stays();
    let whole = fs::read(end_path(&place)).unwrap();
    assert_eq!(whole.len(), FILE_BYTES);
    let (started, stopped) = (
        End {
            durable_through: 2,
            ..read(&place)
        },
        read(&place),
    );
    for slot in 0..2 {
        let left = if slot == 0 { stopped } else { started };
        for byte in (0..68).filter(|byte| !(12..16).contains(byte)) {
            let mut torn = whole.clone();
            torn[slot * SLOT_BYTES + byte] ^= 0x11;
            fs::write(end_path(&place), &torn).unwrap();
            assert_eq!(read(&place), left, "slot {slot}, byte {byte}");
        }
    }
    fs::write(end_path(&place), &whole[..SLOT_BYTES]).unwrap();
    assert_eq!(read(&place), started);
    start(&place.settings()).stop().unwrap();
}

#[test]
fn a_file_without_a_valid_slot_is_damage_and_none_at_all_is_accepted() {
    let place = two_stays();
    let whole = fs::read(end_path(&place)).unwrap();
    let mut torn = whole.clone();
    torn[20] ^= 1;
    torn[SLOT_BYTES + 60] ^= 1;
    for garbage in [
        torn,
        vec![0; FILE_BYTES],
        vec![0xff; 3 * FILE_BYTES],
        whole[..SLOT_BYTES - 1].to_vec(),
        Vec::new(),
    ] {
        fs::write(end_path(&place), garbage).unwrap();
        assert_damage(&place, &["END", "neither slot is valid"]);
    }
    fs::remove_file(end_path(&place)).unwrap();
    let running = start(&place.settings());
    assert_eq!(running.log.recovered_through(), 4);
    running.stop().unwrap();
    assert_eq!(read(&place).durable_through, 4, "made again");
}

#[test]
fn a_newer_version_is_refused_untouched() {
    let place = two_stays();
    let mut newer = fs::read(end_path(&place)).unwrap();
    for slot in 0..2 {
        newer[slot * SLOT_BYTES + 8] = 2;
    }
    fs::write(end_path(&place), &newer).unwrap();
    let before = contents(&place);
    let refused = open(RealDisk, &place.settings()).unwrap_err();
    assert!(
        matches!(refused, WalError::NewerVersion { version: 2, .. }),
        "{refused}"
    );
    assert_eq!(contents(&place), before);
}

#[test]
fn fields_that_no_log_can_have_make_a_slot_invalid() {
    let place = two_stays();
    let possible = End {
        wal_id: WalId(uuid::Uuid::from_u128(7)),
        number: 3,
        first_sequence: 10,
        durable_through: 9,
    };
    let written = |end: End| {
        fs::write(end_path(&place), end.encode(6)).unwrap();
        end::read(&RealDisk, &place.path())
    };
    assert_eq!(written(possible).unwrap(), Some(possible));
    for impossible in [
        End { number: 0, ..possible },
        End {
            first_sequence: 0,
            ..possible
        },
        End {
            durable_through: 8,
            ..possible
        },
        End {
            durable_through: Sequence::MAX,
            ..possible
        },
    ] {
        let refused = written(impossible);
        assert!(
            matches!(refused, Err(WalError::Damage { .. })),
            "{impossible:?}: {refused:?}"
        );
    }
}

#[test]
fn what_a_stay_with_rotations_and_retires_leaves_is_at_least_what_it_says() {
    for is_interval in [false, true] {
        let disk = SimulatedDisk::new();
        let mut ledger = Ledger {
            is_interval,
            ..Ledger::default()
        };
        for _ in 0..3 {
            let plan = Plan {
                segment_bytes: 300,
                ..Plan::of(&[&[1], &[2, 1], &[1], &[4]])
            };
            stay(&disk, &mut ledger, &plan).unwrap();
            let end = end::read(&disk, Path::new(DIR)).unwrap().unwrap();
            assert_eq!(end.durable_through as usize, ledger.sent.len());
            let newest = segment::path_of(Path::new(DIR), end.first_sequence);
            assert!(disk.files().contains(&newest));
            let without = disk.copy();
            without.lose(&newest);
            let outcome = stay(&without, &mut ledger.clone(), &plan);
            assert!(matches!(outcome, Err(WalError::Damage { .. })), "{outcome:?}");
        }
    }
}
