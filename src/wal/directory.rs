//! The log's directory: which segments there are, how one is created and how one is removed.
//!
//! A segment is made under another name, its header synced, and only then renamed and the directory synced: so every
//! file with a segment's name has a whole header. The list of segments is shared: the log thread adds to its end, the
//! flush thread removes from its front.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use super::disk::{Disk, DiskFile};
use super::error::{self, WalError};
use super::segment::{self, SegmentHeader};
use crate::support::sync::{Mutex, MutexGuard};
use crate::wal::id::{LifeId, Sequence};

/// The file that is locked by the one process that uses the log.
pub const LOCK_NAME: &str = "LOCK";
/// A file that is being made. Never holds events.
pub(super) const UNFINISHED_NAME: &str = "next.tmp";

/// One segment as the list knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its first sequence, and its name.
    pub first_sequence: Sequence,
    /// Where it logically ends; `None` while it is the active one.
    pub sealed_end: Option<u64>,
    /// The life that wrote its events.
    pub life: LifeId,
    /// The life that wrote the event before its first one.
    pub previous_life: LifeId,
}

impl Segment {
    /// The active segment with this header.
    pub fn active(header: &SegmentHeader) -> Self {
        Self {
            first_sequence: header.first_sequence,
            sealed_end: None,
            life: header.life,
            previous_life: header.previous_life,
        }
    }
}

/// Most segments that are kept although the database has their events, whatever their size: a start reads the header
/// of each.
const KEPT_MAX: usize = 256;

/// The directory and the list of its segments, oldest first.
#[derive(Debug)]
pub struct Directory<D> {
    disk: D,
    path: PathBuf,
    list: Mutex<List>,
    /// Held while segments are removed, and while kept ones are taken back, so that none is removed once it is needed.
    removing: Mutex<()>,
}

#[derive(Debug)]
struct List {
    segments: VecDeque<Segment>,
    /// How many segments, from the oldest on, the database has: they are kept only in case the database goes back to an
    /// earlier state.
    kept: usize,
}

impl List {
    /// How many segments hold nothing after the watermark. Never counts the active one.
    fn stored_through(&self, flushed_through: Sequence) -> usize {
        let successors = self.segments.iter().skip(1);
        successors
            .take_while(|successor| successor.first_sequence <= flushed_through + 1)
            .count()
    }

    fn bytes_of(&self, range: std::ops::Range<usize>) -> u64 {
        let segments = self.segments.range(range);
        segments.filter_map(|segment| segment.sealed_end).sum()
    }

    /// Whether the oldest segment need not be kept.
    fn is_front_superfluous(&self, keep_bytes: u64) -> bool {
        match self.kept {
            0 => false,
            kept => kept > KEPT_MAX || self.bytes_of(1..kept) >= keep_bytes,
        }
    }
}

impl<D: Disk> Directory<D> {
    /// A directory whose segments recovery has found.
    pub fn new(disk: D, path: PathBuf, segments: impl IntoIterator<Item = Segment>) -> Self {
        Self {
            disk,
            path,
            list: Mutex::new(List {
                segments: segments.into_iter().collect(),
                kept: 0,
            }),
            removing: Mutex::new(()),
        }
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// File system of the directory.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The path of a segment.
    pub fn path_of(&self, first_sequence: Sequence) -> PathBuf {
        segment::path_of(&self.path, first_sequence)
    }

    /// The oldest sequence that the log still holds.
    pub fn oldest_sequence(&self) -> Sequence {
        let list = self.lock();
        let oldest = list.segments.front();
        oldest.map_or(1, |segment| segment.first_sequence)
    }

    /// The segment that holds `sequence`, or will hold it.
    pub fn segment_of(&self, sequence: Sequence) -> Option<Segment> {
        let segments = &self.lock().segments;
        let behind = segments.partition_point(|segment| segment.first_sequence <= sequence);
        segments.get(behind.checked_sub(1)?).copied()
    }

    /// The life that wrote the event at `sequence`: known for the events that the log holds and for the last one that
    /// it has retired, [`LifeId::UNKNOWN`] before the first event, `None` for any other sequence. `end` is the last
    /// sequence that was given out.
    pub fn life_of(&self, sequence: Sequence, end: Sequence) -> Option<LifeId> {
        life_in(&self.lock().segments, sequence, end)
    }

    /// A segment and the one after it; `None` while the segment is active, and once it is retired.
    pub fn with_successor(&self, first_sequence: Sequence) -> Option<(Segment, Segment)> {
        let segments = &self.lock().segments;
        let place = segments
            .binary_search_by_key(&first_sequence, |segment| segment.first_sequence)
            .ok()?;
        Some((segments[place], *segments.get(place + 1)?))
    }

    /// Adds the segment that is written to from now on, and ends the one before it where its header says.
    pub fn push_active(&self, header: &SegmentHeader) {
        let segments = &mut self.lock().segments;
        if let Some(last) = segments.back_mut() {
            last.sealed_end = Some(header.previous_end);
        }
        segments.push_back(Segment::active(header));
    }

    /// Notes that the database has everything up to `flushed_through`: segments up to there are now kept only in case
    /// the database goes back to an earlier state. Returns the bytes of those that were not counted as kept before.
    ///
    /// To be called only after the commit of `flushed_through` is confirmed: these segments may now be removed.
    pub fn release_through(&self, flushed_through: Sequence) -> u64 {
        let mut list = self.lock();
        let (before, after) = (list.kept, list.stored_through(flushed_through));
        list.kept = after.max(before);
        list.bytes_of(before..list.kept)
    }

    /// Notes that the database has gone back to `flushed_through`: kept segments with later events are needed again.
    /// Returns the bytes of these segments.
    pub fn take_back_behind(&self, flushed_through: Sequence) -> u64 {
        let _nothing_is_removed = lock(&self.removing);
        let mut list = self.lock();
        let (before, after) = (list.kept, list.stored_through(flushed_through));
        list.kept = after.min(before);
        list.bytes_of(list.kept..before)
    }

    /// Removes the oldest kept segments, as long as `keep_bytes` or `KEPT_MAX` segments remain kept. Returns whether it
    /// removed any.
    ///
    /// Each removal is synced before the next, so that a power cut cannot leave a hole in the chain.
    pub fn drop_kept(&self, keep_bytes: u64) -> Result<bool, WalError> {
        let _one_at_a_time = lock(&self.removing);
        let mut has_dropped = false;
        while let Some(path) = self.superfluous(keep_bytes) {
            self.disk
                .remove(&path)
                .map_err(|error| WalError::io("remove", &path, error))?;
            sync_dir(&self.disk, &self.path)?;
            let mut list = self.lock();
            list.segments.pop_front();
            list.kept -= 1;
            has_dropped = true;
        }
        Ok(has_dropped)
    }

    fn superfluous(&self, keep_bytes: u64) -> Option<PathBuf> {
        let list = self.lock();
        let oldest = list.segments.front()?;
        list.is_front_superfluous(keep_bytes)
            .then(|| self.path_of(oldest.first_sequence))
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        lock(&self.list)
    }
}

/// Every change of the locked values is a single step, so a panic elsewhere cannot have left one half made.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The life that wrote the event at `sequence`, by the headers of these segments, oldest first; see
/// [`Directory::life_of`].
pub fn life_in(segments: &VecDeque<Segment>, sequence: Sequence, end: Sequence) -> Option<LifeId> {
    if sequence > end {
        return None;
    }
    let behind = segments.partition_point(|segment| segment.first_sequence <= sequence);
    match behind.checked_sub(1) {
        Some(place) => Some(segments[place].life),
        None => segments
            .front()
            .filter(|oldest| oldest.first_sequence == sequence + 1)
            .map(|oldest| oldest.previous_life),
    }
}

/// How often a start tries to take the locks: `wal inspect` and `wal adopt` take them for a moment to see whether they
/// are free.
const LOCK_TRIES: u32 = 5;
/// Pause between two of these tries.
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// The locks that keep other processes out: on a file, which earlier releases check, and on the directory, because
/// somebody may remove the file.
#[derive(Debug)]
pub struct Locks<L>([L; 2]);

/// Takes the locks that keep other processes out, before anything else is touched.
pub fn lock_for_use<D: Disk>(disk: &D, dir: &Path) -> Result<Locks<D::Lock>, WalError> {
    disk.create_dir(dir)
        .map_err(|error| WalError::io("create directory", dir, error))?;
    for _ in 0..LOCK_TRIES {
        if let Some(locks) = try_lock(disk, dir)? {
            return Ok(locks);
        }
        thread::sleep(LOCK_AGAIN);
    }
    Err(WalError::Locked { dir: dir.to_owned() })
}

fn try_lock<D: Disk>(disk: &D, dir: &Path) -> Result<Option<Locks<D::Lock>>, WalError> {
    let path = dir.join(LOCK_NAME);
    let of_dir = disk
        .try_lock_dir(dir)
        .map_err(|error| WalError::io("lock", dir, error))?;
    // Before the file is touched: a process that is kept out must not create it, least of all as another user.
    let Some(of_dir) = of_dir else {
        return Ok(None);
    };
    let of_file = disk
        .try_lock(&path)
        .map_err(|error| WalError::io("lock", &path, error))?;
    Ok(of_file.map(|of_file| Locks([of_dir, of_file])))
}

/// Whether a process has the locks of a log.
///
/// # Errors
///
/// When the locks cannot be tried.
pub fn is_in_use<D: Disk>(disk: &D, dir: &Path) -> io::Result<bool> {
    if disk.try_lock_dir(dir)?.is_none() {
        return Ok(true);
    }
    let path = dir.join(LOCK_NAME);
    // This check must not create the file, least of all with another owner.
    Ok(path.exists() && disk.try_lock(&path)?.is_none())
}

/// Creates a segment durably: on return its header and its name survive a power cut.
pub fn create_segment<D: Disk>(disk: &D, dir: &Path, header: &SegmentHeader) -> Result<D::File, WalError> {
    let path = segment::path_of(dir, header.first_sequence);
    create_durably(disk, dir, UNFINISHED_NAME, &path, &header.encode())
}

/// Makes a file that gets its name only once its bytes are synced; a file that had the name is replaced. On return
/// bytes and name survive a power cut.
///
/// `unfinished_name` is the file's name until then: callers that may make files at the same time need different ones.
pub fn create_durably<D: Disk>(
    disk: &D,
    dir: &Path,
    unfinished_name: &str,
    path: &Path,
    bytes: &[u8],
) -> Result<D::File, WalError> {
    let unfinished = dir.join(unfinished_name);
    remove_if_there(disk, &unfinished)?;
    let mut file = disk
        .create_new(&unfinished)
        .map_err(|error| WalError::io(error::CREATE, &unfinished, error))?;
    file.write_all_at(bytes, 0)
        .map_err(|error| WalError::io(error::WRITE, &unfinished, error))?;
    file.sync_data()
        .map_err(|error| WalError::io("sync", &unfinished, error))?;
    disk.rename(&unfinished, path)
        .map_err(|error| WalError::io(error::RENAME_TO, path, error))?;
    sync_dir(disk, dir)?;
    Ok(file)
}

/// The first sequences of all segments in a directory, in order.
pub fn list_segments<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<Sequence>, WalError> {
    let names = disk.list(dir).map_err(|error| WalError::io("list", dir, error))?;
    let mut sequences: Vec<_> = names
        .iter()
        .filter_map(|name| segment::sequence_of(Path::new(name)))
        .collect();
    sequences.sort_unstable();
    Ok(sequences)
}

/// Makes creations, renames and removals in the directory durable.
pub fn sync_dir<D: Disk>(disk: &D, dir: &Path) -> Result<(), WalError> {
    disk.sync_dir(dir)
        .map_err(|error| WalError::io("sync directory", dir, error))
}

/// Removes a file, unless it is gone already. Durable with the next sync of the directory.
pub fn remove_if_there<D: Disk>(disk: &D, path: &Path) -> Result<(), WalError> {
    match disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(WalError::io("remove", path, error)),
        _ => Ok(()),
    }
}
