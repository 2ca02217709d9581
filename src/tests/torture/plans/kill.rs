//! `kill -9` at random times under load, and again while the next server starts.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use crate::support::postgres::Cluster;
use crate::support::process::Launch;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::plans::legs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Kills before an audit; the next leg begins with an empty database.
const KILLS_A_LEG: u32 = 20;

pub(crate) fn on_postgresql(random: &mut Random, cycles: u32, report: &mut Report) {
    for kills in legs(cycles, KILLS_A_LEG) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::migrated(Cluster::shared());
        let launch = Rig::busy(dir.path(), &database);
        leg(dir.path(), &database, launch, random, kills, report);
    }
}

pub(crate) fn on_sqlite(random: &mut Random, cycles: u32, report: &mut Report) {
    for kills in legs(cycles, KILLS_A_LEG) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::embedded(dir.path());
        let launch = Rig::busy(dir.path(), &database);
        leg(dir.path(), &database, launch, random, kills, report);
    }
}

fn leg(
    data_dir: &std::path::Path,
    database: &Database,
    launch: Launch,
    random: &mut Random,
    kills: Range<u32>,
    report: &mut Report,
) {
    let mut rig = Rig::start(data_dir, database, launch);
    for kill in kills {
        rig.load().wait_for_acks(1 + random.below(100));
        // No wait for a condition: it moves the kill away from the answer that ended the wait above.
        thread::sleep(Duration::from_micros(random.below(5_000)));
        rig.take_server(report).kill();
        report.fired("kill -9");
        if kill % 4 == 0 {
            rig.assert_log_is_sound();
        }
        if random.chance(50) {
            kill_during_start(&rig, random, report);
        }
        rig.restart();
    }
    rig.finish(report);
}

/// Kills a start before it is ready, twice in a row: what the first start repaired must not harm the next.
fn kill_during_start(rig: &Rig, random: &mut Random, report: &mut Report) {
    for _ in 0..2 {
        let starting = rig.launch().spawn();
        thread::sleep(Duration::from_micros(random.below(40_000)));
        starting.kill();
        report.fired("kill -9 during start");
    }
}
