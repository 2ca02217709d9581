//! The load test of a long outage: a log of gigabytes that no database has stored. How soon a server that starts on
//! this log accepts events, how much memory it takes, and what flushing an event costs when the database is back.
//!
//! The flushed events are small and the same for every size: the log begins with as many of them as the smallest size
//! holds, which is more than the measurements take. Larger events follow, because they fill a log of 10 GB sooner.
//!
//! The log was written just before, so most of it is in the page cache: these are the costs of the program, not of the
//! disk. A full run takes about 12 GB: 10 GB of log, and what the database stores of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::end_to_end::Loaded;
use crate::support::client::{Client, Pace};
use crate::support::database::Postgres;
use crate::support::requests::{Kind, Requests};
use crate::support::series::{Chart, Series};
use crate::support::servers::{Data, Server};
use crate::support::table::{Row, Table, Target};
use crate::support::{disk, median, process, sizes};

/// Sizes of the log, in gigabytes.
const SIZES_GB: [f64; 2] = [1.0, 10.0];
const SIZES_VARIABLE: &str = "FAST_INGEST_BENCH_BACKLOG";
/// No server listens there.
const UNREACHABLE: &str = "postgres://nobody@127.0.0.1:1/nothing";
/// The drain cannot finish without a database, so the stop need not wait for it.
const ARGUMENTS: [&str; 4] = ["--wal-bytes-max", "24GiB", "--drain-timeout", "1s"];
const STARTS: usize = 3;
/// Events between two looks at the size of the log: 7 MB of small ones, 90 MB of large ones.
const CHUNK_EVENTS: u64 = 200_000;
/// Keeps 16 bulks at once, and their records, below what the server takes into memory.
const LARGE_METADATA_BYTES: usize = 400;
/// The baseline: events that are flushed as they come.
const BASELINE_EVENTS: u64 = 3_000_000;
/// Light traffic while the backlog is flushed.
const LIGHT_RATE: f64 = 1000.0;
const LIGHT_REQUESTS: u64 = 10_000;
const LIGHT_CONNECTIONS: usize = 16;
const MIB: f64 = 1024.0 * 1024.0;

/// Measures all sizes. Returns CPU of the flush against the size of the backlog.
pub(crate) fn run(table: &mut Table) -> Vec<Series> {
    let postgres = Postgres::start();
    let mut points = vec![(0.0, without_backlog(&postgres, table))];
    let directory = disk::fresh_directory();
    // One database for all sizes: it remembers how much of the log it has.
    let url = postgres.fresh_database();
    let sizes_gb = sizes(SIZES_VARIABLE, &SIZES_GB);
    for &size_gb in &sizes_gb {
        let is_smallest = Some(&size_gb) == sizes_gb.first();
        let metadata_bytes = if is_smallest { 0 } else { LARGE_METADATA_BYTES };
        fill(directory.path(), size_gb, metadata_bytes);
        let is_largest = Some(&size_gb) == sizes_gb.last();
        let target = |target| if is_largest { target } else { Target::None };
        let mut add = |what: &str, unit, ours, target| add(size_gb, what, unit, ours, target, table);

        let starts: Vec<_> = (0..STARTS).map(|_| start(directory.path())).collect();
        let middle = |value: fn(&Start) -> f64| median(starts.iter().map(value).collect());
        let first_answer = middle(|start| start.first_answer.as_secs_f64());
        add(
            "time from start to the first 202",
            "s",
            first_answer,
            target(Target::AtMost(1.0)),
        );
        let resident = middle(|start| start.resident_bytes as f64 / MIB);
        add("resident memory at the first 202", "MiB", resident, Target::None);

        let flush = flush(directory.path(), &url);
        let peak = flush.peak_bytes as f64 / MIB;
        add(
            "peak resident memory while flushing",
            "MiB",
            peak,
            target(Target::AtMost(96.0)),
        );
        add(
            "events flushed a second, in light traffic",
            "/s",
            flush.rate,
            Target::None,
        );
        add(
            "CPU of the flush thread a flushed event",
            "µs",
            flush.cpu_micros,
            Target::None,
        );
        points.push((size_gb, flush.cpu_micros));
    }
    if let [(_, none), .., (_, most)] = points[..] {
        table.add(Row {
            layer: "backlog".to_owned(),
            what: "CPU of the flush thread a flushed event, largest backlog over none".to_owned(),
            unit: "µs",
            ours: most,
            limit: Some(none),
            target: Target::None,
        });
    }
    vec![Series {
        chart: Chart::Backlog,
        name: "flush thread",
        points,
    }]
}

fn add(size_gb: f64, what: &str, unit: &'static str, ours: f64, target: Target, table: &mut Table) {
    table.add(Row {
        layer: "backlog".to_owned(),
        what: format!("{size_gb} GB: {what}"),
        unit,
        ours,
        limit: None,
        target,
    });
}

/// CPU of the flush thread for each event, in microseconds, when the database takes events as they come.
fn without_backlog(postgres: &Postgres, table: &mut Table) -> f64 {
    let url = postgres.fresh_database();
    let mut loaded = Loaded::new(Server::ours(Data::fresh(), Some(&url), &[]));
    loaded.store(BASELINE_EVENTS / 10);
    let before = loaded.server.cpu_of_thread("flush");
    loaded.store(BASELINE_EVENTS);
    let cpu = loaded.server.cpu_of_thread("flush") - before;
    let cpu_micros = cpu.as_secs_f64() * 1e6 / BASELINE_EVENTS as f64;
    let what = "CPU of the flush thread a flushed event, in bulk load";
    add(0.0, what, "µs", cpu_micros, Target::None, table);
    cpu_micros
}

fn without_database(directory: &Path) -> Server {
    let data = Data::Lent(directory.to_owned());
    Server::ours(data, Some(UNREACHABLE), &ARGUMENTS)
}

/// Fills the log up to a size.
fn fill(directory: &Path, size_gb: f64, metadata_bytes: usize) {
    let server = without_database(directory);
    let mut loaded = Loaded::with_metadata(server, metadata_bytes);
    let log_bytes = (size_gb * 1e9) as u64;
    let started = Instant::now();
    while loaded.server.health("/log/bytes") < log_bytes {
        loaded.send(CHUNK_EVENTS);
    }
    let events = loaded.acknowledged;
    eprintln!(
        "backlog: {size_gb} GB after {events} more events in {:.1?}",
        started.elapsed()
    );
}

/// What a start took.
struct Start {
    first_answer: Duration,
    resident_bytes: u64,
}

fn start(directory: &Path) -> Start {
    let started = Instant::now();
    let server = without_database(directory);
    while post_event(server.address) != Some(202) {
        thread::sleep(Duration::from_millis(1));
    }
    Start {
        first_answer: started.elapsed(),
        resident_bytes: process::resident(server.pid()),
    }
}

/// Sends one event on a connection of its own; returns the answer's status, if there is an answer.
fn post_event(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    let requests = Requests::new(Kind::Single, 0, 1, SystemTime::now());
    stream.write_all(requests.bytes()).ok()?;
    let mut status_line = [0; 12];
    stream.read_exact(&mut status_line).ok()?;
    std::str::from_utf8(&status_line[9..]).ok()?.parse().ok()
}

/// What flushing took.
struct Flush {
    peak_bytes: u64,
    rate: f64,
    cpu_micros: f64,
}

/// Lets a database take what it can while light traffic goes on.
fn flush(directory: &Path, url: &str) -> Flush {
    let data = Data::Lent(directory.to_owned());
    let server = Server::ours(data, Some(url), &ARGUMENTS);
    let now = SystemTime::now();
    let requests = |index| Requests::new(Kind::Single, index, LIGHT_CONNECTIONS, now);
    let mut client = Client::connect(server.address, LIGHT_CONNECTIONS, requests);
    let progress = || (server.health("/flush/flushed_through"), server.cpu_of_thread("flush"));
    // Begins after the first read of the checkpoint, which says how much of the log the database has.
    let waiting = Instant::now();
    while server.health("/flush/flushed_through") == 0 {
        assert!(waiting.elapsed() < Duration::from_secs(60), "it does not flush");
        thread::sleep(Duration::from_millis(5));
    }
    let (started, (flushed_before, cpu_before)) = (Instant::now(), progress());
    client.run(LIGHT_REQUESTS, Pace::Open(LIGHT_RATE));
    let (elapsed, (flushed_after, cpu_after)) = (started.elapsed(), progress());
    let events = (flushed_after - flushed_before) as f64;
    Flush {
        peak_bytes: process::peak_resident(server.pid()),
        rate: events / elapsed.as_secs_f64(),
        cpu_micros: (cpu_after - cpu_before).as_secs_f64() * 1e6 / events,
    }
}
