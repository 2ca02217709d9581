//! How a directory is copied: at rest, file after file while it is written to, or all at one moment.

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
/// So many copies of it may be torn in a row.
const TORN_MAX: u32 = 50;

/// How a directory is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Its server has ended: the image of a machine in which it ran once.
    Stopped,
    /// `cp -r` while the server writes.
    Running,
    /// All at one moment: a snapshot of the volume.
    Frozen,
}

/// Copies the log. Returns the last sequence that both have then.
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

/// Copies a log that is being written to, until the copy is one that a server takes.
fn copy_until_whole(original: &Rig, to: &Path, random: &mut Random, report: &mut Report) -> u64 {
    for attempt in 0..TORN_MAX {
        // The first ones take long, as those of a large log do.
        let is_slow = attempt < SLOW_COPIES && original.load().has_clients();
        let acks = if is_slow { random.below(ACKS_MEANWHILE) } else { 0 };
        logs::copy_running(original.data_dir(), to, random, || {
            original.load().wait_for_acks(acks);
        });
        let torn = match logs::end_of(to) {
            Ok(end) => return end,
            Err(torn) => torn,
        };
        // Damage in the midst of the log would be found by the flush, which has no business here.
        if !torn.stdout.contains(logs::FOUND_LATER) {
            let ended = original.launch().in_directory(to).run_to_end();
            ended.assert_refusal(logs::DATA, &["damage"]);
        }
        report.fired("torn copy refused");
        logs::remove(to);
    }
    panic!("{TORN_MAX} copies in a row are torn");
}

/// Stops a process as it stands. On return none of its threads does anything.
pub(super) fn freeze(server: &Server) {
    server.signal(Signal::STOP);
    let threads = format!("/proc/{}/task", server.pid());
    let deadline = Instant::now() + PATIENCE;
    let is_stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap();
        // The name before it may hold anything.
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
