//! A disk in memory that forgets: it keeps what was written apart from what was synced, and a power cut decides by a seed what of
//! the difference survives, sector by sector and in any order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::wal::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

/// The disk. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct SimulatedDisk {
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
    lies: Lies,
}

/// Syncs that say "done" and do nothing: to show that a test would notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lies {
    pub(super) data: bool,
    pub(super) directory: bool,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    /// What the running system sees.
    seen: Vec<u8>,
    /// What the device has.
    durable: Vec<u8>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

/// Deterministic numbers from a seed (splitmix64, Steele and others 2014).
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

impl SimulatedDisk {
    pub(super) fn new(lies: Lies) -> Self {
        let world = World {
            lies,
            ..World::default()
        };
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// Lets the power go at the n-th changing operation from now on, counted from 1.
    pub(super) fn cut_power_at(&self, operation: usize) {
        let mut world = self.lock();
        world.cut_at = Some(world.operations + operation);
    }

    /// Operations that are left before the power goes; 0 when it is gone.
    pub(super) fn operations_until_cut(&self) -> usize {
        let world = self.lock();
        world
            .cut_at
            .map_or(usize::MAX, |cut_at| cut_at.saturating_sub(world.operations))
    }

    /// Another disk with the same content.
    pub(super) fn copy(&self) -> Self {
        Self {
            world: Arc::new(Mutex::new(self.lock().clone())),
        }
    }

    /// The disk as the next start finds it, and how many bytes or names were lost on the way.
    pub(super) fn after_power_cut(&self, dice: &mut Dice) -> (Self, usize) {
        let world = self.lock();
        let mut lost = 0;
        let mut inodes = Vec::with_capacity(world.inodes.len());
        for inode in &world.inodes {
            let bytes = survivors(inode, dice, &mut lost);
            inodes.push(Inode {
                seen: bytes.clone(),
                durable: bytes,
            });
        }
        let mut names = world.durable_names.clone();
        for change in &world.pending_names {
            if dice.throw(2) == 0 {
                lost += 1;
            } else {
                change.apply(&mut names);
            }
        }
        let survived = World {
            inodes,
            durable_names: names.clone(),
            names,
            lies: world.lies,
            ..World::default()
        };
        (
            Self {
                world: Arc::new(Mutex::new(survived)),
            },
            lost,
        )
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

/// Old bytes, new bytes or zeros for each sector that was written and not synced; the length is the old one, the new one, or between.
fn survivors(inode: &Inode, dice: &mut Dice, lost: &mut usize) -> Vec<u8> {
    if inode.seen == inode.durable {
        return inode.seen.clone();
    }
    let (shorter, longer) = (
        inode.durable.len().min(inode.seen.len()),
        inode.durable.len().max(inode.seen.len()),
    );
    let length = match dice.throw(3) {
        0 => inode.durable.len(),
        1 => inode.seen.len(),
        _ => shorter + dice.throw((longer - shorter + 1) as u64) as usize,
    };
    let mut bytes = vec![0; length];
    for start in (0..length).step_by(SECTOR) {
        let sector = start..(start + SECTOR).min(length);
        let source = if dice.throw(3) == 0 {
            &inode.durable
        } else {
            &inode.seen
        };
        for at in sector {
            bytes[at] = source.get(at).copied().unwrap_or(0);
        }
    }
    *lost += usize::from(bytes != inode.seen);
    bytes
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
    /// Counts a changing operation; an error once the power is gone.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.cut_at {
            Some(cut_at) if self.operations >= cut_at => Err(io::Error::other("the power is gone")),
            _ => Ok(()),
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        // The change may still get to the device although the caller sees an error.
        let outcome = self.operate();
        if outcome.is_ok() || self.cut_at == Some(self.operations) {
            change.apply(&mut self.names);
            self.pending_names.push(change);
        }
        outcome
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
        world.change_name(NameChange::Set(path.to_owned(), inode))?;
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
        world.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), inode))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.find(path)?;
        world.change_name(NameChange::Remove(path.to_owned()))
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.operate()?;
        if !world.lies.directory {
            world.pending_names.clear();
            world.durable_names = world.names.clone();
        }
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn try_lock(&self, _: &Path) -> io::Result<Option<()>> {
        Ok(Some(()))
    }
}

/// An open file on it.
#[derive(Debug)]
pub(super) struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
}

impl DiskFile for SimulatedFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.lock();
        let outcome = world.operate();
        if outcome.is_ok() || world.cut_at == Some(world.operations) {
            let seen = &mut world.inodes[self.inode].seen;
            let end = offset as usize + bytes.len();
            seen.resize(seen.len().max(end), 0);
            seen[offset as usize..end].copy_from_slice(bytes);
        }
        outcome
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.disk.lock();
        let rest = world.inodes[self.inode]
            .seen
            .get(offset as usize..)
            .unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut world = self.disk.lock();
        world.operate()?;
        if !world.lies.data {
            let inode = &mut world.inodes[self.inode];
            inode.durable = inode.seen.clone();
        }
        Ok(())
    }

    fn drop_cached(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let mut world = self.disk.lock();
        let outcome = world.operate();
        if outcome.is_ok() || world.cut_at == Some(world.operations) {
            world.inodes[self.inode].seen.truncate(bytes as usize);
        }
        outcome
    }

    fn bytes_len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].seen.len() as u64)
    }

    fn has_name(&self) -> io::Result<bool> {
        Ok(self
            .disk
            .lock()
            .names
            .values()
            .any(|inode| *inode == self.inode))
    }
}
