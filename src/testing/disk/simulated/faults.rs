//! Operations that fail, or only seem to succeed.

use std::io;

use rustix::io::Errno;

use super::World;

/// What an operation does to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Write,
    Sync,
    SyncDir,
    Read,
    Create,
    Rename,
    Remove,
    Truncate,
}

/// What a failing operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Nothing is written.
    WriteError,
    /// The disk is full: a part is written.
    WriteNoSpace,
    /// A part is written, then the device fails.
    ShortWrite,
    /// Afterwards the pages count as written, and a second sync succeeds; some have reached the device, some never
    /// will.
    SyncError,
    SyncDirError,
    ReadError,
    CreateNoSpace,
    RenameError,
    RemoveError,
    TruncateError,
    /// Reports success, but the data never reaches the device.
    LyingSync,
    LyingSyncDir,
}

impl FaultKind {
    /// Faults that return an error to the caller.
    pub(crate) const RETURNED: [Self; 10] = [
        Self::WriteError,
        Self::WriteNoSpace,
        Self::ShortWrite,
        Self::SyncError,
        Self::SyncDirError,
        Self::ReadError,
        Self::CreateNoSpace,
        Self::RenameError,
        Self::RemoveError,
        Self::TruncateError,
    ];
    /// Faults that the caller does not see.
    pub(crate) const LIES: [Self; 2] = [Self::LyingSync, Self::LyingSyncDir];

    /// Whether the disk is full, which leaves an open log as it was.
    pub(crate) fn is_full(self) -> bool {
        matches!(self, Self::WriteNoSpace | Self::CreateNoSpace)
    }

    fn operation(self) -> Operation {
        match self {
            Self::WriteError | Self::WriteNoSpace | Self::ShortWrite => Operation::Write,
            Self::SyncError | Self::LyingSync => Operation::Sync,
            Self::SyncDirError | Self::LyingSyncDir => Operation::SyncDir,
            Self::ReadError => Operation::Read,
            Self::CreateNoSpace => Operation::Create,
            Self::RenameError => Operation::Rename,
            Self::RemoveError => Operation::Remove,
            Self::TruncateError => Operation::Truncate,
        }
    }
}

/// A fault at the n-th operation of its kind, counted from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) at: usize,
    /// Whether all later operations of the kind fail too.
    pub(crate) lasts: bool,
}

/// The outcome of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    Strike(FaultKind),
    /// The power goes during the operation, which may have had its effect.
    PowerGoes,
    /// The power went before the operation.
    PowerGone,
}

impl Verdict {
    /// The result that the caller gets.
    pub(crate) fn outcome(self) -> io::Result<()> {
        match self {
            Self::Go | Self::Strike(FaultKind::LyingSync | FaultKind::LyingSyncDir) => Ok(()),
            Self::Strike(FaultKind::WriteNoSpace | FaultKind::CreateNoSpace) => Err(Errno::NOSPC.into()),
            Self::Strike(_) => Err(Errno::IO.into()),
            Self::PowerGoes | Self::PowerGone => Err(io::Error::other("the power is gone")),
        }
    }
}

impl World {
    /// Counts an operation and decides its outcome. Reads change nothing, so the power does not go at one.
    pub(crate) fn decide(&mut self, operation: Operation) -> Verdict {
        if operation != Operation::Read {
            self.operations += 1;
        }
        match self.cut_at {
            Some(cut_at) if operation != Operation::Read && self.operations == cut_at => {
                return Verdict::PowerGoes;
            }
            Some(cut_at) if self.operations >= cut_at => return Verdict::PowerGone,
            _ => {}
        }
        match self.fault {
            Some(fault) if fault.kind.operation() == operation => {
                self.fault_chances += 1;
                let strikes = self.fault_chances == fault.at || (fault.lasts && self.fault_chances > fault.at);
                if strikes {
                    self.fired += 1;
                    return Verdict::Strike(fault.kind);
                }
                Verdict::Go
            }
            _ => Verdict::Go,
        }
    }
}
