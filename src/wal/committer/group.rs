//! What one sync covers: the records of a group, and the requests that wait for it. No I/O.

use crate::support::budget::Reservation;
use crate::wal::id::Sequence;
use crate::wal::record;
use crate::wal::submission::{Ack, Submission};

/// The records that one sync will cover.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The records, as they are written to the disk.
    pub(super) bytes: Vec<u8>,
    /// The requests that are answered after the sync.
    pub(super) waiters: Vec<Waiter>,
    /// Number of events in the records.
    pub(super) events: u64,
}

/// A request that waits for the sync.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ack: Ack,
    /// Sequence of the last event in the request's record.
    pub(super) through: Sequence,
    /// Given back once the waiter is answered.
    _in_flight: Reservation,
}

impl Group {
    /// Adds a submission: numbers its events and seals its record.
    pub(super) fn add(
        &mut self,
        submission: Submission,
        salt: u32,
        first_sequence: Sequence,
        durable_through: Sequence,
    ) {
        let Submission {
            mut record,
            event_count,
            ack,
            in_flight,
            space,
        } = submission;
        assert!(event_count > 0, "only the log itself writes markers");
        record::seal(&mut record, salt, first_sequence, durable_through, event_count);
        self.bytes.extend_from_slice(&record);
        self.events += u64::from(event_count);
        space.consume();
        self.waiters.push(Waiter {
            ack,
            through: first_sequence + u64::from(event_count) - 1,
            _in_flight: in_flight,
        });
    }
}
