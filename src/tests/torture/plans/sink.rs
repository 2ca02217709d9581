//! A stderr that takes no log lines: full, closed, its reader gone, its reader asleep. Only log lines may be lost.

use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::thread;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::postgres::Cluster;
use crate::support::process::Server;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::plans::legs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// One fault of each kind in a leg; the next leg is on the other store.
const FAULTS_A_LEG: u32 = 4;
/// SIGHUPs for a server whose lost lines are not counted.
const HANGUPS: u32 = 20;

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    for (leg_number, faults) in legs(cycles, FAULTS_A_LEG).enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let database = match leg_number % 2 {
            0 => Database::embedded(dir.path()),
            _ => Database::migrated(Cluster::shared()),
        };
        // A server that starts without a stderr cannot name a port that the system picked.
        let launch = Rig::busy(dir.path(), &database)
            .with("--log", "trace")
            .on_port(free_port());
        let mut rig = Rig::start(dir.path(), &database, launch);
        for fault in faults {
            rig.load().wait_for_acks(1 + random.below(50));
            rig.take_server(report).stop();
            match fault % FAULTS_A_LEG {
                0 => full(&mut rig, report),
                1 => closed(&mut rig, report),
                2 => reader_gone(&mut rig, report),
                _ => reader_asleep(&mut rig, report),
            }
            rig.assert_log_is_sound();
            rig.restart();
        }
        rig.finish(report);
    }
}

fn full(rig: &mut Rig, report: &mut Report) {
    let device = File::create(Path::new("/dev/full")).unwrap();
    let server = rig.launch().start_with_stderr(device);
    rig.go_on_with(server);
    lose_lines(rig.server());
    end(rig, report);
    report.fired("stderr full");
}

fn closed(rig: &mut Rig, report: &mut Report) {
    let launch = rig.launch().clone().through_shell("exec \"$@\" 2>&-");
    rig.go_on_with(launch.start_with_stderr(Stdio::null()));
    // The standard library replaces a closed stderr by /dev/null, so no line counts as lost.
    for _ in 0..HANGUPS {
        rig.server().signal(Signal::HUP);
        assert_eq!(lost(&rig.server().health()), 0);
    }
    end(rig, report);
    report.fired("stderr closed");
}

fn reader_gone(rig: &mut Rig, report: &mut Report) {
    let (reader, writer) = io::pipe().unwrap();
    // The reader must read while the server starts: it logs more than a pipe holds.
    let reading = thread::spawn(move || read_until_ready(reader));
    let server = rig.launch().start_with_stderr(writer);
    reading.join().unwrap();
    rig.go_on_with(server);
    lose_lines(rig.server());
    end(rig, report);
    report.fired("reader of stderr gone");
}

/// Reads up to the line that says that the server is ready, then closes the pipe, as `head` does.
fn read_until_ready(reader: PipeReader) {
    let mut lines = BufReader::new(reader).lines();
    let is_ready = lines.any(|line| line.is_ok_and(|line| line.contains("ready: listening")));
    assert!(is_ready, "the server ended, or said nothing");
}

fn reader_asleep(rig: &mut Rig, report: &mut Report) {
    let (_reader, writer) = io::pipe().unwrap();
    fill(&writer);
    let server = rig.launch().start_with_stderr(writer);
    rig.go_on_with(server);
    // Lines are lost once the queue before the blocked write is full too.
    lose_lines(rig.server());
    end(rig, report);
    report.fired("stderr blocks");
}

/// Fills a pipe completely and leaves it blocking, as a server inherits it.
fn fill(mut writer: &PipeWriter) {
    let flags = fcntl_getfl(writer).unwrap();
    fcntl_setfl(writer, flags | OFlags::NONBLOCK).unwrap();
    for chunk in [&[b'\n'; 4096][..], b"\n"] {
        while writer.write_all(chunk).is_ok() {}
    }
    fcntl_setfl(writer, flags).unwrap();
}

/// Makes the server log until lines are lost. None of these signals ends the server.
#[track_caller]
fn lose_lines(server: &Server) {
    server.wait_for_health("a lost line", |health| {
        server.signal(Signal::HUP);
        lost(health) > 0
    });
}

fn lost(health: &Value) -> u64 {
    health["log_lines_dropped"].as_u64().expect("a count")
}

/// Still under load: events are accepted, SIGHUP ends nothing, SIGTERM drains.
#[track_caller]
fn end(rig: &mut Rig, report: &mut Report) {
    rig.server().signal(Signal::HUP);
    rig.load().wait_for_acks(30);
    rig.server().wait_for_health("well", |health| {
        health["status"] == "ok" && health["flush"]["flushed_through"].as_u64() > Some(0)
    });
    let server = rig.take_server(report);
    server.terminate();
    server.signal(Signal::HUP);
    let ended = server.wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
