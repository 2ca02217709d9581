//! The bytes after the last valid record of a log, and what can still be read of them.

use std::fmt;
use std::path::PathBuf;

use super::record;
use crate::support::words::plural;
use crate::wal::id::Sequence;

/// Bytes after the last valid record which, as far as anybody can tell, hold no acknowledged event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The segment.
    pub segment: PathBuf,
    /// Where the tail begins.
    pub offset: u64,
    /// Length of the tail. A torn one includes the zeros that are left of the room after it.
    pub bytes: u64,
    /// Blank or torn.
    pub kind: TailKind,
    /// The sequence that the next event gets: the first of those that were in a torn tail.
    pub first_sequence: Sequence,
    /// The last sequence in a torn tail, as far as its record headers can still be read.
    pub last_sequence: Option<Sequence>,
    /// Where a torn tail was copied to before it was cut.
    pub copy: Option<PathBuf>,
}

/// What a tail consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailKind {
    /// Zeros that were written ahead of records that never came.
    Blank,
    /// Part of a group that was never synced. Or damage to the newest group, if no later record proves it.
    Torn,
}

impl fmt::Display for Tail {
    /// Size, place and sequences.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (offset, segment) = (self.offset, self.segment.display());
        let bytes = plural(self.bytes, "byte");
        write!(f, "a torn tail of {bytes} at byte {offset} of {segment}")?;
        let first = self.first_sequence;
        match self.last_sequence {
            Some(last) if last == first => write!(f, ", in which sequence {first} was"),
            Some(last) => write!(f, ", in which sequences {first} to {last} were"),
            None => write!(
                f,
                ", of which no record can be read; its first sequence would be {first}"
            ),
        }
    }
}

/// The last sequence in the records of a torn tail that begins with `first`. Reads their headers alone: a checksum may
/// not match any more.
pub(super) fn last_sequence_in(tail: &[u8], first: Sequence) -> Option<Sequence> {
    let (mut rest, mut next) = (tail, first);
    while let Some(header) = rest.first_chunk().and_then(record::decode_header) {
        if header.first_sequence != next {
            break;
        }
        next = header.last_sequence() + 1;
        rest = rest.get(header.record_bytes()..).unwrap_or_default();
    }
    (next > first).then(|| next - 1)
}
