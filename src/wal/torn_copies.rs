//! Copies of torn tails: the bytes that a start cuts off the log are kept beside it, to find out what was lost.

use std::path::{Path, PathBuf};

use super::directory;
use super::disk::{Disk, DiskFile};
use super::error::{self, WalError};
use super::tail::Tail;

/// In the name of a copy: the text between the segment's name and the tail's offset.
const COPY_INFIX: &str = ".torn-";
/// Most copies of torn tails that are kept, each at most as large as a group of records and the room ahead of it:
/// enough to examine a failure that repeats.
const COPIES_MAX: usize = 8;

/// A copy of a torn tail, in the order in which they were made.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TailCopy {
    segment: String,
    offset: u64,
    /// Number of earlier copies of the same place.
    attempt: u64,
}

impl TailCopy {
    fn from_name(name: &str) -> Option<Self> {
        let (segment, rest) = name.split_once(COPY_INFIX)?;
        let (offset, attempt) = rest.split_once('-').unwrap_or((rest, "0"));
        Some(Self {
            segment: segment.to_owned(),
            offset: offset.parse().ok()?,
            attempt: attempt.parse().ok()?,
        })
    }

    fn name(&self) -> String {
        let Self {
            segment,
            offset,
            attempt,
        } = self;
        match attempt {
            0 => format!("{segment}{COPY_INFIX}{offset}"),
            _ => format!("{segment}{COPY_INFIX}{offset}-{attempt}"),
        }
    }
}

/// Removes the oldest copies, and writes the cut bytes beside the segment, under a name that no earlier cut has taken.
/// Returns its path.
///
/// A start that dies during this leaves a copy that may be incomplete; the next start finds the tail uncut and makes
/// another copy.
pub(super) fn keep<D: Disk>(disk: &D, dir: &Path, tail: &Tail, bytes: &[u8]) -> Result<PathBuf, WalError> {
    let names = disk.list(dir).map_err(|error| WalError::io("list", dir, error))?;
    let mut copies: Vec<_> = names.iter().filter_map(|name| TailCopy::from_name(name)).collect();
    copies.sort_unstable();
    let segment = tail.segment.file_name().unwrap_or_default();
    let segment = segment.to_string_lossy().into_owned();
    let of_this_place = copies
        .iter()
        .filter(|copy| copy.segment == segment && copy.offset == tail.offset);
    let copy = TailCopy {
        attempt: of_this_place.max().map_or(0, |last| last.attempt + 1),
        offset: tail.offset,
        segment,
    };
    // Before the new copy is written, because on a full disk it may need their space.
    for copy in copies.iter().rev().skip(COPIES_MAX - 1) {
        directory::remove_if_there(disk, &dir.join(copy.name()))?;
    }
    let path = dir.join(copy.name());
    let mut file = disk
        .create_new(&path)
        .map_err(|error| WalError::io(error::CREATE, &path, error))?;
    let kept = file.write_all_at(bytes, 0).and_then(|()| file.sync_data());
    kept.map(|()| path.clone()).map_err(|error| {
        // Half a copy is of no use, and on a full disk it would take the room that the next start needs.
        disk.remove(&path).ok();
        WalError::io(error::WRITE, &path, error)
    })
}
