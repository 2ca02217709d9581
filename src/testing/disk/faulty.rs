//! The real disk, whose syncs, writes and free space a test controls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver as Signals, Sender as Signal};

use super::forwarding::{ForwardingDisk, Hook};
use crate::wal::disk::RealDisk;

/// The real disk. A test controls its syncs and writes after [`Faults::arm`].
pub(crate) type FaultyDisk = ForwardingDisk<RealDisk, Arc<Faults>>;

#[derive(Debug, Default)]
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
    /// A disk that has them.
    pub(crate) fn disk(self: &Arc<Self>) -> FaultyDisk {
        let hook = Arc::clone(self);
        ForwardingDisk { disk: RealDisk, hook }
    }

    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn is_armed(&self) -> bool {
        self.armed.load(Ordering::SeqCst)
    }
}

fn fail_if(told_to: &AtomicBool) -> io::Result<()> {
    match told_to.load(Ordering::SeqCst) {
        true => Err(io::Error::other("injected")),
        false => Ok(()),
    }
}

impl Hook for Arc<Faults> {
    fn write(&self, _: usize) -> io::Result<()> {
        if !self.is_armed() {
            return Ok(());
        }
        fail_if(&self.fail_writes)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.is_armed() {
            return Ok(());
        }
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if let Some((announce, go_on)) = &self.hold {
            announce.send(()).unwrap();
            go_on.recv().unwrap();
        }
        fail_if(&self.fail_syncs)
    }

    fn drop_cached(&self) -> io::Result<()> {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn free_bytes(&self, free: u64) -> u64 {
        match self.no_space.load(Ordering::SeqCst) {
            true => 0,
            false => free,
        }
    }
}
