//! Between a request and the log: what may come in, and the way onto the ring.
//!
//! Every refusal of work for lack of room is decided here, as a [`Refusal`], before a byte is appended. `http` only
//! translates it to a status.

pub mod clock;

use std::sync::Arc;

pub use clock::Clock;

use crate::support::budget::{Budget, Reservation};
use crate::support::sync::oneshot;
use crate::support::sync::ring::{self, Receiver, Sender, TrySendError};
use crate::wal::gate::{Gate, SpaceReservation};
use crate::wal::id::Sequence;
use crate::wal::record;
use crate::wal::refusal::Refusal;
use crate::wal::submission::{EncodedRecord, Submission};

/// Permission for one request: held from before its body is read until its record is submitted, growing with what has
/// arrived.
#[derive(Debug)]
pub struct Admission {
    /// Bytes of the body that have arrived or soon will.
    body_bytes: usize,
    in_flight: Reservation,
    space: SpaceReservation,
}

impl Admission {
    /// Grows the reservations to those of a body of `body_bytes`.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when memory or log has no room; the admission should then be dropped.
    pub fn grow_to(&mut self, body_bytes: usize) -> Result<(), Refusal> {
        self.space.grow_to(log_bytes(body_bytes))?;
        self.body_bytes = self.body_bytes.max(body_bytes);
        self.hold(in_flight_bytes(body_bytes))
    }

    /// Fits the reservations to a record of `record_bytes`, whatever was estimated from its body.
    fn fit_to(&mut self, record_bytes: usize) -> Result<(), Refusal> {
        self.space.fit_to(record_bytes as u64)?;
        self.hold(self.body_bytes + record_bytes)
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        match self.in_flight.try_grow_to(bytes) {
            true => Ok(()),
            false => Err(Refusal::BudgetFull),
        }
    }
}

/// Bytes that a body reserves in the log until its record is known and corrects them. Encoded events are about as long
/// as their JSON, and never longer if nothing is added to them.
pub(crate) fn log_bytes(body_bytes: usize) -> u64 {
    (record::HEADER_BYTES + body_bytes) as u64
}

/// Bytes that a body reserves in the byte budget: body and record. While the body is read, the record's share covers
/// the copy that a growing buffer needs for a moment.
pub(crate) fn in_flight_bytes(body_bytes: usize) -> usize {
    2 * body_bytes + record::HEADER_BYTES
}

/// Bytes of the budget that large bodies leave to small ones: an eighth, or less if the largest body would not fit into
/// the rest.
pub(crate) fn share_for_small(budget_bytes_max: usize, body_bytes_max: usize) -> usize {
    let spare = budget_bytes_max.saturating_sub(in_flight_bytes(body_bytes_max));
    spare.min(budget_bytes_max / 8)
}

/// The way into the log. Cheap to share: one for all connections.
#[derive(Debug)]
pub struct Intake {
    ring: Sender<Submission>,
    budget: Arc<Budget>,
    gate: Arc<Gate>,
}

impl Intake {
    /// Builds the intake and the receiving end of its ring, which belongs to the log thread.
    pub fn new(ring_slots: usize, budget: Arc<Budget>, gate: Arc<Gate>) -> (Self, Receiver<Submission>) {
        let (ring, submissions) = ring::bounded(ring_slots);
        (Self { ring, budget, gate }, submissions)
    }

    /// Whether events can be accepted at all right now, whatever their size.
    pub fn check_open(&self) -> Result<(), Refusal> {
        self.gate.check_open()
    }

    /// Admits a body of which `body_bytes` have arrived or soon will. To be called before the body is read.
    ///
    /// Reserves the body and its record in the byte budget, and the record in the log.
    pub fn admit(&self, body_bytes: usize) -> Result<Admission, Refusal> {
        let space = self.gate.reserve(log_bytes(body_bytes))?;
        let in_flight = self
            .budget
            .try_reserve(in_flight_bytes(body_bytes))
            .ok_or(Refusal::BudgetFull)?;
        Ok(Admission {
            body_bytes,
            in_flight,
            space,
        })
    }

    /// Whether a whole body of `body_bytes` would be admitted now. Reserves nothing, so it is a hint: a body without
    /// room is refused before the client sends it, and a body that is never sent keeps no other body out.
    pub fn check_room(&self, body_bytes: usize) -> Result<(), Refusal> {
        self.gate.check_space(log_bytes(body_bytes))?;
        if self.budget.can_grow_by(in_flight_bytes(body_bytes)) {
            Ok(())
        } else {
            Err(Refusal::BudgetFull)
        }
    }

    /// Puts a record on the ring and waits until it is durable. Returns the sequence of its last event.
    ///
    /// # Errors
    ///
    /// [`Refusal::Poisoned`]: the log had the record, and the outcome is unknown. Any other: nothing was stored.
    ///
    /// # Panics
    ///
    /// When the record holds no event.
    pub async fn submit(&self, mut admission: Admission, record: EncodedRecord) -> Result<Sequence, Refusal> {
        assert!(record.event_count() > 0, "a record holds at least one event");
        let event_count = record.event_count();
        let record = record.into_bytes();
        admission.fit_to(record.len()).map_err(|refusal| match refusal {
            // The log never got this record.
            Refusal::Poisoned => Refusal::LogEnded,
            refusal => refusal,
        })?;
        let Admission { in_flight, space, .. } = admission;
        let (ack, acked) = oneshot::channel();
        let submission = Submission {
            record,
            event_count,
            ack,
            in_flight,
            space,
        };
        self.ring.try_send(submission).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::RingFull,
            // The log thread ends only by poison or at the end of a drain, after every connection has gone.
            TrySendError::Disconnected(_) => Refusal::LogEnded,
        })?;
        // A dropped sender means that the log thread went away without an answer.
        acked.await.unwrap_or(Err(Refusal::Poisoned))
    }

    /// Number of submissions waiting for the log thread.
    pub fn queue_depth(&self) -> usize {
        self.ring.len()
    }

    /// Number of submissions that may wait at most.
    pub fn queue_capacity(&self) -> usize {
        self.ring.capacity().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_record_that_the_log_had_is_of_unknown_outcome() {
        let (intake, submissions) = Intake::new(1, Budget::new(1 << 20), Gate::new(1 << 20, 0));
        let submit = || async {
            let mut record = EncodedRecord::with_capacity_for(10);
            record.set_event_count(1);
            intake.submit(intake.admit(10).unwrap(), record).await
        };
        let (outcome, ()) = tokio::join!(submit(), async { drop(submissions.recv().unwrap()) });
        assert_eq!(outcome, Err(Refusal::Poisoned));
        drop(submissions);
        assert_eq!(submit().await, Err(Refusal::LogEnded));
    }

    #[tokio::test]
    async fn a_record_may_be_longer_than_its_body_where_there_is_room() {
        let header = record::HEADER_BYTES as u64;
        let (intake, submissions) = Intake::new(1, Budget::new(1 << 20), Gate::new(header + 100, 0));
        let submit = |bytes: usize| {
            let mut record = EncodedRecord::with_capacity_for(10);
            record.buffer().extend(vec![0; bytes]);
            record.set_event_count(1);
            intake.submit(intake.admit(10).unwrap(), record)
        };
        assert_eq!(submit(101).await, Err(Refusal::LogFull));
        let (_, space) = tokio::join!(submit(100), async {
            let submission = submissions.recv().unwrap();
            let used = intake.gate.bytes_used();
            drop(submission);
            used
        });
        assert_eq!(space, header + 100);
        assert_eq!(intake.gate.bytes_used(), 0, "all is given back");
    }
}
