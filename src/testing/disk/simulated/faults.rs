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

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Nothing is written.
    WriteError,
    /// The disk is full: a part is written.
    WriteNoSpace,
    /// A part is written, then the device fails.
    ShortWrite,
    /// The pages count as written afterwards, and a second sync says so; some have reached the device, some never will.
    SyncError,
    SyncDirError,
    ReadError,
    CreateNoSpace,
    RenameError,
    RemoveError,
    TruncateError,
    /// Says that all is on the device, which never gets it.
    LyingSync,
    LyingSyncDir,
}

impl FaultKind {
    /// Those of which the caller is told.
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
    /// Those of which it is not.
    pub(crate) const LIES: [Self; 2] = [Self::LyingSync, Self::LyingSyncDir];

    /// Those that leave the log as it was, once it is open.
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
    /// From then on, not only once.
    pub(crate) lasts: bool,
}

/// How an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    Strike(FaultKind),
    /// During it, so that it may have had its effect.
    PowerGoes,
    /// Before it.
    PowerGone,
}

impl Verdict {
    /// What the caller is told.
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
    /// Counts an operation and says how it goes. Reads change nothing, so the power does not go at one.
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
