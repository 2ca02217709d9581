//! Any disk behind a hook, which counts, delays or fails what goes to it. The benches count with it too.

use std::fmt::Debug;
use std::io;
use std::path::Path;

use crate::wal::disk::{Disk, DiskFile};

/// Called before a call goes on; an error is returned in its place. Clones share what they know.
pub(crate) trait Hook: Debug + Clone + Send + Sync + 'static {
    /// So many bytes are to be written to a file.
    fn write(&self, _bytes: usize) -> io::Result<()> {
        Ok(())
    }
    /// A file is to be synced.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    /// A file's cached pages are to be dropped.
    fn drop_cached(&self) -> io::Result<()> {
        Ok(())
    }
    /// What to say is free, of what the disk says.
    fn free_bytes(&self, free: u64) -> u64 {
        free
    }
}

/// A disk and what it is asked through.
#[derive(Debug, Clone)]
pub(crate) struct ForwardingDisk<D, H> {
    pub(crate) disk: D,
    pub(crate) hook: H,
}

/// An open file of it.
#[derive(Debug)]
pub(crate) struct ForwardingFile<F, H> {
    file: F,
    hook: H,
}

impl<D: Disk, H: Hook> ForwardingDisk<D, H> {
    fn wrap(&self, file: D::File) -> ForwardingFile<D::File, H> {
        let hook = self.hook.clone();
        ForwardingFile { file, hook }
    }
}

impl<D: Disk, H: Hook> Disk for ForwardingDisk<D, H> {
    type File = ForwardingFile<D::File, H>;
    type Lock = D::Lock;

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<Self::File> {
        self.disk.create_new(path).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<Self::File> {
        self.disk.open(path).map(|file| self.wrap(file))
    }

    fn open_rw(&self, path: &Path) -> io::Result<Self::File> {
        self.disk.open_rw(path).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path).map(|free| self.hook.free_bytes(free))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Self::Lock>> {
        self.disk.try_lock(path)
    }

    fn try_lock_dir(&self, dir: &Path) -> io::Result<Option<Self::Lock>> {
        self.disk.try_lock_dir(dir)
    }
}

impl<F: DiskFile, H: Hook> DiskFile for ForwardingFile<F, H> {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.hook.write(bytes.len())?;
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.hook.sync()?;
        self.file.sync_data()
    }

    fn drop_cached(&self) -> io::Result<()> {
        self.hook.drop_cached()?;
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
