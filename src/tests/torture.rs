//! The fault harness: plans that break things around a real server while clients write down every answer, and audits
//! that compare the database with the answers.
//!
//! `make torture PLAN=kill CYCLES=1000 SEED=1` runs one plan (see `run_torture.rs`); `torture_briefly.rs` runs a few
//! cycles of each as tests. A plan gets its random numbers from the seed alone; threads and the kernel still decide the
//! interleaving, so a seed repeats what is injected, not every step of the server's reaction.

pub(crate) mod gaps;
pub(crate) mod logs;
pub(crate) mod mounts;
pub(crate) mod plans;
pub(crate) mod report;
pub(crate) mod rig;

use std::io::Write as _;

use crate::support::random::Random;
use report::Report;

/// A plan: what to break, and how.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// One line for the list of plans.
    pub(crate) about: &'static str,
    /// Default number of cycles.
    pub(crate) cycles: u32,
    /// Injects about this many faults, in an order that the random numbers decide, and adds what it saw to the report.
    /// A violation is a panic, or a count in the report.
    pub(crate) run: fn(&mut Random, u32, &mut Report),
}

/// Every plan, in the order in which `make torture` runs them.
pub(crate) const PLANS: &[Plan] = &[
    Plan {
        name: "kill",
        about: "kill -9 at random times, also while starting; PostgreSQL",
        cycles: 20,
        run: plans::kill::on_postgresql,
    },
    Plan {
        name: "kill-sqlite",
        about: "kill -9 at random times, also while starting; embedded SQLite",
        cycles: 8,
        run: plans::kill::on_sqlite,
    },
    Plan {
        name: "term",
        about: "SIGTERM, and SIGTERM twice, under load; both stores by turns",
        cycles: 16,
        run: plans::term::run,
    },
    Plan {
        name: "syscalls",
        about: "kill at the first, second, third … system call that writes, syncs, renames or sends; needs strace",
        cycles: 60,
        run: plans::syscalls::run,
    },
    Plan {
        name: "database",
        about: "PostgreSQL stopped, crashed, killed, read-only, full, locked, frozen, its schema changed",
        cycles: 18,
        run: plans::database::run,
    },
    Plan {
        name: "constraints",
        about: "a user's constraints, triggers and detached partitions refuse some events; both stores by turns",
        cycles: 24,
        run: plans::constraints::run,
    },
    Plan {
        name: "network",
        about: "COMMIT or its answer lost, silent connections, a transaction that commits late",
        cycles: 12,
        run: plans::network::run,
    },
    Plan {
        name: "idle",
        about: "idle sessions closed by PostgreSQL or PgBouncer, others ended, beside a dashboard that keeps asking",
        cycles: 12,
        run: plans::idle::run,
    },
    Plan {
        name: "bounds",
        about: "invented pairs, exact questions at once, history in one request; both stores by turns",
        cycles: 6,
        run: plans::bounds::run,
    },
    Plan {
        name: "slow-database",
        about: "a database so slow that the log reaches its cap, then recovery",
        cycles: 3,
        run: plans::slow::run,
    },
    Plan {
        name: "two-logs",
        about: "two servers with logs of their own on one database, one of them killed",
        cycles: 6,
        run: plans::servers::two_logs,
    },
    Plan {
        name: "twins",
        about: "a copy of a log beside the original, as after cloning a machine",
        cycles: 4,
        run: plans::servers::twins,
    },
    Plan {
        name: "copies",
        about: "a data directory copied while its server is stopped, running or frozen, and both used under load",
        cycles: 10,
        run: plans::copies::run,
    },
    Plan {
        name: "restores",
        about: "an older log, an older database or a deleted checkpoint; both stores by turns",
        cycles: 9,
        run: plans::restores::run,
    },
    Plan {
        name: "failover",
        about: "a primary dies with commits that its standby lacks, and the standby is promoted",
        cycles: 6,
        run: plans::failover::run,
    },
    Plan {
        name: "one-directory",
        about: "a second process on the directory of a running or frozen one",
        cycles: 10,
        run: plans::servers::one_directory,
    },
    Plan {
        name: "disk-errors",
        about: "a write or sync of the log fails; needs strace",
        cycles: 20,
        run: plans::disk::errors,
    },
    Plan {
        name: "disk-full",
        about: "the log's disk fills up and is freed; needs root",
        cycles: 2,
        run: plans::disk::full,
    },
    Plan {
        name: "sink",
        about: "stderr full, closed, its reader gone or asleep; both stores by turns",
        cycles: 16,
        run: plans::sink::run,
    },
    Plan {
        name: "moved",
        about: "the log's directory is moved away under the server, or read-only at the start",
        cycles: 4,
        run: plans::disk::moved,
    },
    Plan {
        name: "power",
        about: "a power cut: ext4 shut down without its journal; needs root and strace",
        cycles: 10,
        run: plans::power::cut,
    },
];

impl Plan {
    /// The plan of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        PLANS.iter().find(|plan| plan.name == name)
    }

    /// Runs the plan as a test: a violation is a panic, a plan that cannot run here reports that it is skipped.
    #[track_caller]
    pub(crate) fn run_briefly(&self, cycles: u32) {
        let mut random = Random::from_environment();
        let mut report = Report::new(self.name);
        (self.run)(&mut random, cycles, &mut report);
        // Written past the capture of a passing test's output, so that a skip is seen and counted.
        let line = format!("{report}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        report.assert_held();
    }
}
