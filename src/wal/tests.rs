//! The log on real files; some tests use a simulated disk, or wrap the real one to make it fail.

mod bit_flips;
mod committer;
mod crafted;
mod end;
mod exhaustive;
mod golden;
pub(crate) mod ledger;
mod power_cut;
mod reader;
mod recovery;
mod swarm;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use super::committer::Committer;
use super::disk::{Disk, RealDisk};
use super::log::Log;
use super::open::{OpenedLog, open};
use super::{WalError, segment};
use crate::event::{EventRef, Timestamp, codec};
use crate::intake::Intake;
use crate::support::budget::Budget;
use crate::support::sync::ring::Receiver;
use crate::wal::batch::Batch;
use crate::wal::id::Sequence;
use crate::wal::refusal::Refusal;
use crate::wal::settings::{SyncMode, WalSettings};
use crate::wal::submission::{EncodedRecord, Submission};

/// A directory for one test, and settings that point at it.
pub(crate) struct LogPlace {
    dir: TempDir,
}

impl LogPlace {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("wal")
    }

    pub(crate) fn settings(&self) -> WalSettings {
        WalSettings {
            dir: self.path(),
            sync: SyncMode::Group,
            ring_slots: 64,
            bytes_max: 1 << 30,
            segment_bytes: 1 << 20,
            keep_bytes: 0,
            disk_free_min: 0,
        }
    }

    /// The segment files, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        segments_in(&self.path())
    }
}

fn segments_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| segment::sequence_of(path).is_some()).collect();
    paths.sort();
    paths
}

/// A log with its thread.
pub(crate) struct Running<D: Disk = RealDisk> {
    pub(crate) log: Arc<Log<D>>,
    intake: Intake,
    thread: JoinHandle<Result<(), WalError>>,
    cut_bytes: u64,
}

pub(crate) fn start(settings: &WalSettings) -> Running {
    start_on(RealDisk, settings).unwrap()
}

pub(crate) fn start_on<D: Disk>(disk: D, settings: &WalSettings) -> Result<Running<D>, WalError> {
    let OpenedLog {
        log,
        committer,
        gate,
        torn_tail,
    } = open(disk, settings)?;
    let (intake, ring) = Intake::new(settings.ring_slots, Budget::new(1 << 30), gate);
    let thread = spawn(committer, ring);
    Ok(Running {
        log,
        intake,
        thread,
        cut_bytes: torn_tail.map_or(0, |tail| tail.bytes),
    })
}

fn spawn<D: Disk>(committer: Committer<D>, ring: Receiver<Submission>) -> JoinHandle<Result<(), WalError>> {
    thread::spawn(move || committer.run(&ring))
}

impl<D: Disk> Running<D> {
    /// Submits one record of the given users and waits for its ack: the sequence of its last event.
    pub(crate) fn append(&self, users: &[u64]) -> Result<Sequence, Refusal> {
        block_on(self.submit(users))
    }

    pub(crate) async fn submit(&self, users: &[u64]) -> Result<Sequence, Refusal> {
        let record = record_of(users);
        let admission = self.intake.admit(1000 * users.len())?;
        self.intake.submit(admission, record).await
    }

    /// Lets the log thread drain the ring and end.
    pub(crate) fn stop(self) -> Result<(), WalError> {
        drop(self.intake);
        self.thread.join().unwrap()
    }

    /// The users of all durable events after `after`, as the flush would see them.
    pub(crate) fn read_after(&self, after: Sequence) -> Result<Vec<u64>, WalError> {
        let mut reader = super::reader::LogReader::new(Arc::clone(&self.log), after);
        let mut users = Vec::new();
        let mut batch = Batch::new(self.log.wal_id(), after);
        loop {
            batch.reset(after + users.len() as u64);
            reader.fill(&mut batch, 5, 1 << 20)?;
            if batch.is_empty() {
                return Ok(users);
            }
            users.extend(batch.view().events().map(|event| event.user_id.parse::<u64>().unwrap()));
        }
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn record_of(users: &[u64]) -> EncodedRecord {
    let mut record = EncodedRecord::with_capacity_for(1000 * users.len());
    for user in users {
        encode_user(*user, record.buffer());
    }
    record.set_event_count(users.len() as u32);
    record
}

fn encode_user(user: u64, out: &mut Vec<u8>) {
    let event = EventRef {
        event_name: "view",
        channel: "web",
        user_id: &user.to_string(),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
        event_id: None,
        campaign_id: None,
        tags: None,
        metadata: None,
    };
    codec::encode(&event, out);
}
