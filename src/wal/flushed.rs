//! What the log remembers of its flush: which database has its events, up to where, and the tokens of the last commits
//! that were tried.
//!
//! The checkpoint's row names the life and the token of the commit that wrote it, and the segments say whether that
//! life wrote them. Both are the same in a copy that was made while the server ran, memory included. But a copy has not
//! tried the other's commits: so every commit is noted here, durably, before it is tried, and a row with a token that
//! is not here was written by another log.
//!
//! The file is a ring of fixed size, made at full size, so that noting a commit is one small write into place and one
//! sync without metadata. Its layout is in the format document at the top of [`crate::wal`].

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::directory;
use super::disk::{Disk, DiskFile};
use super::error::{self, WalError};
use super::record::{read_u32, read_u64};
use super::segment;
use crate::wal::id::{CheckpointRow, DatabaseId, LifeId, Mark, Sequence, WalId};

/// The file's name.
pub const NAME: &str = "FLUSHED";
/// The file's name while it is made.
const UNFINISHED_NAME: &str = "flushed.tmp";
/// Commits that the ring holds. A database can go back by so many without a doubt about who moved its checkpoint: three
/// million rows a minute for more than ten minutes, or seven minutes of light traffic. Before these commits, only the
/// lives can tell. Small in tests, whose disks are copied often.
const SLOTS: u64 = if cfg!(fuzzing) {
    4
} else if cfg!(test) {
    64
} else {
    2048
};
const HEADER_BYTES: usize = 512;
const ENTRY_BYTES: usize = 128;
/// Bytes of the file.
pub const FILE_BYTES: usize = HEADER_BYTES + SLOTS as usize * ENTRY_BYTES;
/// The format version that this code writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"FSTINGFL";
const HEADER_CHECKSUM_AT: usize = 32;
/// The flag of an entry whose database is known to have the log.
const IS_KNOWN: u32 = 1;

/// A commit that was tried, or a checkpoint that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// The database of the commit.
    pub database: DatabaseId,
    /// The id under which the database knows this log.
    pub wal_id: WalId,
    /// Whether the database is known to have this log; `false` while the first commit there is tried.
    pub is_known: bool,
    /// The database certainly had every event up to here.
    pub confirmed_through: Sequence,
    /// The checkpoint's sequence if the commit happened.
    pub through: Sequence,
    /// The checkpoint's mark if the commit happened.
    pub mark: Mark,
}

/// The last commits, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Commits {
    ring: VecDeque<Commit>,
    /// Number of the newest one; 0 for none.
    newest: u64,
    /// Commits up to this sequence may have been made and are not remembered.
    forgotten_through: Sequence,
    /// Slots of the file that could not be read: a commit that is not in `ring` may have been there.
    holes: Vec<u64>,
}

impl Commit {
    fn encode(&self, number: u64, forgotten_through: Sequence) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let flags = if self.is_known { IS_KNOWN } else { 0 };
        bytes[4..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        bytes[16..32].copy_from_slice(self.database.0.as_bytes());
        bytes[32..48].copy_from_slice(self.wal_id.0.as_bytes());
        bytes[48..56].copy_from_slice(&self.confirmed_through.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.through.to_le_bytes());
        bytes[64..80].copy_from_slice(self.mark.life.0.as_bytes());
        bytes[80..96].copy_from_slice(self.mark.token.as_bytes());
        bytes[96..104].copy_from_slice(&forgotten_through.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The number and the content of an entry, and up to where commits were forgotten by then; `None` when it was torn.
    fn decode(bytes: &[u8]) -> Option<(u64, Self, Sequence)> {
        if crc32c::crc32c(&bytes[4..]) != read_u32(bytes, 0) {
            return None;
        }
        let uuid = |at: usize| Uuid::from_slice(&bytes[at..at + 16]).ok();
        let commit = Self {
            database: DatabaseId(uuid(16)?),
            wal_id: WalId(uuid(32)?),
            is_known: read_u32(bytes, 4) & IS_KNOWN != 0,
            confirmed_through: read_u64(bytes, 48),
            through: read_u64(bytes, 56),
            mark: Mark {
                life: LifeId(uuid(64)?),
                token: uuid(80)?,
            },
        };
        Some((read_u64(bytes, 8), commit, read_u64(bytes, 96)))
    }
}

impl Commits {
    /// The database that has the log, and what is known of it; `None` before the first contact with any.
    pub fn home(&self) -> Option<&Commit> {
        self.ring.iter().rev().find(|commit| commit.is_known)
    }

    /// Everything up to here was certainly stored in the database that has the log.
    pub fn confirmed_through(&self) -> Sequence {
        self.home().map_or(0, |home| home.confirmed_through)
    }

    /// Whether this log may have written the checkpoint `row`. True also for a row so far back that its commit may be
    /// forgotten.
    pub fn may_have_made(&self, wal_id: WalId, database: DatabaseId, row: &CheckpointRow) -> bool {
        let there = || {
            let commits = self.ring.iter();
            commits.filter(|commit| commit.wal_id == wal_id && commit.database == database)
        };
        there().next().is_none()
            || row.flushed_through <= self.forgotten_through
            || !self.holes.is_empty()
            || there().any(|commit| (commit.through, commit.mark.token) == (row.flushed_through, row.mark.token))
    }

    fn push(&mut self, commit: Commit) {
        self.forgotten_through = self.forgotten_with(&commit);
        self.newest += 1;
        let slot = self.newest % SLOTS;
        self.holes.retain(|hole| *hole != slot);
        self.ring.push_back(commit);
        if self.ring.len() as u64 > SLOTS {
            self.ring.pop_front();
        }
    }

    /// Up to where commits are forgotten once `commit` is remembered: it replaces the oldest one, and nothing is known
    /// from before the first commit in a database.
    fn forgotten_with(&self, commit: &Commit) -> Sequence {
        let is_first = !self
            .ring
            .iter()
            .any(|known| (known.wal_id, known.database) == (commit.wal_id, commit.database));
        let before = if is_first { commit.through.saturating_sub(1) } else { 0 };
        let is_full = self.ring.len() as u64 >= SLOTS;
        let evicted = self.ring.front().filter(|_| is_full);
        let evicted = evicted.map_or(0, |evicted| evicted.through);
        self.forgotten_through.max(before).max(evicted)
    }

    /// The commits in the slots of a file.
    fn of_slots(slots: &[u8]) -> Self {
        let mut found = Vec::new();
        let mut holes = Vec::new();
        for (place, slot) in (0..).zip(slots.chunks_exact(ENTRY_BYTES)) {
            if slot.iter().all(|&byte| byte == 0) {
                continue;
            }
            match Commit::decode(slot) {
                Some(numbered) => found.push(numbered),
                None => holes.push(place),
            }
        }
        found.sort_unstable_by_key(|(number, ..)| *number);
        Self {
            newest: found.last().map_or(0, |(number, ..)| *number),
            forgotten_through: found.last().map_or(0, |(.., forgotten)| *forgotten),
            ring: found.into_iter().map(|(_, commit, _)| commit).collect(),
            holes,
        }
    }
}

/// The file of a log, and what it says.
#[derive(Debug)]
pub struct FlushedFile<F> {
    path: PathBuf,
    file: F,
    commits: Commits,
    /// What failed. After a failure the file is not used any more: a second sync would report success.
    failure: Option<(&'static str, io::ErrorKind, String)>,
}

impl<F: DiskFile> FlushedFile<F> {
    /// Opens the file from which [`read`] has read `found`, or makes it at full size, so that a note never needs space
    /// on a full disk.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`].
    pub fn open<D: Disk<File = F>>(
        disk: &D,
        dir: &Path,
        wal_id: WalId,
        found: Option<Commits>,
    ) -> Result<Self, WalError> {
        let path = dir.join(NAME);
        let file = if found.is_some() {
            disk.open_rw(&path)
                .map_err(|error| WalError::io("open", &path, error))?
        } else {
            create(disk, dir, UNFINISHED_NAME, NAME, wal_id, vec![0; FILE_BYTES])?
        };
        Ok(Self {
            path,
            file,
            commits: found.unwrap_or_default(),
            failure: None,
        })
    }

    /// The commits that are remembered.
    pub fn commits(&self) -> &Commits {
        &self.commits
    }

    /// Remembers a commit, which must not be tried before [`Self::sync`] has returned.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], also that of an earlier call; the commit must not be tried then.
    pub fn note(&mut self, commit: Commit) -> Result<(), WalError> {
        self.check()?;
        let number = self.commits.newest + 1;
        let offset = HEADER_BYTES as u64 + number % SLOTS * ENTRY_BYTES as u64;
        let forgotten_through = self.commits.forgotten_with(&commit);
        let entry = commit.encode(number, forgotten_through);
        let written = self.file.write_all_at(&entry, offset);
        self.commits.push(commit);
        self.keep_failure(error::WRITE, written)
    }

    /// On return the noted commits survive a power cut.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]; the noted commits must not be tried then.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check()?;
        let synced = self.file.sync_data();
        self.keep_failure("sync", synced)
    }

    fn keep_failure(&mut self, action: &'static str, outcome: io::Result<()>) -> Result<(), WalError> {
        if let Err(error) = outcome {
            self.failure = Some((action, error.kind(), error.to_string()));
        }
        self.check()
    }

    fn check(&self) -> Result<(), WalError> {
        match &self.failure {
            None => Ok(()),
            Some((action, kind, text)) => {
                let error = io::Error::new(*kind, text.clone());
                Err(WalError::io(action, &self.path, error))
            }
        }
    }
}

/// Makes a file with one commit durably, which is never written to again.
pub(super) fn create_small<D: Disk>(
    disk: &D,
    dir: &Path,
    name: &str,
    wal_id: WalId,
    commit: Commit,
) -> Result<D::File, WalError> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(&commit.encode(1, 0));
    create(disk, dir, "adopted.tmp", name, wal_id, bytes)
}

/// Makes a file of this format durably, replacing an older one. `bytes` begins with `HEADER_BYTES` for the header.
fn create<D: Disk>(
    disk: &D,
    dir: &Path,
    unfinished_name: &str,
    name: &str,
    wal_id: WalId,
    mut bytes: Vec<u8>,
) -> Result<D::File, WalError> {
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(wal_id.0.as_bytes());
    let checksum = crc32c::crc32c(&bytes[..HEADER_CHECKSUM_AT]);
    bytes[HEADER_CHECKSUM_AT..HEADER_CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    directory::create_durably(disk, dir, unfinished_name, &dir.join(name), &bytes)
}

/// Refuses a directory that has the file and no segment: its log is missing, and a new one would be taken for it.
pub(super) fn refuse_without_log<D: Disk>(disk: &D, dir: &Path) -> Result<(), WalError> {
    let path = dir.join(NAME);
    match disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(WalError::io("open", &path, error)),
        Ok(_) => {
            let detail = "all segments of its log are missing; to begin a new log, move this file away too";
            Err(WalError::damage(&path, 0, 1, detail))
        }
    }
}

/// Reads the file of a log's directory; `None` if it has none.
///
/// # Errors
///
/// [`WalError::Damage`] when the file is another log's or malformed, [`WalError::NewerVersion`], [`WalError::Io`].
pub fn read<D: Disk>(disk: &D, dir: &Path, wal_id: WalId) -> Result<Option<Commits>, WalError> {
    let Some((commits, there)) = read_named(disk, dir, NAME, wal_id)? else {
        return Ok(None);
    };
    if there != FILE_BYTES as u64 {
        let detail = format!("it has {there} bytes instead of {FILE_BYTES}, so its entries are not at their places");
        return Err(WalError::damage(&dir.join(NAME), there, 1, detail));
    }
    Ok(Some(commits))
}

/// The commits in a file of this format, and how many bytes it has; `None` if it is not there.
pub(super) fn read_named<D: Disk>(
    disk: &D,
    dir: &Path,
    name: &str,
    wal_id: WalId,
) -> Result<Option<(Commits, u64)>, WalError> {
    let path = dir.join(name);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(WalError::io("open", &path, error)),
    };
    let io = |error| WalError::io("read", &path, error);
    let there = file.bytes_len().map_err(io)?;
    let mut bytes = vec![0; there.min(FILE_BYTES as u64) as usize];
    let length = segment::read_full(&file, &mut bytes, 0).map_err(io)?;
    let bytes = &bytes[..length];
    if length < HEADER_BYTES
        || bytes[..8] != *MAGIC
        || crc32c::crc32c(&bytes[..HEADER_CHECKSUM_AT]) != read_u32(bytes, HEADER_CHECKSUM_AT)
    {
        let detail = "its header is invalid, so nobody can tell which database has this log's events";
        return Err(WalError::damage(&path, 0, 1, detail));
    }
    let version = read_u32(bytes, 8);
    if version > FORMAT_VERSION {
        return Err(WalError::NewerVersion {
            segment: path,
            version,
            known: FORMAT_VERSION,
        });
    }
    let found = WalId(Uuid::from_slice(&bytes[16..32]).expect("16 bytes"));
    if found != wal_id {
        let detail = format!("it belongs to another log ({found} instead of {wal_id})");
        return Err(WalError::damage(&path, 16, 1, detail));
    }
    Ok(Some((Commits::of_slots(&bytes[HEADER_BYTES..]), there)))
}

#[cfg(test)]
pub(crate) mod tests;
