//! The load tests: every layer against what limits it, in one run on one machine. One file per layer; `make bench`
//! prints the table.
//!
//! `cargo bench -- parse` runs one layer. `make bench-report` writes `REPORT.md` too.
//!
//! Linux only: costs are read from `/proc`, and the load is driven by epoll.

#![allow(clippy::print_stdout, reason = "what a bench finds out goes there")]

#[cfg(target_os = "linux")]
mod backlog;
#[cfg(target_os = "linux")]
mod choice;
#[cfg(target_os = "linux")]
#[path = "../src/store/postgres/copy.rs"]
mod copy;
#[cfg(target_os = "linux")]
mod end_to_end;
#[cfg(target_os = "linux")]
mod flush_postgres;
#[cfg(target_os = "linux")]
mod flush_sqlite;
#[cfg(target_os = "linux")]
#[path = "../src/testing/disk/forwarding.rs"]
mod forwarding;
#[cfg(target_os = "linux")]
mod group_commit;
#[cfg(target_os = "linux")]
mod growth;
#[cfg(target_os = "linux")]
mod http_ingest;
#[cfg(target_os = "linux")]
mod metrics_query;
#[cfg(target_os = "linux")]
mod parse;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod support;

#[cfg(target_os = "linux")]
#[path = "../src/tests/support/postgres.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "it belongs to the tests, and they use the rest"
)]
mod postgres;
#[cfg(target_os = "linux")]
use choice::Choice;
#[cfg(target_os = "linux")]
use support::traffic;

#[cfg(target_os = "linux")]
use std::process::ExitCode;
#[cfg(target_os = "linux")]
use std::time::Duration;

#[cfg(target_os = "linux")]
use criterion::Criterion;
// Code that benches and product share (the rows of COPY, the forwarding disk) names these modules by `crate::`.
#[cfg(target_os = "linux")]
use fast_ingest::{event, wal};

/// The server's allocator: the programs that it is compared with get the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the load tests need Linux: they count costs in /proc");
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, role, address] = &arguments[..]
        && role == support::servers::BARE_SERVER
    {
        support::servers::serve_bare(address);
        return ExitCode::SUCCESS;
    }
    let selection = match Choice::of(&arguments[1..]) {
        Choice::Run(selection) => selection,
        Choice::Nothing => return ExitCode::SUCCESS,
        Choice::Say(text) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Choice::Refuse(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    // Readers use the table: neither plots nor fine confidence intervals are worth their time.
    let mut criterion = Criterion::default()
        .without_plots()
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    support::process::allow_open_files();
    let mut table = support::table::Table::default();
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
    if table.rows.is_empty() && series.is_empty() {
        eprintln!("{}", selection.finds_nothing());
        return ExitCode::from(2);
    }
    println!("\n{table}");
    if let Some(directory) = std::env::var_os(report::DIRECTORY_VARIABLE) {
        report::write(directory.as_ref(), &table, &series);
    }
    ExitCode::SUCCESS
}
