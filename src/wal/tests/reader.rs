//! Following the log, live and from a checkpoint, and how the reader reports damage.

use super::*;
use crate::wal::reader::LogReader;

#[test]
fn a_checkpoint_inside_a_record_is_no_obstacle() {
    let place = LogPlace::new();
    let running = start(&place.settings());
    running.append(&[1, 2, 3]).unwrap();
    running.append(&[4, 5]).unwrap();
    for after in 0..=5 {
        let expected: Vec<_> = (after + 1..=5).collect();
        assert_eq!(running.read_after(after).unwrap(), expected, "after {after}");
    }
    running.stop().unwrap();
}

#[test]
fn a_live_reader_sees_each_event_once_across_rotation_and_markers() {
    let place = LogPlace::new();
    let settings = WalSettings {
        segment_bytes: 400,
        ..place.settings()
    };
    let running = start(&settings);
    let mut reader = LogReader::new(Arc::clone(&running.log), 0);
    let mut batch = Batch::new(running.log.wal_id(), 0);
    let mut seen = vec![];
    for user in 0..30 {
        running.append(&[2 * user, 2 * user + 1]).unwrap();
        batch.reset(seen.len() as u64);
        reader.fill(&mut batch, 100, 1 << 20).unwrap();
        assert_eq!(batch.view().through(), 2 * user + 2);
        seen.extend(batch.view().events().map(|event| event.user_id.parse::<u64>().unwrap()));
    }
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
    running.stop().unwrap();
}

#[test]
fn a_segment_may_be_retired_while_the_reader_stands_at_its_end() {
    let place = LogPlace::new();
    let settings = WalSettings {
        segment_bytes: 400,
        ..place.settings()
    };
    let running = start(&settings);
    let mut reader = LogReader::new(Arc::clone(&running.log), 0);
    let mut batch = Batch::new(running.log.wal_id(), 0);
    for user in 0..30 {
        // Begins a new segment now and then, so that the one just read can be retired.
        running.append(&[user]).unwrap();
        running.log.retire_through(user).unwrap();
        batch.reset(user);
        reader.fill(&mut batch, 100, 1 << 20).unwrap();
        assert_eq!(batch.view().through(), user + 1);
    }
    assert!(running.log.directory().oldest_sequence() > 1, "none was retired");
    running.stop().unwrap();
}

#[test]
fn a_batch_keeps_its_limits_but_always_takes_one_record() {
    let place = LogPlace::new();
    let running = start(&place.settings());
    running.append(&[1, 2, 3]).unwrap();
    running.append(&[4]).unwrap();
    let mut reader = LogReader::new(Arc::clone(&running.log), 0);
    let mut batch = Batch::new(running.log.wal_id(), 0);
    reader.fill(&mut batch, 2, 1 << 20).unwrap();
    assert_eq!(batch.len(), 3, "a record larger than the limit is taken alone");
    batch.reset(3);
    reader.fill(&mut batch, 2, 1).unwrap();
    assert_eq!(batch.len(), 1);
    running.stop().unwrap();
}

#[test]
fn damage_in_a_sealed_segment_is_found_and_named_by_the_reader() {
    let place = LogPlace::new();
    for users in [[1, 2], [3, 4]] {
        let running = start(&place.settings());
        for user in users {
            running.append(&[user]).unwrap();
        }
        running.stop().unwrap();
    }
    let first = place.segments()[0].clone();
    let mut bytes = fs::read(&first).unwrap();
    bytes[segment::HEADER_BYTES + 40] ^= 1;
    fs::write(&first, bytes).unwrap();

    let running = start(&place.settings());
    match running.read_after(0).unwrap_err() {
        WalError::Damage {
            segment: path,
            offset,
            sequence,
            ..
        } => {
            assert_eq!((path, offset, sequence), (first, segment::HEADER_BYTES as u64, 1));
        }
        other => panic!("{other}"),
    }
    assert_eq!(
        running.read_after(2).unwrap(),
        [3, 4],
        "what follows it can still be read"
    );
    running.stop().unwrap();
}
