//! A primary dies with commits that its asynchronous standby lacks, the standby is promoted, and the server, whose URL
//! names both, goes on there: events that the standby lacks are stored again from the log, or, where the log keeps
//! none, named and skipped on a person's word.

use rustix::process::Signal;

use crate::support::postgres::{Cluster, StopMode, free_port};
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::plans::database::signal;
use crate::torture::report::Report;
use crate::torture::rig::Rig;
use crate::torture::{gaps, logs};

/// Requests that must be acknowledged between two steps.
const ACKS_BETWEEN: u64 = 100;
/// The only log's checkpoint.
const FLUSHED_THROUGH: &str = "SELECT flushed_through FROM wal_checkpoints";
const SENDERS: &str = "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'";
/// Whether a standby has replayed all that it has received: it receives nothing more, and has no complete record left.
/// The last record may have arrived in part.
const HAS_REPLAYED: &str = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') AND EXISTS (SELECT FROM \
                            pg_stat_activity WHERE backend_type = 'startup' AND wait_event IN ('RecoveryRetrieveRetryInterval', \
                            'RecoveryWalStream'))";

/// A primary and its standby.
struct Pair {
    primary: Cluster,
    standby: Cluster,
}

/// The database of a cycle, and the ways to reach it.
struct Ways {
    /// The server's way, to the one of the two that accepts writes.
    either: Database,
    primary: Database,
    standby: Database,
}

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    let mut pair = Pair::start(Cluster::start(), free_port());
    for cycle in 0..cycles {
        // By turns, so that any number of cycles meets every kind.
        let is_kept = cycle.is_multiple_of(2);
        pair = pair.fail_over(is_kept, random, report);
    }
}

impl Pair {
    /// Makes a standby of a running server, on this port.
    fn start(primary: Cluster, port: u16) -> Self {
        primary.stop(StopMode::Fast);
        let standby = Cluster::standby_of(&primary, port);
        primary.start_again();
        Self { primary, standby }
    }

    /// Makes a database on both.
    fn database(&self, random: &mut Random) -> Ways {
        let primary = Database::migrated(&self.primary);
        let Database::Postgres(url) = &primary else {
            unreachable!("the database is PostgreSQL")
        };
        let (_, name) = url.rsplit_once('/').unwrap();
        let mut ports = [self.primary.port(), self.standby.port()];
        random.shuffle(&mut ports);
        let either = format!(
            "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{name}?target_session_attrs=read-write",
            ports[0], ports[1]
        );
        Ways {
            either: Database::Postgres(either),
            standby: Database::Postgres(self.standby.url(name)),
            primary,
        }
    }

    /// Kills the primary under load. Returns the promoted standby with a standby of its own.
    fn fail_over(self, is_kept: bool, random: &mut Random, report: &mut Report) -> Self {
        let ways = self.database(random);
        let dir = tempfile::tempdir().unwrap();
        let launch = if is_kept {
            Rig::keeping(dir.path(), &ways.either)
        } else {
            Rig::busy(dir.path(), &ways.either)
        };
        let mut rig = Rig::start_lightly(dir.path(), &ways.either, launch);
        rig.load().wait_for_acks(1 + random.below(ACKS_BETWEEN));
        let behind = ways.stop_following();
        rig.load().wait_for_acks(1 + random.below(ACKS_BETWEEN));
        ways.primary.wait_for("ahead", |primary| checkpoint(primary) > behind);
        if !is_kept {
            ways.primary
                .wait_for("rotated", |_| logs::oldest_of(dir.path()) > behind + 1);
        }
        let ahead = checkpoint(&ways.primary);
        self.primary.kill();
        let lacks = self.promote(&ways, &mut rig, random, report)..=ahead;
        assert!(!lacks.is_empty(), "the standby lacks nothing");
        if is_kept {
            ways.standby
                .wait_for("stored again", |standby| checkpoint(standby) > ahead);
            rig.wait_until_well();
            report.add_amount("sequences that a standby lacked and got", ahead + 1 - lacks.start());
            report.fired("failover healed");
            rig.finish(report);
        } else {
            let gap = gaps::answer(&rig, "are neither in it nor in the log any more", None);
            assert_eq!(gap.start(), lacks.start());
            report.add_amount(
                "sequences that a standby and the log lacked",
                gap.end() + 1 - gap.start(),
            );
            report.fired("failover over a gap");
            gaps::finish_with(&[gap], rig, report);
        }
        ways.standby.discard();
        let Self { primary, standby } = self;
        let port = primary.port();
        drop(primary);
        Self::start(standby, port)
    }

    /// Promotes the standby, while the server runs, or after killing it along with the primary. Returns the first
    /// sequence that the standby lacks.
    fn promote(&self, ways: &Ways, rig: &mut Rig, random: &mut Random, report: &mut Report) -> u64 {
        let is_server_killed = random.chance(30);
        if is_server_killed {
            rig.take_server(report).kill();
        }
        ways.standby
            .wait_for("replayed", |standby| standby.rows(HAS_REPLAYED) == ["t"]);
        let lacks = checkpoint(&ways.standby) + 1;
        let is_server_first = random.chance(50);
        if is_server_killed && is_server_first {
            rig.restart();
        }
        self.standby.promote();
        if is_server_killed && !is_server_first {
            rig.restart();
        }
        lacks
    }
}

impl Ways {
    /// Waits until the standby has caught up, and stops the process that sends to it. Returns a position that the
    /// standby cannot have passed.
    fn stop_following(&self) -> u64 {
        let followed = checkpoint(&self.primary);
        self.standby.wait_for("replicated", |standby| {
            // At first the standby lacks even the database.
            let rows = standby.try_rows(FLUSHED_THROUGH).unwrap_or_default();
            rows.first()
                .is_some_and(|through| through.parse::<u64>().unwrap() >= followed)
        });
        let senders = self.primary.rows(SENDERS);
        assert_eq!(senders.len(), 1, "one standby: {senders:?}");
        signal(&senders[0], Signal::STOP);
        checkpoint(&self.primary)
    }
}

fn checkpoint(database: &Database) -> u64 {
    database.rows(FLUSHED_THROUGH)[0].parse().unwrap()
}
