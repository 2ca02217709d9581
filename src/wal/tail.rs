//! What is behind the last valid record of a log, and what can still be read of it.

use std::fmt;
use std::path::PathBuf;

use super::record;
use crate::support::words::plural;
use crate::wal::id::Sequence;

/// Bytes behind the last valid record that, as far as can be told, no acknowledged event is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The segment.
    pub segment: PathBuf,
    /// Where the tail begins.
    pub offset: u64,
    /// How long it is. A torn one includes what is left of the room behind it.
    pub bytes: u64,
    /// What it is.
    pub kind: TailKind,
    /// The sequence that the log goes on with: the first one of those that were in a torn tail.
    pub first_sequence: Sequence,
    /// The last one of those in a torn tail, as far as what is left of its records says.
    pub last_sequence: Option<Sequence>,
    /// Where a torn one was copied to before it was cut.
    pub copy: Option<PathBuf>,
}

/// What a tail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailKind {
    /// Zeros: room that was made ahead of records that never came.
    Blank,
    /// Part of a group that was never synced. Or damage to the newest group, which nothing behind it testifies to.
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
                ", with no more to be read of it than that sequence {first} would be its first"
            ),
        }
    }
}

/// The last sequence in the records of a torn tail that begins with `first`. By their headers alone: a checksum does
/// not hold any more.
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
