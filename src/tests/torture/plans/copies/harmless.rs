//! Copies that are harmless and must not be refused: a log moved to another machine by a snapshot, after which its
//! first server never runs again, and an embedded database copied with its log.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{CLIENTS, CLIENTS_OF_THE_COPY, PACE, making};
use crate::support::ledger::Load;
use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::logs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Requests that must be acknowledged between two steps.
const ACKS_MAX: u64 = 100;

/// A snapshot replaces the log, whose server has not gone further.
pub(super) fn move_beside_postgresql(random: &mut Random, report: &mut Report) {
    let database = Database::migrated(Cluster::shared());
    let dir = tempfile::tempdir().unwrap();
    move_by_snapshot(dir.path(), &database, random, report);
    report.fired("moved by a snapshot");
    database.discard();
}

/// A snapshot replaces the log, but not its embedded database.
pub(super) fn move_beside_sqlite(random: &mut Random, report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    move_by_snapshot(dir.path(), &database, random, report);
    report.fired("moved by a snapshot, beside SQLite");
}

fn move_by_snapshot(data_dir: &Path, database: &Database, random: &mut Random, report: &mut Report) {
    let mut rig = Rig::start(data_dir, database, Rig::busy(data_dir, database));
    rig.load().wait_for_acks(1 + random.below(ACKS_MAX));
    let server = rig.take_server(report);
    let snapshot = tempfile::tempdir().unwrap();
    making::freeze(&server);
    logs::copy(data_dir, snapshot.path());
    server.kill();
    logs::remove(data_dir);
    logs::copy(snapshot.path(), data_dir);
    rig.restart();
    rig.finish(report);
}

/// The whole state of a server with an embedded database is copied: each copy is complete and independent of the other.
pub(super) fn database_and_all(random: &mut Random, report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::embedded(dir.path());
    let launch = Rig::busy(dir.path(), &database);
    let mut original = Rig::start_lightly(dir.path(), &database, launch.clone());
    original.load().wait_for_acks(1 + random.below(ACKS_MAX));
    let is_frozen = random.chance(50);
    let copied = if is_frozen {
        making::freeze(original.server());
        let copied = copy_all(dir.path());
        original.server().signal(Signal::CONT);
        copied
    } else {
        super::end(original.take_server(report), random.chance(50));
        let copied = copy_all(dir.path());
        original.restart();
        copied
    };
    let shared = logs::end_of(copied.path()).unwrap();
    let copied_database = Database::embedded(copied.path());
    let launch = launch.in_directory(copied.path());
    let server = launch.start();
    let clients = CLIENTS_OF_THE_COPY..CLIENTS_OF_THE_COPY + CLIENTS;
    let load = Load::start_numbered(server.address(), clients, PACE);
    let copy = Rig::around(copied.path(), &copied_database, launch, server, load);
    copy.load().wait_for_acks(1 + random.below(ACKS_MAX));
    let ledger = original.finish(report);
    let (mut copys, _) = copy.finish_unchecked(report);
    let before = ledger.entries.iter().filter(|entry| entry.through <= Some(shared));
    copys.entries.extend(before);
    report.add(copys.audit(&copied_database.events()));
    report.fired(if is_frozen {
        "snapshot with its database"
    } else {
        "image with its database"
    });
}

/// Copies a data directory with everything in it.
fn copy_all(data_dir: &Path) -> TempDir {
    let copied = tempfile::tempdir().unwrap();
    logs::copy(data_dir, copied.path());
    for file in fs::read_dir(data_dir).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), copied.path().join(file.file_name())).unwrap();
        }
    }
    copied
}
