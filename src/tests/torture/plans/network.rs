//! Faults between the server and PostgreSQL: connections cut around a COMMIT, silent connections, a transaction that
//! commits long after its sender gave up.

use crate::support::postgres::Cluster;
use crate::support::process::proxy::{Cut, Proxy};
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::plans::legs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Faults before an audit; the next leg begins with an empty database.
const FAULTS_A_LEG: u32 = 24;
/// Requests that must be acknowledged during a fault.
const ACKS_MEANWHILE: u64 = 20;

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    for faults in legs(cycles, FAULTS_A_LEG) {
        leg(faults, random, report);
    }
}

fn leg(faults: std::ops::Range<u32>, random: &mut Random, report: &mut Report) {
    let database = Database::migrated(Cluster::shared());
    let proxy = Proxy::before(&database);
    let dir = tempfile::tempdir().unwrap();
    let launch = Rig::patient(dir.path(), proxy.database());
    let rig = Rig::start_paced(dir.path(), &database, launch);
    for fault in faults {
        rig.load().wait_for_acks(1 + random.below(ACKS_MEANWHILE));
        // By turns, so that any number of cycles meets every kind.
        let name = match fault % 4 {
            0 => {
                proxy.cut(Cut::AfterCommit);
                "answer to COMMIT lost"
            }
            1 => {
                proxy.cut(Cut::BeforeCommit);
                "COMMIT lost"
            }
            2 => {
                proxy.cut(Cut::HoldBegin);
                wait_until_noticed(&rig);
                proxy.release();
                "silent connection"
            }
            _ => {
                proxy.cut(Cut::HoldCommit);
                wait_until_noticed(&rig);
                let before = checkpoint(&database);
                proxy.release();
                // Only the late transaction can move it while it holds the row.
                database.wait_for("committed late", |database| checkpoint(database) > before);
                "late commit of a given-up transaction"
            }
        };
        report.fired(name);
        rig.wait_until_well();
    }
    let ledger = rig.finish(report);
    ledger.assert_all_acknowledged();
}

fn wait_until_noticed(rig: &Rig) {
    rig.server()
        .wait_for_health("retrying", |health| health["flush"]["state"] == "retrying");
    rig.load().wait_for_acks(ACKS_MEANWHILE);
}

fn checkpoint(database: &Database) -> u64 {
    let rows = database.rows("SELECT flushed_through FROM wal_checkpoints");
    rows[0].parse().unwrap()
}
