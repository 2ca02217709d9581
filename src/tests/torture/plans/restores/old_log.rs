//! An older copy of the log's directory is restored, and a supervisor starts its server again and again while clients
//! write.

use std::path::Path;
use std::time::Duration;

use crate::support::ledger::{Load, Outcome};
use crate::support::random::Random;
use crate::torture::logs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

use super::{ACKS_BETWEEN, Stage};

/// First client numbers: of the older log, and of the older log once it is adopted.
const CLIENTS_OF_THE_OLD_LOG: u32 = 100;
const CLIENTS_ONCE_ADOPTED: u32 = 200;
const CLIENTS: u32 = 2;
const PACE: Duration = Duration::from_millis(2);
/// Starts by the supervisor.
const STARTS_MAX: u64 = 3;
/// Requests that must be refused at each start.
const REFUSALS: u64 = 3;

/// Two copies of a log.
struct Copies {
    /// The server that wrote to the newer log, which is set aside until it may go on.
    rig: Rig,
    newer: tempfile::TempDir,
    /// Last sequence of the older log, which is in the newer one's place.
    old_end: u64,
}

/// The database answers, so the older log is refused before it accepts anything. After the newer log is put back all is
/// well.
pub(super) fn with_its_database(stage: &Stage<'_>, random: &mut Random, report: &mut Report) {
    let copies = put_old_log_back(stage, random, report);
    let mut old = start_clients(stage, copies.rig.launch());
    for start in 0..=random.below(STARTS_MAX) {
        if start > 0 {
            restart(&mut old, random, report);
        }
        old.load().wait_for_refusals(REFUSALS);
        logs::assert_refused(&old);
    }
    report.fired("old log");
    let refused = old.give_up(report);
    let others = refused.count(|entry| entry.outcome == Outcome::Ack);
    assert_eq!(others, 0, "the old log took events");
    assert_eq!(logs::end_of(stage.dir()).unwrap(), copies.old_end);
    put_back(copies.newer.path(), stage.dir());
    let mut rig = copies.rig;
    rig.restart();
    let mut ledger = rig.finish(report);
    ledger.entries.extend(refused.entries);
    ledger.verify(&stage.database.events());
}

/// The database is down, so the older log accepts events. They are not lost when the mismatch is found: they are in
/// that log, and can be stored from there.
pub(super) fn without_its_database(stage: &Stage<'_>, random: &mut Random, report: &mut Report) {
    let copies = put_old_log_back(stage, random, report);
    let checkpoint = stage.checkpoint();
    let proxied = stage.proxy.leading_to(&stage.database);
    stage.proxy.shut();
    let launch = Rig::busy(stage.dir(), &proxied).with("--drain-timeout", "100ms");
    let mut old = start_clients(stage, &launch);
    for _ in 0..random.below(STARTS_MAX) {
        old.load().wait_for_acks(1 + random.below(ACKS_BETWEEN));
        restart(&mut old, random, report);
    }
    let is_grown = random.chance(50);
    if is_grown {
        old.server().wait_for_health("past the checkpoint", |health| {
            health["log"]["durable_through"].as_u64() > Some(checkpoint)
        });
    } else {
        old.load().wait_for_acks(1 + random.below(ACKS_BETWEEN));
    }
    stage.proxy.open();
    old.load().wait_for_refusals(REFUSALS);
    logs::assert_refused(&old);
    for _ in 0..random.below(STARTS_MAX) {
        restart(&mut old, random, report);
        old.load().wait_for_refusals(REFUSALS);
        logs::assert_refused(&old);
    }
    report.fired(if is_grown {
        "old log, grown past the checkpoint"
    } else {
        "old log, database away"
    });
    let taken = old.give_up(report);

    let aside = tempfile::tempdir().unwrap();
    put_back(stage.dir(), aside.path());
    put_back(copies.newer.path(), stage.dir());
    let mut rig = copies.rig;
    rig.restart();
    // No event that the older log accepted is there, all others are.
    let mut ledger = rig.finish(report);
    let waiting = logs::end_of(aside.path()).unwrap() - copies.old_end;
    let acknowledged = taken.clone().withhold(|sequence| sequence > copies.old_end);
    assert!(
        acknowledged <= waiting,
        "{acknowledged} are acknowledged, {waiting} wait"
    );

    let from = (copies.old_end + 1).to_string();
    let adopted = logs::adopt(aside.path(), &stage.database, &["--from", &from, "--yes"]);
    assert_eq!(adopted.code(), 0, "{adopted:?}");
    let launch = Rig::busy(aside.path(), &stage.database);
    let server = launch.start();
    let clients = CLIENTS_ONCE_ADOPTED..CLIENTS_ONCE_ADOPTED + CLIENTS;
    let load = Load::start_numbered(server.address(), clients, PACE);
    let adopted = Rig::around(aside.path(), &stage.database, launch, server, load);
    let (since, database) = adopted.finish_unchecked(report);
    ledger.entries.extend(taken.entries);
    ledger.entries.extend(since.entries);
    ledger.verify(&database.events());
    report.fired("old log adopted");
}

/// Copies the log, lets its server go on and stop, and puts the copy in the place of the log.
fn put_old_log_back(stage: &Stage<'_>, random: &mut Random, report: &mut Report) -> Copies {
    let mut rig = stage.start(stage.launch(), random);
    end(&mut rig, random, report);
    let (old, newer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    logs::copy(stage.dir(), old.path());
    let old_end = logs::end_of(old.path()).unwrap();
    rig.restart();
    rig.load().wait_for_acks(1 + random.below(ACKS_BETWEEN));
    stage.wait_until_beyond(old_end);
    end(&mut rig, random, report);
    put_back(stage.dir(), newer.path());
    put_back(old.path(), stage.dir());
    Copies { rig, newer, old_end }
}

/// Moves the log of a data directory to another one, whose own log is replaced.
fn put_back(from: &Path, to: &Path) {
    if to.join("wal").exists() {
        logs::remove(to);
    }
    logs::copy(from, to);
    logs::remove(from);
}

/// Starts the server of the older log, for clients of its own.
fn start_clients(stage: &Stage<'_>, launch: &crate::support::process::Launch) -> Rig {
    let server = launch.start();
    let clients = CLIENTS_OF_THE_OLD_LOG..CLIENTS_OF_THE_OLD_LOG + CLIENTS;
    let load = Load::start_numbered(server.address(), clients, PACE);
    Rig::around(stage.dir(), &stage.database, launch.clone(), server, load)
}

fn restart(rig: &mut Rig, random: &mut Random, report: &mut Report) {
    end(rig, random, report);
    rig.restart();
    report.fired("old log restarted");
}

fn end(rig: &mut Rig, random: &mut Random, report: &mut Report) {
    let server = rig.take_server(report);
    if random.chance(50) {
        server.kill();
    } else {
        server.stop();
    }
}
