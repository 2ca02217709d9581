//! A kill at every boundary between two system calls that change the log, one after the other: strace counts the calls
//! of each thread and kills at the K-th, for K from 1 on.
//!
//! A call is killed at its entry, so K stands for "everything up to call K - 1 was done, and nothing of call K". The
//! first calls of a server belong to recovery, the later ones to the log thread.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::plans::legs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Kills before an audit; the next leg begins with an empty database.
const KILLS_A_LEG: u32 = 50;

/// Sets of calls whose boundaries are tried, and the names of the faults. The second set has calls that come once per
/// segment; the calls of the first, once per group, would never let a count reach them. The third has the traffic with
/// clients and the database.
const SWEEPS: [(&str, &str); 3] = [
    ("pwrite64,fdatasync,ftruncate", "kill at a write or sync"),
    ("fsync,unlink,unlinkat,rename,ftruncate", "kill at a change of a name"),
    (
        "sendto,recvfrom,writev,write",
        "kill at a message to or from the database or a client",
    ),
];

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    if let Err(reason) = strace_works() {
        report.skip(reason);
        return;
    }
    let mut calls = [0; SWEEPS.len()];
    for kills in legs(cycles, KILLS_A_LEG) {
        leg(kills.len(), &mut calls, random, report);
    }
}

fn leg(kills: usize, calls: &mut [u32; SWEEPS.len()], random: &mut Random, report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::migrated(Cluster::shared());
    let launch = Rig::tiny(dir.path(), &database);
    let mut rig = Rig::start(dir.path(), &database, launch.clone());
    rig.take_server(report).kill();
    for kill in 0..kills {
        let sweep = kill % SWEEPS.len();
        let (names, fault) = SWEEPS[sweep];
        calls[sweep] += 1;
        let inject = format!("inject={names}:signal=SIGKILL:when={}", calls[sweep]);
        let traced = launch.clone().traced(Path::new("/dev/null"), &[&inject]);
        let mut server = traced.spawn();
        if server.is_ready() {
            rig.load().go_on_at(server.address());
            report.fired(fault);
        } else {
            report.fired("kill at a call of the start");
        }
        server.was_killed();
        if random.chance(20) {
            rig.assert_log_is_sound();
        }
    }
    rig.restart();
    rig.finish(report);
}

/// Whether strace can trace here; else the reason.
pub(crate) fn strace_works() -> Result<(), String> {
    let traced = Command::new("strace")
        .args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match traced {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("strace may not trace here ({status})")),
        Err(error) => Err(format!("strace does not start: {error}")),
    }
}
