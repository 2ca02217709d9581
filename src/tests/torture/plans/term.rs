//! SIGTERM under load, and often a second one soon after: every request that was accepted is answered, and the exit is
//! clean.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ledger::{Entry, Outcome};
use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Stops before an audit; the next leg begins with an empty database.
const STOPS_A_LEG: u32 = 20;

/// Runs the plan on both stores by turns.
pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    let mut left = cycles;
    for leg_number in 0.. {
        let stops = left.min(STOPS_A_LEG.min(cycles.div_ceil(2)));
        if stops == 0 {
            break;
        }
        let dir = tempfile::tempdir().unwrap();
        let database = match leg_number % 2 {
            0 => Database::migrated(Cluster::shared()),
            _ => Database::embedded(dir.path()),
        };
        leg(dir.path(), &database, random, stops, report);
        left -= stops;
    }
}

fn leg(data_dir: &Path, database: &Database, random: &mut Random, stops: u32, report: &mut Report) {
    let mut rig = Rig::start(data_dir, database, Rig::busy(data_dir, database));
    let mut running = Vec::new();
    for _ in 0..stops {
        let since = Instant::now();
        rig.load().wait_for_acks(1 + random.below(100));
        // No wait for a condition: it moves the signal away from the answer that ended the wait above.
        thread::sleep(Duration::from_micros(random.below(5_000)));
        running.push(since..Instant::now());
        let server = rig.take_server(report);
        server.terminate();
        let is_hurried = random.chance(50);
        if is_hurried {
            thread::sleep(Duration::from_micros(random.below(20_000)));
            server.terminate_again();
        }
        let ended = server.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        if is_hurried {
            report.fired("SIGTERM twice");
        } else {
            report.fired("SIGTERM");
            // The flush had enough time, so a stop under load leaves no events unstored.
            assert!(ended.stderr.contains("stopped; 0 events left"), "{}", ended.stderr);
        }
        rig.restart();
    }
    let ledger = rig.finish(report);
    // The server answered every request that it accepted: no stored request lacks an answer.
    assert_eq!(report.unknown_stored(), 0, "stored without an answer");
    // Requests sent before the signal were accepted, and accepted requests were answered.
    let was_before_signal = |entry: &Entry| running.iter().any(|time| time.contains(&entry.sent_at));
    let left_open = ledger.count(|entry| entry.outcome == Outcome::Unknown && was_before_signal(entry));
    assert_eq!(left_open, 0, "sent before the signal, never answered");
    let refused = ledger.count(|entry| matches!(entry.outcome, Outcome::Refused(status) if status != 503));
    assert_eq!(refused, 0, "refused for another reason than the stop");
}
