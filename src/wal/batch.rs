//! The rows of one store transaction.
//!
//! A batch is a run of consecutive sequences: the events `after + 1 ..= after + len`. So the store can move its
//! checkpoint from `after` to the end with one compare-and-set, and can halve a failing batch down to the one bad
//! event.

use crate::event::{EventRef, Timestamp, codec};
use crate::wal::id::{Mark, Sequence, WalId};

/// Consecutive encoded events, owned. Cleared and filled again for each transaction, so that its buffers are allocated
/// once.
#[derive(Debug)]
pub struct Batch {
    wal_id: WalId,
    after: Sequence,
    bytes: Vec<u8>,
    /// Where each event ends in `bytes`.
    ends: Vec<usize>,
}

impl Batch {
    /// An empty batch that begins after the sequence `after`.
    pub fn new(wal_id: WalId, after: Sequence) -> Self {
        Self {
            wal_id,
            after,
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Empties the batch and makes it begin after the sequence `after`.
    pub fn reset(&mut self, after: Sequence) {
        self.after = after;
        self.bytes.clear();
        self.ends.clear();
    }

    /// Appends one encoded event (see [`codec`]), which must be the next in sequence.
    pub fn push(&mut self, encoded_event: &[u8]) {
        self.bytes.extend_from_slice(encoded_event);
        self.ends.push(self.bytes.len());
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no event in it.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Size of the encoded events, in bytes.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The whole batch, to be flushed or split.
    pub fn view(&self) -> BatchView<'_> {
        BatchView {
            wal_id: self.wal_id,
            after: self.after,
            bytes: &self.bytes,
            start: 0,
            ends: &self.ends,
            from: Mark::default(),
            to: Mark::default(),
        }
    }
}

/// A run of consecutive events inside a [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    wal_id: WalId,
    after: Sequence,
    bytes: &'a [u8],
    /// Where the first event starts in `bytes`.
    start: usize,
    ends: &'a [usize],
    from: Mark,
    to: Mark,
}

impl<'a> BatchView<'a> {
    /// The same events, to be applied to a checkpoint with the mark `from`, and to leave it with the mark `to`.
    pub fn with_marks(self, from: Mark, to: Mark) -> Self {
        Self { from, to, ..self }
    }

    /// The mark that the checkpoint must have for the batch to apply.
    pub fn from(&self) -> Mark {
        self.from
    }

    /// The mark that the checkpoint has once the batch is applied.
    pub fn to(&self) -> Mark {
        self.to
    }

    /// The log that the events came from.
    pub fn wal_id(&self) -> WalId {
        self.wal_id
    }

    /// The sequence just before the first event: the checkpoint must stand here for the batch to apply.
    pub fn after(&self) -> Sequence {
        self.after
    }

    /// The sequence of the last event: the checkpoint stands here once the batch is applied.
    pub fn through(&self) -> Sequence {
        self.after + self.ends.len() as Sequence
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no event in it.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The encoded events, one slice each.
    pub fn encoded(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        let mut start = self.start;
        self.ends.iter().map(move |&end| {
            let event = &bytes[start..end];
            start = end;
            event
        })
    }

    /// The timestamp of each event, and whether the event has an `event_id`. Cheaper than decoding all of it.
    ///
    /// # Panics
    ///
    /// As [`BatchView::events`].
    pub fn heads(&self) -> impl Iterator<Item = (Timestamp, bool)> + use<'a> {
        self.encoded()
            .map(|bytes| codec::decode_head(bytes).expect("an event that passed its record's checksum decodes"))
    }

    /// The events, in sequence.
    ///
    /// # Panics
    ///
    /// When an event does not decode. Its bytes passed the record's checksum, so that would be a defect of the encoder.
    pub fn events(&self) -> impl Iterator<Item = EventRef<'a>> + use<'a> {
        self.encoded().map(|bytes| {
            let (event, rest) = codec::decode(bytes).expect("an event that passed its record's checksum decodes");
            assert!(rest.is_empty(), "an encoded event is exactly as long as it says");
            event
        })
    }

    /// The first `mid` events and the rest.
    pub fn split_at(&self, mid: usize) -> (Self, Self) {
        let (left, right) = self.ends.split_at(mid);
        let right_start = left.last().copied().unwrap_or(self.start);
        (
            Self { ends: left, ..*self },
            Self {
                after: self.after + mid as Sequence,
                start: right_start,
                ends: right,
                ..*self
            },
        )
    }
}
