//! The real disk, whose syncs, writes and free space a test controls.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver as Signals, Sender as Signal};

use crate::wal::disk::{Disk, DiskFile, RealDisk};

/// The real disk. A test controls its syncs and writes after [`Faults::arm`].
#[derive(Debug, Clone)]
pub(crate) struct FaultyDisk {
    pub(crate) faults: Arc<Faults>,
}

#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) armed: AtomicBool,
    pub(crate) fail_syncs: AtomicBool,
    pub(crate) fail_writes: AtomicBool,
    pub(crate) no_space: AtomicBool,
    /// Syncs since arming.
    pub(crate) syncs: AtomicUsize,
    /// How often a file's cached pages were dropped.
    pub(crate) dropped: AtomicUsize,
    /// Each sync announces itself here and then waits for a token, when set.
    pub(crate) hold: Option<(Signal<()>, Signals<()>)>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self {
            armed: AtomicBool::new(false),
            fail_syncs: AtomicBool::new(false),
            fail_writes: AtomicBool::new(false),
            no_space: AtomicBool::new(false),
            syncs: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            hold: None,
        }
    }

    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub(crate) struct FaultyFile {
    file: std::fs::File,
    faults: Arc<Faults>,
}

fn broken() -> io::Error {
    io::Error::other("injected")
}

impl FaultyDisk {
    fn wrap(&self, file: std::fs::File) -> FaultyFile {
        FaultyFile {
            file,
            faults: Arc::clone(&self.faults),
        }
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;
    type Lock = std::fs::File;

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_new(&self, path: &Path) -> io::Result<FaultyFile> {
        RealDisk.create_new(path).map(|file| self.wrap(file))
    }
    fn open(&self, path: &Path) -> io::Result<FaultyFile> {
        RealDisk.open(path).map(|file| self.wrap(file))
    }
    fn open_rw(&self, path: &Path) -> io::Result<FaultyFile> {
        RealDisk.open_rw(path).map(|file| self.wrap(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        if self.faults.no_space.load(Ordering::SeqCst) {
            Ok(0)
        } else {
            RealDisk.free_bytes(path)
        }
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<std::fs::File>> {
        RealDisk.try_lock(path)
    }

    fn try_lock_dir(&self, dir: &Path) -> io::Result<Option<std::fs::File>> {
        RealDisk.try_lock_dir(dir)
    }
}

impl DiskFile for FaultyFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.faults.armed.load(Ordering::SeqCst) && self.faults.fail_writes.load(Ordering::SeqCst) {
            return Err(broken());
        }
        DiskFile::write_all_at(&mut self.file, bytes, offset)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.file, buffer, offset)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        if self.faults.armed.load(Ordering::SeqCst) {
            self.faults.syncs.fetch_add(1, Ordering::SeqCst);
            if let Some((announce, go_on)) = &self.faults.hold {
                announce.send(()).unwrap();
                go_on.recv().unwrap();
            }
            if self.faults.fail_syncs.load(Ordering::SeqCst) {
                return Err(broken());
            }
        }
        DiskFile::sync_data(&mut self.file)
    }
    fn drop_cached(&self) -> io::Result<()> {
        self.faults.dropped.fetch_add(1, Ordering::SeqCst);
        self.file.drop_cached()
    }
    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        DiskFile::truncate(&mut self.file, bytes)
    }
    fn bytes_len(&self) -> io::Result<u64> {
        DiskFile::bytes_len(&self.file)
    }
    fn has_name(&self) -> io::Result<bool> {
        DiskFile::has_name(&self.file)
    }
}
