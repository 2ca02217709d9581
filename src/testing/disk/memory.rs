//! A disk in memory that never fails, and what a start and the flush together read from it.
//!
//! The simulated disk of the log's tests loses data and fails; here the damage is in the bytes themselves, so the
//! simplest disk will do. One disk for both was tried: even where it keeps no second copy, the fuzzers trace each of its
//! decisions, and an execution takes an eighth longer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::wal::batch::Batch;
use crate::wal::disk::{Disk, DiskFile};
use crate::wal::id::Sequence;
use crate::wal::reader::LogReader;
use crate::wal::settings::{SyncMode, WalSettings};
use crate::wal::{self, WalError, segment};

const DIR: &str = "/wal";

type Files = BTreeMap<PathBuf, Arc<Mutex<Vec<u8>>>>;

/// The disk. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryDisk {
    files: Arc<Mutex<Files>>,
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub(crate) struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl MemoryDisk {
    /// A log's directory with these segments, each with the first sequence that its name says.
    pub(crate) fn with_segments<'s>(segments: impl IntoIterator<Item = (Sequence, &'s [u8])>) -> Self {
        let disk = Self::default();
        for (first_sequence, bytes) in segments {
            let path = segment::path_of(Path::new(DIR), first_sequence);
            disk.lock().insert(path, Arc::new(Mutex::new(bytes.to_vec())));
        }
        disk
    }

    /// Every event that a start finds, encoded; `None` when the start or the reader refuses the log.
    ///
    /// # Panics
    ///
    /// When a refusing start changes a file, or when a second start finds something else.
    pub(crate) fn read_log(&self) -> Option<Vec<Vec<u8>>> {
        let before = self.contents();
        match self.start() {
            Ok(events) => {
                // The first start may have cut off a torn tail and has begun a segment: that must not change what the
                // log says.
                let again = self.start().expect("a log that was opened opens again");
                assert_eq!(again, events, "a second start reads what the first did");
                Some(events)
            }
            Err(Refused::Start(error)) => {
                expect_damage(&error);
                assert_eq!(self.contents(), before, "a refusal changes nothing");
                None
            }
            Err(Refused::Read(error)) => {
                expect_damage(&error);
                None
            }
        }
    }

    fn start(&self) -> Result<Vec<Vec<u8>>, Refused> {
        let settings = WalSettings {
            dir: PathBuf::from(DIR),
            sync: SyncMode::Group,
            ring_slots: 64,
            bytes_max: 1 << 30,
            segment_bytes: 1 << 20,
            keep_bytes: 0,
            disk_free_min: 0,
        };
        let opened = wal::open(self.clone(), &settings).map_err(Refused::Start)?;
        let log = opened.log;
        let after = log.directory().oldest_sequence() - 1;
        let mut reader = LogReader::new(Arc::clone(&log), after);
        let mut batch = Batch::new(log.wal_id(), after);
        let mut events = Vec::new();
        loop {
            batch.reset(after + events.len() as Sequence);
            // Small, so that batches end in the middle of a segment.
            let is_full = reader.fill(&mut batch, 5, 1 << 20).map_err(Refused::Read)?;
            events.extend(batch.view().encoded().map(<[u8]>::to_vec));
            if !is_full {
                let through = after + events.len() as Sequence;
                assert_eq!(through, log.recovered_through(), "nothing was left out");
                return Ok(events);
            }
        }
    }

    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.lock();
        let copied = files.iter().map(|(path, file)| (path.clone(), lock(file).clone()));
        copied.collect()
    }

    fn find(&self, path: &Path) -> io::Result<Arc<Mutex<Vec<u8>>>> {
        let found = self.lock().get(path).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        lock(&self.files)
    }
}

/// Which step refused the log.
#[derive(Debug)]
enum Refused {
    Start(WalError),
    Read(WalError),
}

fn expect_damage(error: &WalError) {
    assert!(
        matches!(error, WalError::Damage { .. } | WalError::NewerVersion { .. }),
        "on a disk that works only the bytes can be wrong, but: {error}"
    );
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this")
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Lock = ();

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        let files = self.lock();
        let names = files.keys().filter_map(|path| path.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create_new(&self, path: &Path) -> io::Result<MemoryFile> {
        if self.lock().contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::<Mutex<Vec<u8>>>::default();
        self.lock().insert(path.to_owned(), Arc::clone(&file));
        Ok(MemoryFile(file))
    }

    fn open(&self, path: &Path) -> io::Result<MemoryFile> {
        self.find(path).map(MemoryFile)
    }

    fn open_rw(&self, path: &Path) -> io::Result<MemoryFile> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.find(from)?;
        let mut files = self.lock();
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.lock().remove(path);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
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

impl DiskFile for MemoryFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = lock(&self.0);
        let start = offset as usize;
        let end = start + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = lock(&self.0);
        // Code that trusts a damaged length would allocate that much.
        assert!(
            buffer.len() <= content.len().max(segment::HEADER_BYTES),
            "{} bytes asked for of a file of {}",
            buffer.len(),
            content.len()
        );
        let rest = content.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cached(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        lock(&self.0).truncate(bytes as usize);
        Ok(())
    }

    fn bytes_len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn has_name(&self) -> io::Result<bool> {
        Ok(true)
    }
}
