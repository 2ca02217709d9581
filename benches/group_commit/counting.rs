//! The real disk, with syncs and written bytes counted: nothing else shows how many groups the log made.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fast_ingest::wal::disk::{Disk, DiskFile, RealDisk};

/// Syncs and written bytes so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    syncs: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    /// Syncs and bytes.
    pub(super) fn read(&self) -> (u64, u64) {
        let syncs = self.syncs.load(Ordering::Relaxed);
        (syncs, self.bytes.load(Ordering::Relaxed))
    }
}

/// A disk that counts.
#[derive(Debug, Clone, Default)]
pub(super) struct CountingDisk {
    /// Totals over all files of the disk.
    pub(super) counts: Arc<Counts>,
}

/// An open file of a [`CountingDisk`].
#[derive(Debug)]
pub(super) struct CountingFile {
    file: File,
    counts: Arc<Counts>,
}

impl CountingDisk {
    fn counted(&self, file: File) -> CountingFile {
        let counts = Arc::clone(&self.counts);
        CountingFile { file, counts }
    }
}

impl Disk for CountingDisk {
    type File = CountingFile;
    type Lock = File;

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<CountingFile> {
        Ok(self.counted(RealDisk.create_new(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<CountingFile> {
        Ok(self.counted(RealDisk.open(path)?))
    }

    fn open_rw(&self, path: &Path) -> io::Result<CountingFile> {
        Ok(self.counted(RealDisk.open_rw(path)?))
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
        RealDisk.free_bytes(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<File>> {
        RealDisk.try_lock(path)
    }

    fn try_lock_dir(&self, dir: &Path) -> io::Result<Option<File>> {
        RealDisk.try_lock_dir(dir)
    }
}

impl DiskFile for CountingFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let written = bytes.len() as u64;
        self.counts.bytes.fetch_add(written, Ordering::Relaxed);
        DiskFile::write_all_at(&mut self.file, bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.file, buffer, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        DiskFile::sync_data(&mut self.file)
    }

    fn drop_cached(&self) -> io::Result<()> {
        self.file.drop_cached()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn bytes_len(&self) -> io::Result<u64> {
        self.file.bytes_len()
    }

    fn has_name(&self) -> io::Result<bool> {
        self.file.has_name()
    }
}
