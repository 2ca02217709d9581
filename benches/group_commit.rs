//! Append, sync and ack for a number of waiters, against bare write and fdatasync of the same bytes on the same disk.

#[path = "support/mod.rs"]
mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fast_ingest::config::{SyncMode, WalSettings};
use fast_ingest::event::parse;
use fast_ingest::intake::{Budget, EncodedRecord, Intake};
use fast_ingest::wal::disk::RealDisk;
use tempfile::TempDir;
use tokio::runtime::Builder;

fn record() -> EncodedRecord {
    let body = support::bulk_body(1, true);
    let mut record = EncodedRecord::with_capacity_for(body.len());
    let events = parse::parse_bulk(body.as_bytes(), 1, support::now(), record.buffer())
        .expect("a valid body");
    record.set_event_count(events);
    record
}

fn group_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group_commit");
    for waiters in [1_usize, 16, 64, 256] {
        group.throughput(Throughput::Elements(waiters as u64));
        group.bench_with_input(
            BenchmarkId::new("ours", waiters),
            &waiters,
            |bencher, &waiters| {
                let dir = TempDir::new_in("target").expect("a directory on the disk under test");
                let settings = WalSettings {
                    dir: dir.path().join("wal"),
                    sync: SyncMode::Group,
                    ring_slots: 1024,
                    bytes_max: 1 << 40,
                    segment_bytes: 64 << 20,
                    disk_free_min: 0,
                };
                let opened = fast_ingest::wal::open(RealDisk, &settings).expect("a fresh log");
                let (intake, ring) =
                    Intake::new(settings.ring_slots, Budget::new(1 << 30), opened.gate);
                let committer = opened.committer;
                let log_thread = thread::spawn(move || committer.run(&ring));
                let runtime = Builder::new_current_thread().build().expect("a runtime");
                bencher.iter(|| {
                    runtime.block_on(async {
                        let mut pending = Vec::with_capacity(waiters);
                        for _ in 0..waiters {
                            let admission = intake.admit(1024).expect("there is room");
                            let mut submission = Box::pin(intake.submit(admission, record()));
                            // The first poll puts it on the ring.
                            std::future::poll_fn(|context| {
                                let polled = submission.as_mut().poll(context);
                                assert!(
                                    polled.is_pending()
                                        || matches!(polled, std::task::Poll::Ready(Ok(_)))
                                );
                                if polled.is_pending() {
                                    std::task::Poll::Ready(None)
                                } else {
                                    std::task::Poll::Ready(Some(()))
                                }
                            })
                            .await
                            .map_or_else(|| pending.push(submission), |()| ());
                        }
                        for submission in pending {
                            submission.await.expect("synced");
                        }
                    });
                });
                drop(intake);
                log_thread.join().expect("no panic").expect("no failure");
            },
        );
        group.bench_with_input(
            BenchmarkId::new("write_fdatasync", waiters),
            &waiters,
            |bencher, &waiters| {
                let dir = TempDir::new_in("target").expect("a directory on the disk under test");
                let file = File::create(dir.path().join("bare")).expect("a file");
                let mut record = record();
                let bytes = record.buffer().repeat(waiters);
                let mut offset = 0;
                bencher.iter(|| {
                    file.write_all_at(&bytes, offset).expect("written");
                    file.sync_data().expect("synced");
                    offset += bytes.len() as u64;
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, group_commit);
criterion_main!(benches);
