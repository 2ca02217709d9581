//! Parse, validate and encode a body, against merely parsing it with serde_json into borrowed structs.

#[path = "support/mod.rs"]
mod support;

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fast_ingest::event::parse;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The floor that a Rust user would get: the same fields, nothing checked, nothing encoded.
#[derive(Deserialize)]
#[allow(dead_code, reason = "only parsed")]
struct BorrowedEvent<'a> {
    #[serde(borrow)]
    event_name: Cow<'a, str>,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    timestamp: u64,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

fn parse_bulk(criterion: &mut Criterion) {
    for with_metadata in [false, true] {
        let mut group = criterion.benchmark_group(if with_metadata {
            "parse/metadata"
        } else {
            "parse/plain"
        });
        for events in [1, 100, 1000] {
            let body = support::bulk_body(events, with_metadata);
            group.throughput(Throughput::Elements(events as u64));
            group.bench_with_input(BenchmarkId::new("ours", events), &body, |bencher, body| {
                let mut record = Vec::with_capacity(body.len());
                bencher.iter(|| {
                    record.clear();
                    parse::parse_bulk(
                        black_box(body.as_bytes()),
                        1000,
                        support::now(),
                        &mut record,
                    )
                    .expect("a valid body")
                });
            });
            group.bench_with_input(
                BenchmarkId::new("serde_json", events),
                &body,
                |bencher, body| {
                    bencher.iter(|| {
                        let events: Vec<BorrowedEvent> =
                            serde_json::from_slice(black_box(body.as_bytes()))
                                .expect("a valid body");
                        events.len()
                    });
                },
            );
        }
        group.finish();
    }
}

criterion_group!(benches, parse_bulk);
criterion_main!(benches);
