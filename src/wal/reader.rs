//! Follows the log from a checkpoint on, for the flush. A live log and a recovered one make no difference: the reader
//! only ever reads files.
//!
//! The reader never reads past the durable mark, so a crash can no longer take back the events that it hands on.

use std::sync::Arc;

use super::disk::Disk;
use super::error::WalError;
use super::log::{DurableMark, Log};
use super::segment::{self, RecordScanner, ScanError, SegmentHeader};
use crate::event::codec;
use crate::wal::batch::Batch;
use crate::wal::id::{LifeId, Sequence};

/// A place in the log, and the file that is open there.
#[derive(Debug)]
pub struct LogReader<D: Disk> {
    log: Arc<Log<D>>,
    /// Events up to here have been handed on, or were in the database already.
    after: Sequence,
    /// The life of the last event that was handed on: a batch has events of one only.
    life: LifeId,
    /// The segment being read; opened when there is something to read.
    segment: Option<OpenSegment<D::File>>,
}

#[derive(Debug)]
struct OpenSegment<F> {
    header: SegmentHeader,
    scanner: RecordScanner<F>,
    /// Known once the segment was found sealed, and then for good.
    sealed: Option<Sealed>,
}

/// Where a sealed segment ends.
#[derive(Debug, Clone, Copy)]
struct Sealed {
    end: u64,
    /// First sequence of the segment after it.
    successor: Sequence,
}

impl<D: Disk> LogReader<D> {
    /// A reader whose next event is `after + 1`.
    pub fn new(log: Arc<Log<D>>, after: Sequence) -> Self {
        Self {
            log,
            after,
            life: LifeId::UNKNOWN,
            segment: None,
        }
    }

    /// Appends durable events to the batch until it has `rows_max` events or `bytes_max` bytes, until the next one is
    /// of another life, or until there are no more.
    ///
    /// Takes whole records, so a batch may exceed a limit by the last record when it was empty before. Returns whether
    /// the batch is full: `false` means that the log, as far as it was durable at the call, has no more.
    ///
    /// # Errors
    ///
    /// [`WalError::Damage`] names segment, offset and sequence.
    pub fn fill(&mut self, batch: &mut Batch, rows_max: usize, bytes_max: usize) -> Result<bool, WalError> {
        let durable = self.log.durable();
        while self.after < durable.through {
            let is_full = batch.len() >= rows_max || batch.bytes_len() >= bytes_max;
            if is_full || !self.take_record(durable, batch, rows_max, bytes_max)? {
                return Ok(true);
            }
        }
        Ok(batch.len() >= rows_max || batch.bytes_len() >= bytes_max)
    }

    /// Moves on by one record and appends its events (those after `after`) to the batch; `false` if the batch has no
    /// room.
    fn take_record(
        &mut self,
        durable: DurableMark,
        batch: &mut Batch,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<bool, WalError> {
        let next = self.after + 1;
        let open = match self.segment.take() {
            Some(open) => self.segment.insert(open),
            None => {
                let open = self.open_segment(next)?;
                self.segment.insert(open)
            }
        };
        let path = || self.log.directory().path_of(open.header.first_sequence);
        let is_active = durable.active_first == open.header.first_sequence;
        if !is_active && open.sealed.is_none() {
            open.sealed = find_sealed(&self.log, &open.header);
            if open.sealed.is_none() {
                // Retired since the last call: all its events had been handed on, so the next one is in a later
                // segment.
                self.segment = None;
                return Ok(true);
            }
        }
        let end = open.sealed.map_or(durable.active_end, |sealed| sealed.end);
        open.scanner.extend_to(end);
        let (offset, sequence) = (open.scanner.offset(), open.scanner.next_sequence());
        let record = match open.scanner.peek() {
            Ok(Some(record)) => record,
            Ok(None) => {
                if sequence != next || !goes_on_with(&self.log, &open.header, next) {
                    let detail = format!("the segment ends before sequence {next}");
                    return Err(WalError::damage(&path(), offset, sequence, detail));
                }
                self.segment = None;
                return Ok(true);
            }
            Err(ScanError::Io(error)) => return Err(WalError::io("read", &path(), error)),
            Err(ScanError::Invalid(reason)) => {
                return Err(WalError::damage(&path(), offset, sequence, reason));
            }
        };
        let header = record.header;
        let has_room = batch.len() + header.event_count as usize <= rows_max
            && batch.bytes_len() + record.payload.len() <= bytes_max
            && self.life == open.header.life;
        if header.last_sequence() >= next {
            if !batch.is_empty() && !has_room {
                return Ok(false);
            }
            let is_beyond = |sealed: Sealed| header.last_sequence() >= sealed.successor;
            if open.sealed.is_some_and(is_beyond) {
                let detail = "the record reaches into the sequences of the next segment";
                return Err(WalError::damage(&path(), offset, sequence, detail));
            }
            let known = next.saturating_sub(header.first_sequence) as usize;
            let pushed = push_events(batch, record.payload, header.event_count as usize, known);
            if !pushed {
                let detail = "the record's events are not what its header says";
                return Err(WalError::damage(&path(), offset, sequence, detail));
            }
            self.after = header.last_sequence();
            self.life = open.header.life;
        }
        open.scanner.advance(&header);
        Ok(true)
    }

    fn open_segment(&self, sequence: Sequence) -> Result<OpenSegment<D::File>, WalError> {
        let directory = self.log.directory();
        let found = directory.segment_of(sequence);
        let path = directory.path_of(found.map_or(sequence, |segment| segment.first_sequence));
        if found.is_none() {
            return Err(WalError::damage(&path, 0, sequence, "the log begins later"));
        }
        let (file, header) = segment::open(directory.disk(), &path)?;
        let scanner = RecordScanner::new(file, &header, header.bytes_len() as u64);
        Ok(OpenSegment {
            header,
            scanner,
            sealed: None,
        })
    }
}

/// Where a segment that is no longer active ends; `None` if it is retired.
fn find_sealed<D: Disk>(log: &Log<D>, header: &SegmentHeader) -> Option<Sealed> {
    let (segment, successor) = log.directory().with_successor(header.first_sequence)?;
    Some(Sealed {
        end: segment.sealed_end?,
        successor: successor.first_sequence,
    })
}

/// Whether the segment after this one begins with `next`.
fn goes_on_with<D: Disk>(log: &Log<D>, header: &SegmentHeader, next: Sequence) -> bool {
    let successor = log.directory().segment_of(next);
    header.first_sequence < next && successor.is_some_and(|segment| segment.first_sequence == next)
}

/// Splits a record's payload into its events and appends those after the first `known`; `false` if the payload is not
/// exactly `event_count` events.
fn push_events(batch: &mut Batch, payload: &[u8], event_count: usize, known: usize) -> bool {
    let mut rest = payload;
    for index in 0..event_count {
        let Ok(length) = codec::encoded_len(rest) else {
            return false;
        };
        let Some((event, tail)) = rest.split_at_checked(length) else {
            return false;
        };
        if index >= known {
            batch.push(event);
        }
        rest = tail;
    }
    rest.is_empty()
}
