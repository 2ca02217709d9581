//! The load tests: every layer against what limits it, in one run on one machine. One file a layer; `make bench` prints the table.
//!
//! `cargo bench -- parse` runs one layer.

#![allow(clippy::print_stdout, reason = "what a bench finds out goes there")]

mod backlog;
#[path = "../src/store/postgres/copy.rs"]
mod copy;
mod end_to_end;
mod flush_postgres;
mod flush_sqlite;
mod group_commit;
mod growth;
mod http_ingest;
mod metrics_query;
mod parse;
mod support;

#[path = "../src/tests/postgres.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "it belongs to the tests, and they use the rest"
)]
mod postgres;
use support::traffic;

use std::time::Duration;

use criterion::Criterion;
// The rows of COPY are made by the same code on both sides; it knows the event by this name.
use fast_ingest::event;

/// The server's: what it is compared with gets the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, role, address] = &arguments[..]
        && role == support::servers::BARE_SERVER
    {
        support::servers::serve_bare(address);
        return;
    }
    // `cargo test --benches` only wants to know that it builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    // The table is what is read: neither plots nor fine confidence intervals are worth their time.
    let mut criterion = Criterion::default()
        .without_plots()
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    support::process::allow_open_files();
    let mut table = support::table::Table::default();
    let selection = support::Selection::of(&arguments);
    let mut series = Vec::new();
    if selection.has("parse") {
        parse::run(&mut criterion, &selection, &mut table);
    }
    if selection.has("group_commit") {
        group_commit::run(&mut criterion, &mut table);
    }
    if selection.has("flush_sqlite") {
        flush_sqlite::run(&mut criterion, &mut table);
    }
    if selection.has("flush_postgres") {
        flush_postgres::run(&mut criterion, &mut table);
    }
    if selection.has("http_ingest") {
        series.extend(http_ingest::run(&mut criterion, &selection, &mut table));
    }
    if selection.has("end_to_end") {
        end_to_end::run(&mut criterion, &mut table);
    }
    if selection.has("growth") {
        series.extend(growth::run(&mut table));
    }
    if selection.has("backlog") {
        series.extend(backlog::run(&mut table));
    }
    if selection.has("metrics_query") {
        metrics_query::run(&mut criterion, &mut table);
    }
    println!("\n{table}");
}
