//! One file of the simulated disk: what the running system sees, what the device has, and the writes in between.

/// Bytes of a sector, the unit in which a device persists.
pub(crate) const SECTOR: usize = 512;

/// A file's bytes, as the running system sees them and as the device has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inode {
    seen: Vec<u8>,
    /// What the device's blocks hold; bytes beyond `durable_length` are there but not yet part of the file.
    durable: Vec<u8>,
    durable_length: usize,
    /// Writes that the device need not have yet, oldest first, each within one sector.
    pending: Vec<Pending>,
    /// Whether a write or sync has failed, as far as the running process knows.
    pub(crate) has_failed: bool,
}

/// Bytes of one write within one sector.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) offset: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Pending {
    pub(crate) fn sector(&self) -> usize {
        self.offset / SECTOR
    }

    pub(crate) fn end(&self) -> usize {
        self.offset + self.bytes.len()
    }
}

impl Inode {
    /// A file that is as the device has it.
    pub(crate) fn on_device(bytes: Vec<u8>) -> Self {
        Self {
            durable_length: bytes.len(),
            seen: bytes.clone(),
            durable: bytes,
            ..Self::default()
        }
    }

    pub(crate) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// What the device's blocks hold, also beyond the file's length.
    pub(crate) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(crate) fn durable_length(&self) -> usize {
        self.durable_length
    }

    pub(crate) fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// Forgets a failed write or sync, as a new process would not know of it.
    pub(crate) fn forget_failure(&mut self) {
        self.has_failed = false;
    }

    pub(crate) fn write(&mut self, bytes: &[u8], offset: usize) {
        put(&mut self.seen, offset, bytes);
        let mut at = 0;
        while at < bytes.len() {
            let in_sector = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
            self.pending.push(Pending {
                offset: offset + at,
                bytes: bytes[at..at + in_sector].to_vec(),
            });
            at += in_sector;
        }
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.seen.truncate(length);
        self.pending.retain(|pending| pending.end() <= length);
    }

    /// Everything pending reaches the device, the length too.
    pub(crate) fn sync(&mut self) {
        for pending in self.pending.drain(..) {
            put(&mut self.durable, pending.offset, &pending.bytes);
        }
        self.durable_length = self.seen.len();
        self.durable.resize(self.durable_length, 0);
    }

    /// A sync that failed: what is pending counts as written from now on, whether it `reached` the device or not. The
    /// length reaches the device with the next sync.
    pub(crate) fn give_up(&mut self, mut reached: impl FnMut() -> bool) {
        for pending in self.pending.drain(..) {
            if reached() {
                put(&mut self.durable, pending.offset, &pending.bytes);
            }
        }
    }

    /// Lets reads see the device's bytes where no write is pending.
    pub(crate) fn drop_cached(&mut self) {
        let length = self.seen.len();
        self.seen = self.durable.clone();
        self.seen.resize(length, 0);
        for pending in &self.pending {
            put(&mut self.seen, pending.offset, &pending.bytes);
        }
    }
}

/// Writes bytes into a file's image, which grows as needed.
pub(crate) fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}
