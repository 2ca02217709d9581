//! kill -9 at any moment, under load, during recovery, again and again: nothing acknowledged is lost, nothing is stored twice.

use std::path::Path;
use std::time::Duration;

use crate::ledger::{Ledger, Load, Outcome};
use crate::postgres::Cluster;
use crate::process::stored::Database;
use crate::process::{Launch, run};
use crate::random::Random;

const KILLS: u64 = 16;
const CLIENTS: u32 = 4;

#[test]
fn kill_9_under_load_loses_and_doubles_nothing_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    survives_kills(dir.path(), &Database::embedded(dir.path()));
}

#[test]
fn kill_9_under_load_loses_and_doubles_nothing_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    survives_kills(dir.path(), &Database::migrated(Cluster::shared()));
}

fn survives_kills(data_dir: &Path, database: &Database) {
    let mut random = Random::from_environment();
    // Small segments and batches: kills meet rotations, retirements and many transactions.
    let launch = Launch::new(data_dir, database)
        .with("--wal-segment-bytes", "64KiB")
        .with("--flush-rows-max", "200")
        .with("--flush-interval", "5ms");
    let server = launch.start();
    let load = Load::start(server.address(), CLIENTS);
    load.wait_for_acks(50);
    let mut server = Some(server);
    for kill in 0..KILLS {
        load.wait_for_acks(1 + random.below(150));
        // Not a wait for anything: it moves the kill away from the answer that ended the wait above.
        std::thread::sleep(Duration::from_micros(random.below(5_000)));
        server.take().unwrap().kill();
        assert_log_is_sound(data_dir, database);
        if kill % 2 == 0 {
            kill_during_recovery(&launch, &mut random);
        }
        let restarted = server.insert(launch.start());
        load.go_on_at(restarted.address());
    }
    load.wait_for_acks(50);
    let ledger = load.finish();
    let server = server.unwrap();
    server.wait_until_flushed();
    server.stop();
    assert_log_is_sound(data_dir, database);

    let unknown_stored = ledger.verify(&database.events());
    let unknown = ledger.count(|entry| entry.outcome == Outcome::Unknown);
    assert_faults_were_real(&ledger, unknown);
    assert_eq!(database.rows("SELECT count(*) FROM quarantine"), ["0"]);
    eprintln!(
        "{} requests, {unknown} of them without an answer, {unknown_stored} of these stored",
        ledger.entries.len()
    );
}

/// Kills a start before it is ready, twice in a row: what it had mended must not harm the next.
fn kill_during_recovery(launch: &Launch, random: &mut Random) {
    for _ in 0..2 {
        let starting = launch.spawn();
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        starting.kill();
    }
}

fn assert_log_is_sound(data_dir: &Path, database: &Database) {
    let mut arguments = vec!["wal", "inspect", "--data-dir", data_dir.to_str().unwrap()];
    if let Database::Postgres(url) = database {
        arguments.extend(["--database-url", url]);
    }
    let inspected = run(&arguments);
    assert_eq!(inspected.code(), 0, "{inspected:?}");
}

/// Requests were cut off by the kills, and each server between two kills acknowledged some.
fn assert_faults_were_real(ledger: &Ledger, unknown: usize) {
    assert!(unknown >= KILLS as usize / 2, "only {unknown} were cut off");
    let refused = ledger.count(|entry| matches!(entry.outcome, Outcome::Refused(_)));
    assert_eq!(refused, 0, "nothing was full");
}
