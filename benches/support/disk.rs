//! The disk under test, and what bringing bytes onto it takes with none of our code in between.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::quantile;

/// Approximate bytes of one event with its record's header.
const EVENT_BYTES: usize = 300;
/// Syncs that are timed, and warm-up syncs before them.
const SYNCS: usize = 300;
const WARM_UP: usize = 20;

/// An empty directory in the build's directory, as `/tmp` may be memory.
pub(crate) fn fresh_directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk under test")
}

/// A file that grows, as a plain program would write it.
#[derive(Debug)]
pub(crate) struct BareFile {
    file: File,
    end: u64,
    _directory: TempDir,
}

impl BareFile {
    /// An empty file.
    pub(crate) fn create() -> Self {
        let directory = fresh_directory();
        let file = File::create(directory.path().join("bare")).expect("a new directory");
        Self {
            file,
            end: 0,
            _directory: directory,
        }
    }

    /// Returns once the bytes are on the device.
    pub(crate) fn append_and_sync(&mut self, bytes: &[u8]) {
        let written = self.file.write_all_at(bytes, self.end);
        written.expect("the disk has room");
        self.file.sync_data().expect("the disk works");
        self.end += bytes.len() as u64;
    }
}

/// The median time to append and sync one event on this disk: no acknowledged write can be quicker.
pub(crate) fn median_fdatasync() -> Duration {
    let mut file = BareFile::create();
    let bytes = [b'x'; EVENT_BYTES];
    let mut sync = || {
        let started = Instant::now();
        file.append_and_sync(&bytes);
        started.elapsed()
    };
    for _ in 0..WARM_UP {
        sync();
    }
    let mut times: Vec<_> = (0..SYNCS).map(|_| sync()).collect();
    times.sort();
    quantile(&times, 0.5)
}
