//! Faults of the log's own disk: failing system calls, a full disk, a directory that is moved away or read-only.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use crate::support::ledger::Outcome;
use crate::support::postgres::{Cluster, StopMode};
use crate::support::process::stored::Database;
use crate::support::process::{LOOK_AGAIN, Launch, PATIENCE};
use crate::support::random::Random;
use crate::torture::mounts::{Mount, unavailable};
use crate::torture::plans::legs;
use crate::torture::plans::syscalls::strace_works;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Exit status when the disk fails (`sysexits`).
const IO: i32 = 74;
/// Exit status when a setting does not fit (`sysexits`).
const CONFIG: i32 = 78;
/// Faults before an audit; the next leg begins with an empty database.
const FAULTS_A_LEG: u32 = 24;
const DISK_BYTES: u64 = 16 * 1024 * 1024;
const BALLAST_BYTES: u64 = 12 * 1024 * 1024;
const FLOOR_BYTES: u64 = 6 * 1024 * 1024;

/// System calls of the log thread and how they fail. `fsync` is for directories, `fdatasync` for the log.
const ERRORS: [(&str, &str); 5] = [
    ("fdatasync:error=EIO", "fdatasync: EIO"),
    ("pwrite64:error=EIO", "write: EIO"),
    ("pwrite64:error=ENOSPC", NO_ROOM),
    ("fdatasync:error=ENOSPC", "fdatasync: ENOSPC"),
    ("fsync:error=EIO", "directory sync: EIO"),
];

/// The one fault that does not end the server: a write that finds no room is taken back, and the request refused.
const NO_ROOM: &str = "write: ENOSPC";

/// A failing system call ends the server, and the file is not touched again. Only a write that finds no room ends
/// nothing.
pub(crate) fn errors(random: &mut Random, cycles: u32, report: &mut Report) {
    if let Err(reason) = strace_works() {
        report.skip(reason);
        return;
    }
    for faults in legs(cycles, FAULTS_A_LEG) {
        errors_leg(faults, random, report);
    }
}

fn errors_leg(faults: std::ops::Range<u32>, random: &mut Random, report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::migrated(Cluster::shared());
    // Small segments, so that rotations sync directories.
    let launch = Rig::tiny(dir.path(), &database);
    let mut rig = Rig::start(dir.path(), &database, launch.clone());
    rig.take_server(report).kill();
    let trace = dir.path().join("trace");
    for fault in faults {
        let (call, name) = ERRORS[fault as usize % ERRORS.len()];
        // The fault strikes once, or from then on. The first calls of a thread belong to the start.
        let lasts = if random.chance(50) { "+" } else { "" };
        let inject = format!("inject={call}:when={}{lasts}", 1 + random.below(40));
        let traced = launch
            .clone()
            .traced(&trace, &["trace=fdatasync,pwrite64,fsync", &inject]);
        let mut server = traced.spawn();
        if server.is_ready() {
            rig.load().go_on_at(server.address());
        }
        if name == NO_ROOM {
            // Even a fault during the start may only lead to a refusal.
            if server.is_ready() {
                wait_until_injected(&trace);
                server.kill();
            } else {
                server.wait().assert_refusal(IO, &["free some space"]);
            }
        } else {
            let ended = server.wait();
            assert_eq!(ended.code(), IO, "{name}: {}", ended.stderr);
            assert_not_touched_after_failure(&fs::read_to_string(&trace).unwrap());
        }
        report.fired(name);
    }
    rig.restart();
    rig.finish(report);
}

fn wait_until_injected(trace: &Path) {
    let give_up_at = Instant::now() + PATIENCE;
    while fs::read_to_string(trace).is_ok_and(|trace| !trace.contains("(INJECTED)")) {
        assert!(Instant::now() < give_up_at, "nothing failed");
        thread::sleep(LOOK_AGAIN);
    }
}

/// Asserts, by the trace of all calls, that no write or sync of a file follows a failed one. Files are identified by
/// number and path: another file soon gets the same number.
#[track_caller]
fn assert_not_touched_after_failure(trace: &str) {
    let mut failed = Vec::new();
    for line in trace.lines() {
        let Some((call, arguments)) = line.split_once('(') else {
            continue;
        };
        let file = arguments.split([',', ')', ' ']).next().unwrap_or_default();
        assert!(!failed.contains(&file), "touched again: {line}\n{trace}");
        // The flush may sync a directory again: no acknowledged event depends on it.
        if line.contains("(INJECTED)") && !call.ends_with(" fsync") {
            failed.push(file);
        }
    }
    assert!(trace.contains("(INJECTED)"), "nothing failed:\n{trace}");
}

/// The disk fills up: with `--disk-free-min` the server refuses in time, without it when a write finds no room. Either
/// way it accepts again by itself once there is room.
pub(crate) fn full(random: &mut Random, cycles: u32, report: &mut Report) {
    if let Some(reason) = unavailable(&["mount"]) {
        report.skip(reason);
        return;
    }
    for cycle in 0..cycles {
        let has_floor = cycle % 2 == 0;
        if let Err(reason) = fill(has_floor, random, report) {
            report.skip(reason);
            return;
        }
    }
}

fn fill(has_floor: bool, random: &mut Random, report: &mut Report) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(&dir.path().join("mount"), DISK_BYTES)?;
    let at = dir.path().join("mount");
    let data_dir = at.join("data");
    let ballast = at.join("ballast");
    let cluster = Cluster::start();
    let database = Database::migrated(&cluster);
    let floor = if has_floor { FLOOR_BYTES } else { 0 };
    let launch = Rig::patient(&data_dir, &database).with("--disk-free-min", &floor.to_string());
    let mut rig = Rig::start_paced(&data_dir, &database, launch);
    rig.load().wait_for_acks(random.below(100));
    cluster.stop(StopMode::Fast);
    fill_file(&ballast);
    rig.load().wait_for_refusals(20);
    let health = rig.server().request("GET", "/health", "");
    assert_eq!(health.status, 503, "{health:?}");
    report.fired(match has_floor {
        true => "disk at its floor",
        false => "disk full",
    });
    if random.chance(50) {
        // A start must find exactly what was acknowledged there.
        rig.take_server(report).kill();
        fs::remove_file(&ballast).unwrap();
        rig.restart();
    } else {
        fs::remove_file(&ballast).unwrap();
    }
    rig.load().wait_for_acks(20);
    cluster.start_again();
    let ledger = rig.finish(report);
    let refused_otherwise = ledger.count(|entry| matches!(entry.outcome, Outcome::Refused(status) if status != 503));
    assert_eq!(refused_otherwise, 0, "refused for another reason");
    drop(mount);
    Ok(())
}

/// Fills a disk with one file.
fn fill_file(path: &Path) {
    fs::write(path, vec![1; usize::try_from(BALLAST_BYTES).unwrap()]).unwrap();
}

/// The log's directory is moved away under the server, which ends instead of acknowledging events that are not in it;
/// once the directory is moved back, all events are there.
pub(crate) fn moved(random: &mut Random, cycles: u32, report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::migrated(Cluster::shared());
    let launch = Rig::busy(dir.path(), &database);
    let mut rig = Rig::start(dir.path(), &database, launch.clone());
    let (here, away) = (dir.path().join("wal"), dir.path().join("away"));
    for _ in 0..cycles {
        rig.load().wait_for_acks(1 + random.below(100));
        fs::rename(&here, &away).unwrap();
        let ended = rig.take_server(report).wait();
        assert_eq!(ended.code(), IO, "{}", ended.stderr);
        report.fired("directory moved away");
        assert!(!here.exists(), "nothing was made in its place");
        fs::rename(&away, &here).unwrap();
        if random.chance(50) && start_read_only(dir.path(), &launch) {
            report.fired("start on a read-only directory");
        }
        rig.restart();
    }
    rig.finish(report);
}

/// Asserts that a start on a read-only directory is refused, and changes nothing. False where we may not mount.
fn start_read_only(data_dir: &Path, launch: &Launch) -> bool {
    if unavailable(&["mount"]).is_some() {
        return false;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let at = elsewhere.path().join("read-only");
    let Ok(mount) = Mount::read_only(data_dir, &at) else {
        return false;
    };
    let before = contents(&data_dir.join("wal"));
    let ended = launch.in_directory(&at).run_to_end();
    ended.assert_refusal(CONFIG, &["--data-dir must be a directory"]);
    assert_eq!(contents(&data_dir.join("wal")), before);
    drop(mount);
    true
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let content = |file: fs::DirEntry| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name, fs::read(file.path()).unwrap())
    };
    let mut files: Vec<_> = files.map(content).collect();
    files.sort();
    files
}

#[test]
#[should_panic(expected = "touched again")]
fn a_sync_that_is_tried_again_is_noticed() {
    assert_not_touched_after_failure(
        "7 fdatasync(4</log/1.wal>) = -1 EIO (Input/output error) (INJECTED)\n7 fdatasync(4</log/1.wal>) = 0\n",
    );
}

#[test]
fn another_file_of_the_same_number_is_another_file() {
    assert_not_touched_after_failure(
        "7 pwrite64(4</log/new>, \"\", 0, 0) = -1 EIO (Input/output error) (INJECTED)\n8 fsync(4</log>) = 0\n",
    );
}
