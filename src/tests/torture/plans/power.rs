//! A real kernel, a real file system, a power cut: ext4 on a loop device is shut down without its journal, so that
//! writes and syncs fail from then on, and data that was not synced is gone after the next mount. Needs root.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::mounts::{Mount, unavailable};
use crate::torture::plans::legs;
use crate::torture::plans::syscalls::strace_works;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Cuts before an audit; the next leg begins with an empty database.
const CUTS_A_LEG: u32 = 25;
const IMAGE_BYTES: u64 = 256 * 1024 * 1024;
/// Delay of each sync, longer than a disk would take: here a sync takes microseconds, so data seen in the log would be
/// synced long before the cut, which takes some milliseconds.
const SLOW_SYNC: &str = "inject=fdatasync:delay_enter=30000";
/// Exit status when the disk fails (`sysexits`).
const IO: i32 = 74;

pub(crate) fn cut(random: &mut Random, cycles: u32, report: &mut Report) {
    if let Some(reason) = unavailable(&["mount", "mkfs.ext4", "perl"]) {
        report.skip(reason);
        return;
    }
    if let Err(reason) = strace_works() {
        report.skip(reason);
        return;
    }
    for cuts in legs(cycles, CUTS_A_LEG) {
        if let Err(reason) = cut_leg(cuts, random, report) {
            report.skip(reason);
            return;
        }
    }
    // If every cut found everything synced, the plan would prove nothing.
    let with_loss = report.count("power cut that lost unsynced bytes");
    let wanted = u64::from(cycles) * 3 / 10;
    assert!(with_loss >= wanted, "only {with_loss} of {cycles} cuts lost bytes");
}

fn cut_leg(cuts: Range<u32>, random: &mut Random, report: &mut Report) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let (image, at) = (dir.path().join("image"), dir.path().join("mount"));
    Mount::make_ext4(&image, IMAGE_BYTES)?;
    let mut mount = Mount::image(&image, &at)?;
    let data_dir = at.join("data");
    let database = Database::migrated(Cluster::shared());
    // The disk is smaller than the default of `--disk-free-min`.
    let launch = Rig::busy(&data_dir, &database).with("--disk-free-min", "0");
    let slowed = launch
        .clone()
        .traced(Path::new("/dev/null"), &["trace=fdatasync", SLOW_SYNC]);
    let mut rig = Rig::start(&data_dir, &database, slowed);
    for _ in cuts {
        rig.load().wait_for_acks(1 + random.below(60));
        // No wait for a condition: it moves the cut away from the answer that ended the wait above.
        thread::sleep(Duration::from_micros(random.below(30_000)));
        let wal_dir = data_dir.join("wal");
        // Read before the cut, because a file system that is shut down cannot be read.
        let seen = contents(&wal_dir);
        let dark_since = Instant::now();
        mount.cut_power();
        let server = rig.take_server(report);
        if random.chance(50) {
            // The server notices the fault by itself.
            let ended = server.wait();
            assert_eq!(ended.code(), IO, "{}", ended.stderr);
            report.fired("write or sync failed on a real file system");
        } else {
            server.kill_or_find_ended();
        }
        drop(mount);
        mount = Mount::image(&image, &at)?;
        let has_lost = has_lost(&seen, &contents(&wal_dir));
        report.fired(match has_lost {
            true => "power cut that lost unsynced bytes",
            false => "power cut",
        });
        rig.assert_log_is_sound();
        // The kernel runs on without power, and a sync that is under way may even succeed. No client could receive such
        // an answer.
        rig.note_dark(dark_since..Instant::now());
        rig.restart();
    }
    // strace does not pass signals on.
    rig.take_server(report).kill_or_find_ended();
    rig.go_on_with(launch.start());
    rig.finish(report);
    drop(mount);
    Ok(())
}

/// The log's files as the running kernel shows them. A file that is retired meanwhile is left out.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let content = |file: fs::DirEntry| {
        let name = file.file_name().to_string_lossy().into_owned();
        Some((name, fs::read(file.path()).ok()?))
    };
    files.filter_map(content).collect()
}

/// Whether a file that is still there lacks bytes that were seen in it. Zeros at its end do not count: the log
/// preallocates with them.
fn has_lost(seen: &BTreeMap<String, Vec<u8>>, left: &BTreeMap<String, Vec<u8>>) -> bool {
    seen.iter().any(|(name, seen)| {
        let written = seen.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        left.get(name).is_some_and(|left| !left.starts_with(&seen[..written]))
    })
}
