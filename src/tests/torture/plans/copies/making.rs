//! How a directory is copied: at rest, file by file while it is written to, or at one moment.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::process::{LOOK_AGAIN, PATIENCE, Server};
use crate::support::random::Random;
use crate::torture::logs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Requests that are acknowledged during one of the first attempts to copy a busy directory.
const ACKS_MEANWHILE: u64 = 100;
const SLOW_COPIES: u32 = 3;
/// Most torn copies in a row.
const TORN_MAX: u32 = 50;

/// How a directory is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Its server has ended: the image of a machine on which it once ran.
    Stopped,
    /// `cp -r` while the server writes.
    Running,
    /// All at one moment: a snapshot of the volume.
    Frozen,
}

/// Copies the log. Returns the last sequence that both copies then have.
pub(super) fn copy(way: Way, original: &Rig, to: &Path, random: &mut Random, report: &mut Report) -> u64 {
    match way {
        Way::Stopped => logs::copy(original.data_dir(), to),
        Way::Frozen => {
            freeze(original.server());
            logs::copy(original.data_dir(), to);
            original.server().signal(Signal::CONT);
        }
        Way::Running => return copy_until_whole(original, to, random, report),
    }
    logs::end_of(to).expect("a copy of a whole log is whole")
}

/// Copies a log that is being written to, until a server accepts the copy.
fn copy_until_whole(original: &Rig, to: &Path, random: &mut Random, report: &mut Report) -> u64 {
    for attempt in 0..TORN_MAX {
        // The first attempts are slow, like copies of a large log.
        let is_slow = attempt < SLOW_COPIES && original.load().has_clients();
        let acks = if is_slow { random.below(ACKS_MEANWHILE) } else { 0 };
        logs::copy_running(original.data_dir(), to, random, || {
            original.load().wait_for_acks(acks);
        });
        let torn = match logs::end_of(to) {
            Ok(end) => return end,
            Err(torn) => torn,
        };
        // The flush would find damage in the middle of the log, which this plan does not test.
        if !torn.stdout.contains(logs::FOUND_LATER) {
            let ended = original.launch().in_directory(to).run_to_end();
            ended.assert_refusal(logs::DATA, &["damage"]);
        }
        report.fired("torn copy refused");
        logs::remove(to);
    }
    panic!("{TORN_MAX} copies in a row are torn");
}

/// Stops a process with SIGSTOP. On return none of its threads runs.
pub(super) fn freeze(server: &Server) {
    server.signal(Signal::STOP);
    let threads = format!("/proc/{}/task", server.pid());
    let deadline = Instant::now() + PATIENCE;
    let is_stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap();
        // The name before it may hold any character.
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    while !fs::read_dir(&threads)
        .unwrap()
        .all(|thread| is_stopped(thread.unwrap()))
    {
        assert!(Instant::now() < deadline, "it does not stop");
        thread::sleep(LOOK_AGAIN);
    }
}
