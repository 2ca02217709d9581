//! Syncs and written bytes, counted at the disk: nothing else shows how many groups the log made.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::forwarding::Hook;

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

impl Hook for Arc<Counts> {
    fn write(&self, bytes: usize) -> io::Result<()> {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
