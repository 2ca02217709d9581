//! A disk in memory that loses data and fails: it keeps what was written apart from what was synced, a power cut
//! decides how much of the difference survives (see [`damage`]), and operations fail on demand (see [`faults`]).
//!
//! It assumes what the log assumes: a write leaves the bytes beside it alone, even in the same sector; a rename is
//! atomic; a directory whose sync failed keeps its changes pending until a later sync succeeds.

mod damage;
mod faults;
mod inode;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use damage::{Damage, Dice};
pub(crate) use faults::{Fault, FaultKind};

use self::faults::{Operation, Verdict};
use self::inode::Inode;
use crate::support::sync::{Mutex, MutexGuard};
use crate::wal::disk::{Disk, DiskFile};

/// The disk. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Debug, Clone, Default)]
struct World {
    inodes: Vec<Inode>,
    /// Names as the running system sees them, and as the device has them.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Name changes since the last directory sync.
    pending_names: Vec<NameChange>,
    /// Changing operations so far.
    operations: usize,
    /// The operation at which the power goes; it and all later ones fail.
    cut_at: Option<usize>,
    fault: Option<Fault>,
    /// Operations so far that the armed fault could have struck, and how often it did.
    fault_chances: usize,
    fired: usize,
    /// Whether a directory sync has failed in this process.
    directory_failed: bool,
    touched_after_failure: usize,
    dice: Dice,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl SimulatedDisk {
    pub(crate) fn new() -> Self {
        Self::of(World::default())
    }

    fn of(world: World) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// Cuts the power at the n-th changing operation from now on, counted from 1.
    pub(crate) fn cut_power_at(&self, operation: usize) {
        let mut world = self.lock();
        world.cut_at = Some(world.operations + operation);
    }

    /// Whether the power has been cut.
    pub(crate) fn is_power_gone(&self) -> bool {
        let world = self.lock();
        world.cut_at.is_some_and(|cut_at| world.operations >= cut_at)
    }

    /// Makes an operation fail. The seed decides what the failed operation leaves behind.
    pub(crate) fn arm(&self, fault: Fault, seed: u64) {
        let mut world = self.lock();
        world.fault = Some(fault);
        world.fault_chances = 0;
        world.fired = 0;
        world.dice = Dice(seed);
    }

    /// How often the fault that was armed last has struck.
    pub(crate) fn fired(&self) -> usize {
        self.lock().fired
    }

    /// Writes and syncs on a file after one had failed there in the same process: must stay 0.
    pub(crate) fn touched_after_failure(&self) -> usize {
        self.lock().touched_after_failure
    }

    /// Another disk with the same content.
    pub(crate) fn copy(&self) -> Self {
        Self::of(self.lock().clone())
    }

    /// The disk as the next process finds it when only this one ended: with the page cache, and working again.
    pub(crate) fn after_process_death(&self) -> Self {
        let mut world = self.lock().clone();
        world.cut_at = None;
        world.fault = None;
        world.directory_failed = false;
        world.inodes.iter_mut().for_each(Inode::forget_failure);
        Self::of(world)
    }

    /// The disk as the next start finds it, and how many files or names differ from what the running system had.
    pub(crate) fn after_power_cut(&self, damage: Damage, dice: &mut Dice) -> (Self, usize) {
        let world = self.lock();
        let mut lost = 0;
        let mut inodes = Vec::with_capacity(world.inodes.len());
        for inode in &world.inodes {
            let bytes = damage.survivors(inode, dice);
            lost += usize::from(bytes != inode.seen());
            inodes.push(Inode::on_device(bytes));
        }
        let mut names = world.durable_names.clone();
        for change in damage.surviving(&world.pending_names, dice) {
            change.apply(&mut names);
        }
        lost += usize::from(names != world.names);
        let survived = Self::new();
        {
            let mut after = survived.lock();
            after.inodes = inodes;
            after.durable_names = names.clone();
            after.names = names;
        }
        (survived, lost)
    }

    /// Names of all files, in order.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// A file's bytes as the running system sees them.
    pub(crate) fn contents(&self, path: &Path) -> Vec<u8> {
        let world = self.lock();
        world.inodes[world.names[path]].seen().to_vec()
    }

    /// Replaces a file's bytes on the device, unseen by the log.
    pub(crate) fn overwrite(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.lock();
        let inode = world.names[path];
        world.inodes[inode] = Inode::on_device(bytes.to_vec());
    }

    /// Removes a file from the device, unseen by the log.
    pub(crate) fn lose(&self, path: &Path) {
        let mut world = self.lock();
        world.names.remove(path);
        world.durable_names.remove(path);
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn file(&self, inode: usize) -> SimulatedFile {
        SimulatedFile {
            disk: self.clone(),
            inode,
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl World {
    fn change_name(&mut self, operation: Operation, change: NameChange) -> io::Result<()> {
        let verdict = self.decide(operation);
        // When the power goes, the change may still get to the device although the caller sees an error.
        if matches!(verdict, Verdict::Go | Verdict::PowerGoes) {
            change.apply(&mut self.names);
            self.pending_names.push(change);
        }
        verdict.outcome()
    }

    /// Decides the outcome of a change of a file; counts it if one failed there before in this process.
    fn touch(&mut self, inode: usize, operation: Operation) -> Verdict {
        self.touched_after_failure += usize::from(self.inodes[inode].has_failed);
        let verdict = self.decide(operation);
        // A write that finds no room leaves no page behind that a later sync could lie about.
        let is_final = !matches!(verdict, Verdict::Strike(FaultKind::WriteNoSpace));
        self.inodes[inode].has_failed |= is_final && verdict.outcome().is_err();
        verdict
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;
    type Lock = ();

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.lock();
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect())
    }

    fn create_new(&self, path: &Path) -> io::Result<SimulatedFile> {
        let mut world = self.lock();
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = world.inodes.len();
        world.inodes.push(Inode::default());
        world.change_name(Operation::Create, NameChange::Set(path.to_owned(), inode))?;
        Ok(self.file(inode))
    }

    fn open(&self, path: &Path) -> io::Result<SimulatedFile> {
        let inode = self.lock().find(path)?;
        Ok(self.file(inode))
    }

    fn open_rw(&self, path: &Path) -> io::Result<SimulatedFile> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.lock();
        let inode = world.find(from)?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned(), inode);
        world.change_name(Operation::Rename, change)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.find(path)?;
        world.change_name(Operation::Remove, NameChange::Remove(path.to_owned()))
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.touched_after_failure += usize::from(world.directory_failed);
        let verdict = world.decide(Operation::SyncDir);
        match verdict {
            Verdict::Go => {
                for change in std::mem::take(&mut world.pending_names) {
                    change.apply(&mut world.durable_names);
                }
            }
            Verdict::Strike(FaultKind::LyingSyncDir) => world.pending_names.clear(),
            _ => world.directory_failed = true,
        }
        verdict.outcome()
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn try_lock(&self, _: &Path) -> io::Result<Option<()>> {
        Ok(Some(()))
    }

    fn try_lock_dir(&self, _: &Path) -> io::Result<Option<()>> {
        Ok(Some(()))
    }
}

/// An open file of a [`SimulatedDisk`].
#[derive(Debug)]
pub(crate) struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
}

impl DiskFile for SimulatedFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.lock();
        let verdict = world.touch(self.inode, Operation::Write);
        let written = match verdict {
            Verdict::Go | Verdict::PowerGoes => bytes.len(),
            Verdict::Strike(FaultKind::WriteNoSpace | FaultKind::ShortWrite) => {
                world.dice.roll(bytes.len() as u64) as usize
            }
            _ => 0,
        };
        world.inodes[self.inode].write(&bytes[..written], offset as usize);
        verdict.outcome()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.lock();
        world.decide(Operation::Read).outcome()?;
        let seen = world.inodes[self.inode].seen();
        // Code that trusts a damaged length would allocate that much.
        assert!(
            buffer.len() <= seen.len().max(crate::wal::segment::HEADER_BYTES),
            "{} bytes asked for of a file of {}",
            buffer.len(),
            seen.len()
        );
        let rest = seen.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let world = &mut *self.disk.lock();
        let verdict = world.touch(self.inode, Operation::Sync);
        let inode = &mut world.inodes[self.inode];
        match verdict {
            Verdict::Go => inode.sync(),
            Verdict::Strike(FaultKind::LyingSync) => inode.give_up(|| false),
            Verdict::Strike(_) => inode.give_up(|| world.dice.roll(2) == 0),
            Verdict::PowerGoes | Verdict::PowerGone => {}
        }
        verdict.outcome()
    }

    fn drop_cached(&self) -> io::Result<()> {
        self.disk.lock().inodes[self.inode].drop_cached();
        Ok(())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let mut world = self.disk.lock();
        let verdict = world.touch(self.inode, Operation::Truncate);
        if matches!(verdict, Verdict::Go | Verdict::PowerGoes) {
            world.inodes[self.inode].truncate(bytes as usize);
        }
        verdict.outcome()
    }

    fn bytes_len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].seen().len() as u64)
    }

    fn has_name(&self) -> io::Result<bool> {
        let world = self.disk.lock();
        Ok(world.names.values().any(|inode| *inode == self.inode))
    }
}
