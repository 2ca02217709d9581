//! What one request puts on the ring in front of the log, and how it is answered.

use super::gate::SpaceReservation;
use super::id::Sequence;
use super::record;
use crate::support::budget::Reservation;
use crate::support::sync::oneshot;
use crate::wal::refusal::Refusal;

/// Tells the waiting request how its submission ended: with the sequence of its last event.
pub type Ack = oneshot::Sender<Result<Sequence, Refusal>>;

/// What one request puts on the ring.
#[derive(Debug)]
pub struct Submission {
    /// Bytes for the record header, then the encoded events: the log thread fills in the header in place.
    pub record: Vec<u8>,
    /// Number of events in the record, at least 1.
    pub event_count: u32,
    /// Answered after the sync.
    pub ack: Ack,
    /// Bytes in flight, given back when the submission is dropped.
    pub in_flight: Reservation,
    /// Space in the log, turned into used space by the append, given back if that never happens.
    pub space: SpaceReservation,
}

/// An encoded request body: bytes for the header, then the events as `event::parse` appends them.
#[derive(Debug)]
pub struct EncodedRecord {
    bytes: Vec<u8>,
    event_count: u32,
}

impl EncodedRecord {
    /// Allocates for the events of a body of `body_bytes`. An encoded event is about as long as its JSON, and with
    /// nothing added never longer.
    pub fn with_capacity_for(body_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(record::HEADER_BYTES + body_bytes);
        bytes.resize(record::HEADER_BYTES, 0);
        Self { bytes, event_count: 0 }
    }

    /// The buffer that events are appended to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Sets how many events were appended.
    pub fn set_event_count(&mut self, event_count: u32) {
        self.event_count = event_count;
    }

    /// Number of events in the record.
    pub fn event_count(&self) -> u32 {
        self.event_count
    }

    /// The bytes for [`Submission::record`].
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
