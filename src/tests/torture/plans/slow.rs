//! A database so slow that the log reaches its cap: refusals before anything is stored, then recovery without a
//! restart.

use std::path::Path;

use crate::support::ledger::Outcome;
use crate::support::postgres::Cluster;
use crate::support::process::proxy::Proxy;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Small, so that the log is full after seconds, and not after hours as in production.
const LOG_BYTES_MAX: u64 = 512 * 1024;
const SEGMENT_BYTES: u64 = 32 * 1024;
/// Far slower than the clients.
const BYTES_PER_SECOND: u64 = 20_000;

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    let database = Database::migrated(Cluster::shared());
    let proxy = Proxy::before(&database);
    let dir = tempfile::tempdir().unwrap();
    let launch = crate::support::process::Launch::new(dir.path(), proxy.database())
        .with("--body-bytes-max", "32KiB")
        .with("--event-bytes-max", "32KiB")
        .with("--wal-segment-bytes", &SEGMENT_BYTES.to_string())
        .with("--wal-bytes-max", &LOG_BYTES_MAX.to_string())
        // Kept segments would come on top of the cap.
        .with("--wal-keep", "0")
        .with("--flush-rows-max", "100")
        .with("--flush-interval", "5ms");
    let rig = Rig::start(dir.path(), &database, launch);
    for _ in 0..cycles {
        rig.load().wait_for_acks(20 + random.below(100));
        proxy.slow_down(Some(BYTES_PER_SECOND));
        rig.load().wait_for_refusals(10 + random.below(20));
        assert_within_cap(dir.path());
        let health = rig.server().request("GET", "/health", "");
        assert_eq!(health.status, 503, "{health:?}");
        assert_eq!(health.json()["status"], "unavailable");
        report.fired("log at its cap");
        proxy.slow_down(None);
        rig.server()
            .wait_for_health("open again", |health| health["status"] == "ok");
    }
    let ledger = rig.finish(report);
    let otherwise = ledger.count(|entry| !matches!(entry.outcome, Outcome::Ack | Outcome::Refused(503)));
    assert_eq!(otherwise, 0, "an answer is a 202, or a 503 while the log is full");
}

fn assert_within_cap(data_dir: &Path) {
    let files = std::fs::read_dir(data_dir.join("wal")).unwrap();
    // A segment may be retired after it was listed.
    let bytes: u64 = files
        .map(Result::unwrap)
        .filter(|file| file.path().extension().is_some_and(|end| end == "wal"))
        .filter_map(|file| file.metadata().ok())
        .map(|file| file.len())
        .sum();
    let most = LOG_BYTES_MAX + SEGMENT_BYTES;
    assert!(bytes <= most, "{bytes} bytes of log are beyond {most}");
}
