//! A backup of the database is restored: events that the log has kept are stored again, others are named, and skipped
//! on a person's word.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::postgres::StopMode;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::gaps;
use crate::torture::logs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

use super::{ACKS_BETWEEN, Stage};

/// The flush's words when it stores kept events again.
const HEALS: &str = "the database has gone back from sequence";
/// The files of an embedded database.
const SQLITE_FILES: [&str; 3] = ["events.db", "events.db-wal", "events.db-shm"];

/// The log reaches back before the backup: no person has to act.
pub(super) fn within_the_log(stage: &Stage<'_>, random: &mut Random, report: &mut Report) {
    let mut rig = stage.start(stage.launch(), random);
    let backup = back_up(stage, &mut rig, report);
    // More than one commit, or the log could not tell that one is missing.
    stage.wait_until_beyond(backup.through);
    stage.wait_until_beyond(stage.checkpoint());
    rig.load().wait_for_acks(1 + random.below(ACKS_BETWEEN));
    restore(stage, &mut rig, backup, random, report);
    rig.server().wait_for_log(HEALS);
    rig.wait_until_well();
    report.fired(match stage.database {
        Database::Postgres(_) => "old PostgreSQL healed",
        Database::Sqlite(_) => "old SQLite healed",
    });
    rig.finish(report);
}

/// The log keeps nothing that the database has: events after the backup are lost, unless they are in the newest
/// segment.
pub(super) fn beyond_the_log(stage: &Stage<'_>, random: &mut Random, report: &mut Report) {
    let mut rig = stage.start(stage.launch().with("--wal-keep", "0"), random);
    let backup = back_up(stage, &mut rig, report);
    stage
        .database
        .wait_for("rotated", |_| logs::oldest_of(stage.dir()) > backup.through + 1);
    rig.load().wait_for_acks(1 + random.below(ACKS_BETWEEN));
    restore(stage, &mut rig, backup, random, report);
    let gap = gaps::answer(&rig, "are neither in it nor in the log any more", None);
    report.fired(match stage.database {
        Database::Postgres(_) => "gap in PostgreSQL adopted",
        Database::Sqlite(_) => "gap in SQLite adopted",
    });
    gaps::finish_with(&[gap], rig, report);
}

/// A copy of the database.
struct Backup {
    /// The files of an embedded database.
    files: Option<TempDir>,
    /// An upper bound of the copy's checkpoint.
    through: u64,
}

/// Copies the database as it is now. With PostgreSQL the server goes on meanwhile.
fn back_up(stage: &Stage<'_>, rig: &mut Rig, report: &mut Report) -> Backup {
    let files = match stage.database {
        Database::Postgres(_) => {
            stage.cluster.stop(StopMode::Fast);
            stage.cluster.back_up();
            stage.cluster.start_again();
            None
        }
        Database::Sqlite(_) => {
            rig.take_server(report).stop();
            let files = tempfile::tempdir().unwrap();
            copy_files(stage.dir(), files.path());
            rig.restart();
            Some(files)
        }
    };
    Backup {
        files,
        through: stage.checkpoint(),
    }
}

/// Restores the backup. With PostgreSQL the server goes on meanwhile, or is started afterwards.
fn restore(stage: &Stage<'_>, rig: &mut Rig, backup: Backup, random: &mut Random, report: &mut Report) {
    let is_running = backup.files.is_none() && random.chance(50);
    if !is_running {
        let server = rig.take_server(report);
        if random.chance(50) {
            server.kill();
        } else {
            server.stop();
        }
    }
    match backup.files {
        None => {
            stage.cluster.stop(random.pick(&[StopMode::Fast, StopMode::Immediate]));
            stage.cluster.restore();
            stage.cluster.start_again();
        }
        Some(files) => {
            for name in SQLITE_FILES {
                fs::remove_file(stage.dir().join(name)).ok();
            }
            copy_files(files.path(), stage.dir());
        }
    }
    if !is_running {
        rig.restart();
    }
}

fn copy_files(from: &Path, to: &Path) {
    for name in SQLITE_FILES {
        let file = from.join(name);
        if file.exists() {
            fs::copy(file, to.join(name)).unwrap();
        }
    }
}
