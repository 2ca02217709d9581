//! An older state is restored: of the log's directory, of the database, or of the database without its checkpoint.

mod old_database;
mod old_log;

use std::path::Path;

use tempfile::TempDir;

use crate::support::postgres::Cluster;
use crate::support::process::proxy::Proxy;
use crate::support::process::stored::Database;
use crate::support::process::{Ended, Launch};
use crate::support::random::Random;
use crate::torture::report::Report;
use crate::torture::rig::Rig;
use crate::torture::{gaps, logs};

/// Requests that must be acknowledged between two steps.
const ACKS_BETWEEN: u64 = 60;

/// What is restored to an older state.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Log,
    /// An older log, while the database is down.
    LogInTheDark,
    /// A database whose missing events the log still has.
    Database,
    /// A database whose missing events the log no longer has.
    DatabaseBeyondTheLog,
    /// A database without the log's checkpoint.
    NoCheckpoint,
}

const KINDS: [(Kind, Store); 9] = [
    (Kind::Log, Store::Postgres),
    (Kind::Database, Store::Postgres),
    (Kind::LogInTheDark, Store::Postgres),
    (Kind::Database, Store::Sqlite),
    (Kind::DatabaseBeyondTheLog, Store::Postgres),
    (Kind::NoCheckpoint, Store::Sqlite),
    (Kind::Log, Store::Sqlite),
    (Kind::NoCheckpoint, Store::Postgres),
    (Kind::DatabaseBeyondTheLog, Store::Sqlite),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Postgres,
    Sqlite,
}

/// What all cycles share, and the directory and database of one cycle.
struct Stage<'a> {
    cluster: &'a Cluster,
    /// Shared by all cycles: its threads end only with the process.
    proxy: &'a Proxy,
    dir: TempDir,
    database: Database,
}

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    let cluster = Cluster::start();
    let proxy = Proxy::before(&Database::empty(&cluster));
    for cycle in 0..cycles {
        // By turns, so that any number of cycles meets every kind.
        let (kind, store) = KINDS[cycle as usize % KINDS.len()];
        let dir = tempfile::tempdir().unwrap();
        let database = match store {
            Store::Postgres => Database::migrated(&cluster),
            Store::Sqlite => Database::embedded(dir.path()),
        };
        let stage = Stage {
            cluster: &cluster,
            proxy: &proxy,
            dir,
            database,
        };
        match kind {
            Kind::Log => old_log::with_its_database(&stage, random, report),
            Kind::LogInTheDark => old_log::without_its_database(&stage, random, report),
            Kind::Database => old_database::within_the_log(&stage, random, report),
            Kind::DatabaseBeyondTheLog => old_database::beyond_the_log(&stage, random, report),
            Kind::NoCheckpoint => no_checkpoint(&stage, random, report),
        }
        if store == Store::Postgres {
            stage.database.discard();
        }
    }
}

impl Stage<'_> {
    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn launch(&self) -> Launch {
        Rig::keeping(self.dir(), &self.database)
    }

    /// A server under load, with some events stored.
    fn start(&self, launch: Launch, random: &mut Random) -> Rig {
        let rig = Rig::start_lightly(self.dir(), &self.database, launch);
        rig.load().wait_for_acks(1 + random.below(ACKS_BETWEEN));
        rig
    }

    /// The sequence of the only checkpoint.
    fn checkpoint(&self) -> u64 {
        let rows = self.database.rows("SELECT flushed_through FROM wal_checkpoints");
        rows[0].parse().unwrap()
    }

    /// Waits until the checkpoint is beyond a sequence.
    #[track_caller]
    fn wait_until_beyond(&self, sequence: u64) {
        self.database.wait_for("stored", |_| self.checkpoint() > sequence);
    }
}

/// The checkpoint is deleted: the flush waits for an answer and goes on after the events that were stored before.
fn no_checkpoint(stage: &Stage<'_>, random: &mut Random, report: &mut Report) {
    let mut rig = stage.start(stage.launch(), random);
    stage.wait_until_beyond(0);
    let mut from = None;
    let name = match random.below(3) {
        0 => "checkpoint deleted beside its server",
        1 => {
            rig.take_server(report).stop();
            "checkpoint deleted"
        }
        _ => {
            rig.take_server(report).kill();
            "checkpoint deleted after a kill"
        }
    };
    // The last commit of a killed server may still take place: the deleted row itself has the final sequence.
    let deleted = "DELETE FROM wal_checkpoints RETURNING flushed_through";
    let through: u64 = stage.database.rows(deleted)[0].parse().unwrap();
    if name == "checkpoint deleted after a kill" {
        // The log may not know whether that commit took place, but a person who inspects the database does.
        from = Some(through + 1);
    }
    if let Some(from) = from {
        assert_offered(from, &logs::adopt(stage.dir(), &stage.database, &[]));
    }
    if !rig.is_running() {
        rig.restart();
    }
    let skipped = gaps::answer(&rig, "no checkpoint of this log", from);
    assert_eq!(*skipped.start(), 1);
    report.fired(name);
    rig.finish(report);
}

/// Asserts that the log knows where to go on, or names the two possible sequences.
#[track_caller]
fn assert_offered(from: u64, asked: &Ended) {
    match asked.code() {
        0 => assert!(
            asked.stdout.contains(&format!("at sequence {from};")),
            "not {from}: {asked:?}"
        ),
        _ => asked.assert_refusal(logs::CONFIG, &[&format!("--from {from} ")]),
    }
}
