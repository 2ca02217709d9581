//! Append, sync and ack for a number of waiters, against bare write and fdatasync of as many bytes on the same disk.
//!
//! Every waiter submits its next event as soon as the last one is acked, as clients on keep-alive connections do. So a
//! group is whatever came in during the sync before, and there are more syncs than rounds of all waiters: they are
//! counted at the disk.

mod counting;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use fast_ingest::event::parse;
use fast_ingest::intake::Intake;
use fast_ingest::support::budget::Budget;
use fast_ingest::wal::disk::RealDisk;
use fast_ingest::wal::settings::{SyncMode, WalSettings};
use fast_ingest::wal::submission::EncodedRecord;
use fast_ingest::wal::{self, WalError};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use self::counting::Counts;
use crate::forwarding::ForwardingDisk;
use crate::support::disk::{BareFile, fresh_directory};
use crate::support::table::{Row, Table, Target};
use crate::support::{bulk_body, median, now, paired};

const WAITERS: [usize; 4] = [1, 16, 64, 256];
/// The number of waiters that has a target.
const WAITERS_OF_TARGET: usize = 64;
/// Turns of each contender. Many short ones: how long a sync takes changes from one second to the next.
const ROUNDS: usize = 21;
/// How long a turn should take.
const TURN: Duration = Duration::from_millis(100);
/// Events of each waiter in the trial turn, which shows how many fit into [`TURN`].
const EVENTS_OF_TRIAL: u64 = 50;

/// Measures all numbers of waiters.
pub(crate) fn run(criterion: &mut Criterion, table: &mut Table) {
    let mut group = criterion.benchmark_group("group_commit");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    for waiters in WAITERS {
        let template = encoded_event();
        let mut log = RunningLog::open();
        let mut bare = BareFile::create();
        compare(&mut log, &mut bare, &template, waiters, table);
        group.throughput(Throughput::Elements(waiters as u64));
        group.bench_function(BenchmarkId::new("ours", waiters), |bencher| {
            bencher.iter_custom(|events| log.turn(&template, waiters, events).elapsed);
        });
        // One group of all waiters at a time: the best case.
        let bytes = template.repeat(waiters);
        group.bench_function(BenchmarkId::new("write_fdatasync", waiters), |bencher| {
            bencher.iter(|| bare.append_and_sync(&bytes));
        });
        log.close();
    }
    group.finish();
}

fn compare(log: &mut RunningLog, bare: &mut BareFile, template: &[u8], waiters: usize, table: &mut Table) {
    let trial = log.turn(template, waiters, EVENTS_OF_TRIAL);
    let turns = TURN.as_secs_f64() / trial.elapsed.as_secs_f64();
    let events_each = (EVENTS_OF_TRIAL as f64 * turns).ceil() as u64;
    let last = Cell::new(trial);
    let event_rates = RefCell::new(Vec::new());
    let medians = paired::medians(
        ROUNDS,
        || {
            let turn = log.turn(template, waiters, events_each);
            last.set(turn);
            let events = waiters as u64 * events_each;
            let rate = |count: u64| count as f64 / turn.elapsed.as_secs_f64();
            event_rates.borrow_mut().push(rate(events));
            rate(turn.syncs)
        },
        || {
            let Turn { syncs, bytes, .. } = last.get();
            let group_bytes = usize::try_from(bytes / syncs).expect("a group fits into memory");
            let group = vec![b'x'; group_bytes];
            let started = Instant::now();
            for _ in 0..syncs {
                bare.append_and_sync(&group);
            }
            syncs as f64 / started.elapsed().as_secs_f64()
        },
    );
    let mut add = |what: &str, ours, limit, target| {
        table.add(Row {
            layer: "group_commit".to_owned(),
            what: format!("{waiters} waiters: {what}"),
            unit: "/s",
            ours,
            limit: Some(limit),
            target,
        });
    };
    let target = match waiters {
        WAITERS_OF_TARGET => Target::RatioAtLeast(0.95),
        _ => Target::None,
    };
    add("syncs a second", medians.ours, medians.limit, target);
    // The rate if each sync answered all waiters.
    let events_max = medians.limit * waiters as f64;
    let events = median(event_rates.into_inner());
    add("events a second", events, events_max, Target::None);
}

/// An event with metadata, as the log takes it.
fn encoded_event() -> Vec<u8> {
    let body = bulk_body(1, true);
    let mut record = EncodedRecord::with_capacity_for(body.len());
    parse::parse_bulk(body.as_bytes(), 1, now(), record.buffer()).expect("a valid body");
    record.buffer().clone()
}

fn record_of(template: &[u8]) -> EncodedRecord {
    let mut record = EncodedRecord::with_capacity_for(template.len());
    record.buffer().clear();
    record.buffer().extend_from_slice(template);
    record.set_event_count(1);
    record
}

/// The log with its thread, and a runtime whose tasks wait for it.
struct RunningLog {
    intake: Arc<Intake>,
    counts: Arc<Counts>,
    thread: JoinHandle<Result<(), WalError>>,
    runtime: Runtime,
    _directory: TempDir,
}

/// What happened in a turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    elapsed: Duration,
    syncs: u64,
    bytes: u64,
}

impl RunningLog {
    fn open() -> Self {
        let directory = fresh_directory();
        let settings = WalSettings {
            dir: directory.path().join("wal"),
            sync: SyncMode::Group,
            ring_slots: 1024,
            bytes_max: 1 << 40,
            segment_bytes: 64 << 20,
            keep_bytes: 0,
            disk_free_min: 0,
        };
        let counts = Arc::<Counts>::default();
        let disk = ForwardingDisk {
            disk: RealDisk,
            hook: Arc::clone(&counts),
        };
        let opened = wal::open(disk, &settings).expect("a fresh log");
        let (intake, ring) = Intake::new(settings.ring_slots, Budget::new(1 << 30), opened.gate);
        let committer = opened.committer;
        Self {
            intake: Arc::new(intake),
            counts,
            thread: thread::spawn(move || committer.run(&ring)),
            runtime: Builder::new_current_thread().build().expect("a runtime"),
            _directory: directory,
        }
    }

    /// Every waiter submits this many events, one after the other.
    fn turn(&mut self, template: &[u8], waiters: usize, events_each: u64) -> Turn {
        let records = || (0..events_each).map(|_| record_of(template)).collect();
        // Made before the clock starts: in a server, other threads do that.
        let records_of_all: Vec<Vec<_>> = (0..waiters).map(|_| records()).collect();
        let (syncs, bytes) = self.counts.read();
        let started = Instant::now();
        self.runtime.block_on(async {
            let submitting = records_of_all
                .into_iter()
                .map(|records| tokio::spawn(submit_all(Arc::clone(&self.intake), records)));
            for task in submitting.collect::<Vec<_>>() {
                task.await.expect("no panic");
            }
        });
        let elapsed = started.elapsed();
        let (syncs_after, bytes_after) = self.counts.read();
        Turn {
            elapsed,
            syncs: syncs_after - syncs,
            bytes: bytes_after - bytes,
        }
    }

    /// Ends the log's thread.
    fn close(self) {
        drop(self.intake);
        let outcome = self.thread.join().expect("no panic");
        outcome.expect("the disk works");
    }
}

async fn submit_all(intake: Arc<Intake>, records: Vec<EncodedRecord>) {
    for mut record in records {
        let admission = intake.admit(record.buffer().len());
        let admission = admission.expect("the log and the budget are large");
        let submitted = intake.submit(admission, record).await;
        submitted.expect("the ring holds all waiters");
    }
}
