//! Several servers on one database: each with its own log, twins on copies of one log, and processes that compete for
//! one directory.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::ledger::Load;
use crate::support::postgres::{Cluster, StopMode};
use crate::support::process::stored::Database;
use crate::support::process::{Launch, Server};
use crate::support::random::Random;
use crate::torture::logs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Exit status of a process that finds its directory locked (`sysexits`).
const LOCKED: i32 = 75;

/// Two logs, one database: each log has a checkpoint of its own.
pub(crate) fn two_logs(random: &mut Random, cycles: u32, report: &mut Report) {
    let database = Database::migrated(Cluster::shared());
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Both checkpoints are at 0 before either log gets an event.
    let other = Rig::busy(other_dir.path(), &database);
    let mut other_server = other.start();
    let mut rig = Rig::start(dir.path(), &database, Rig::busy(dir.path(), &database));
    let load = Load::start_numbered(other_server.address(), 100..102, Duration::ZERO);
    for _ in 0..cycles {
        load.wait_for_acks(1 + random.below(50));
        rig.load().wait_for_acks(1 + random.below(50));
        if random.chance(50) {
            other_server.kill();
            other_server = other.start();
            load.go_on_at(other_server.address());
        } else {
            rig.take_server(report).kill();
            rig.restart();
        }
        report.fired("kill -9 of one of two servers");
    }
    load.wait_for_acks(30);
    let mut ledger = load.finish();
    other_server.wait_until_flushed();
    other_server.stop();
    let (own, database) = rig.finish_unchecked(report);
    ledger.entries.extend(own.entries);
    report.add(ledger.audit(&database.events()));
}

/// A copy of a log runs beside the original, as after cloning a machine: events that both hold are stored once, by one
/// of them.
pub(crate) fn twins(random: &mut Random, cycles: u32, report: &mut Report) {
    let cluster = Cluster::start();
    let database = Database::migrated(&cluster);
    let dir = tempfile::tempdir().unwrap();
    // Batches of one size, so that both try the same moves of the checkpoint.
    let launch = Launch::new(dir.path(), &database)
        .with("--flush-rows-max", "50")
        .with("--flush-interval", "5ms");
    let mut rig = Rig::start_paced(dir.path(), &database, launch.clone());
    for _ in 0..cycles {
        // The database is down, so both have events left to store.
        cluster.stop(StopMode::Fast);
        rig.load().wait_for_acks(50 + random.below(100));
        rig.take_server(report).kill();
        let copy = tempfile::tempdir().unwrap();
        logs::copy(dir.path(), copy.path());
        // No client may connect before both have stored what they share.
        let mut twin = launch.in_directory(copy.path()).spawn();
        let mut original = launch.spawn();
        cluster.start_again();
        twin.wait_until_ready();
        original.wait_until_ready();
        let has_stored = [&twin, &original].map(Server::is_flushed_before_it_is_refused);
        twin.stop();
        original.stop();
        match has_stored {
            [true, false] => {
                // The twin is the log from now on.
                logs::remove(dir.path());
                logs::copy(copy.path(), dir.path());
                report.fired("twin of a log that was first");
            }
            [false, true] => report.fired("twin of a log that was second"),
            both_or_none => panic!("stored all: {both_or_none:?}"),
        }
        rig.restart();
    }
    rig.finish(report);
}

/// A second process on the directory of a first one, running or frozen, ends before it touches anything.
pub(crate) fn one_directory(random: &mut Random, cycles: u32, report: &mut Report) {
    let database = Database::migrated(Cluster::shared());
    let dir = tempfile::tempdir().unwrap();
    let links = tempfile::tempdir().unwrap();
    let link = links.path().join("same");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    let launch = Rig::busy(dir.path(), &database);
    let mut rig = Rig::start(dir.path(), &database, launch.clone());
    for _ in 0..cycles {
        rig.load().wait_for_acks(1 + random.below(100));
        let second = if random.chance(50) {
            launch.in_directory(&link)
        } else {
            launch.clone()
        };
        let is_frozen = random.chance(50);
        if is_frozen {
            rig.server().signal(Signal::STOP);
        }
        let ended = second.run_to_end();
        ended.assert_refusal(LOCKED, &["another fast-ingest process"]);
        if is_frozen {
            rig.server().signal(Signal::CONT);
            report.fired("second process beside a stopped one");
        } else {
            report.fired("second process");
        }
        if random.chance(30) {
            rig.take_server(report).kill();
            // The lock ended with the process.
            rig.restart();
        }
    }
    rig.finish(report);
}
