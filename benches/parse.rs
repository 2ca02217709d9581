//! Parse, validate and encode a body, against only parsing it with serde_json into borrowed structs, and against only
//! copying it.

use std::hint::black_box;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput};
use fast_ingest::event::parse;

use crate::choice::Selection;
use crate::support::table::{Row, Table, Target};
use crate::support::{borrowed, bulk_body, now, paired};

const EVENTS: [usize; 3] = [1, 100, 1000];
/// Turns of each contender.
const ROUNDS: usize = 15;
/// Events of a turn: some milliseconds.
const EVENTS_A_TURN: usize = 20_000;

/// Measures bodies of all sizes.
pub(crate) fn run(criterion: &mut Criterion, selection: &Selection, table: &mut Table) {
    for (kind, with_metadata) in [("plain", false), ("metadata", true)] {
        let name = format!("parse/{kind}");
        if !selection.has(&name) {
            continue;
        }
        let mut group = criterion.benchmark_group(&name);
        for events in EVENTS {
            let body = bulk_body(events, with_metadata).into_bytes();
            let (mut record, mut copy) = (Vec::new(), Vec::new());
            let mut ours = || encode(&body, &mut record);
            let mut memcpy = || copy_body(&body, &mut copy);
            let mut add = |against: &str, medians: paired::Medians| {
                table.add(Row {
                    layer: "parse".to_owned(),
                    what: format!("{kind}, bodies of {events}: an event, against {against}"),
                    unit: "ns",
                    ours: medians.ours,
                    limit: Some(medians.limit),
                    target: Target::None,
                });
            };
            let medians = paired::medians(
                ROUNDS,
                || nanos_an_event(events, &mut ours),
                || nanos_an_event(events, || borrowed::parse_bulk(&body)),
            );
            add("serde_json", medians);
            let medians = paired::medians(
                ROUNDS,
                || nanos_an_event(events, &mut ours),
                || nanos_an_event(events, &mut memcpy),
            );
            add("a copy", medians);
            group.throughput(Throughput::Elements(events as u64));
            group.bench_function(BenchmarkId::new("ours", events), |bencher| {
                bencher.iter(&mut ours);
            });
            group.bench_function(BenchmarkId::new("serde_json", events), |bencher| {
                bencher.iter(|| borrowed::parse_bulk(&body));
            });
            group.bench_function(BenchmarkId::new("memcpy", events), |bencher| {
                bencher.iter(&mut memcpy);
            });
        }
        group.finish();
    }
}

fn encode(body: &[u8], record: &mut Vec<u8>) {
    record.clear();
    let events_max = EVENTS[EVENTS.len() - 1];
    let events = parse::parse_bulk(black_box(body), events_max, now(), record);
    black_box(events.expect("a valid body"));
    black_box(record);
}

/// Copies into a buffer that exists already, as [`encode`] does.
fn copy_body(body: &[u8], copy: &mut Vec<u8>) {
    copy.clear();
    copy.extend_from_slice(black_box(body));
    black_box(copy);
}

fn nanos_an_event(events: usize, mut pass: impl FnMut()) -> f64 {
    let passes = EVENTS_A_TURN / events;
    let started = Instant::now();
    for _ in 0..passes {
        pass();
    }
    started.elapsed().as_secs_f64() * 1e9 / (passes * events) as f64
}
