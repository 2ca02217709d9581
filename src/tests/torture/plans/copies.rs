//! A data directory is copied in the usual ways, and both copies are used, under load, with one database. One of the
//! two goes on as before; the other is refused as soon as it has an event of its own, and every event that it has
//! acknowledged waits in its log. Harmless copies are not refused.

mod harmless;
mod making;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::ledger::{Entry, Ledger, Load, Outcome};
use crate::support::postgres::Cluster;
use crate::support::process::proxy::Proxy;
use crate::support::process::stored::Database;
use crate::support::process::{LOOK_AGAIN, Launch, PATIENCE, Server};
use crate::support::random::Random;
use crate::torture::logs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

use making::Way;

/// Clients of a server under heavy load, and their rest between two requests.
const CLIENTS: u32 = 2;
const PACE: Duration = Duration::from_millis(2);
/// First client numbers: of the copy, of the copy or original once adopted, and of the server beside it.
const CLIENTS_OF_THE_COPY: u32 = 100;
const CLIENTS_ONCE_ADOPTED: u32 = 200;
const CLIENTS_BESIDE_THEM: u32 = 300;
/// Requests that must be acknowledged before a copy, and while the database is down.
const ACKS_MAX: u64 = 60;
/// Single events under light load, before a copy and after it.
const EVENTS_MAX: u64 = 4;
/// Restarts by a supervisor, before the refusal and after it.
const RESTARTS_MAX: u64 = 3;
/// Short, so that a server stopped while the database is down leaves its events in the log.
const DRAIN_TIMEOUT: &str = "100ms";

/// A contest with a copy made in this way, and its names for the cases that the original is refused and that the copy
/// is.
const CONTESTS: [(Way, [&str; 2]); 3] = [
    (Way::Stopped, ["image: original refused", "image: copy refused"]),
    (Way::Running, ["cp -r: original refused", "cp -r: copy refused"]),
    (Way::Frozen, ["snapshot: original refused", "snapshot: copy refused"]),
];
/// A round is this many contests and two harmless copies.
const ROUND: u32 = 5;

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    // Shared by all cycles: its threads end only with the process.
    let proxy = Proxy::before(&Database::empty(Cluster::shared()));
    for cycle in 0..cycles {
        // By turns, so that any number of cycles meets every kind.
        let (round, turn) = (cycle / ROUND, cycle % ROUND);
        match CONTESTS.get(turn as usize) {
            Some((way, names)) => {
                let database = Database::migrated(Cluster::shared());
                let contest = Contest {
                    way: *way,
                    is_heavy: round % 2 == 1,
                    database: &database,
                    proxy: &proxy,
                };
                contest.hold(*names, random, report);
                database.discard();
            }
            None if turn.is_multiple_of(2) => harmless::database_and_all(random, report),
            None if round.is_multiple_of(2) => harmless::move_beside_sqlite(random, report),
            None => harmless::move_beside_postgresql(random, report),
        }
    }
}

/// A copy and its original, for one database.
struct Contest<'a> {
    way: Way,
    is_heavy: bool,
    /// The database, reached directly.
    database: &'a Database,
    /// The proxy by which the servers reach the database.
    proxy: &'a Proxy,
}

/// The copy or the original, once its server and its clients have ended.
struct Retired {
    data_dir: PathBuf,
    launch: Launch,
    ledger: Ledger,
}

impl Contest<'_> {
    fn hold(&self, names: [&'static str; 2], random: &mut Random, report: &mut Report) {
        let (dir, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let launch =
            Rig::busy(dir.path(), &self.proxy.leading_to(self.database)).with("--drain-timeout", DRAIN_TIMEOUT);
        let mut original = self.start(&launch, dir.path(), 0);
        self.send(&original, random);
        // Without its database neither stores anything: both share events that are acknowledged and not stored, and
        // both have events of their own when the race begins.
        let is_away = random.chance(50);
        if is_away {
            self.proxy.shut();
            self.send(&original, random);
        }
        if self.way == Way::Stopped {
            end(original.take_server(report), random.chance(50));
        }
        let shared = making::copy(self.way, &original, copied.path(), random, report);
        let is_original_first = random.chance(50);
        if self.way == Way::Stopped && is_original_first {
            original.restart();
        }
        let launch = launch.in_directory(copied.path());
        let copy = self.start(&launch, copied.path(), CLIENTS_OF_THE_COPY);
        if self.way == Way::Stopped && !is_original_first {
            original.restart();
        }
        let rigs = [original, copy];
        let [refused, survivor] = self.race(rigs, is_away, names, random, report);
        self.audit_both(refused, survivor, shared, random, report);
    }

    /// Starts a server with clients of its own; under light load with no clients.
    fn start(&self, launch: &Launch, data_dir: &Path, first_client: u32) -> Rig {
        let clients = if self.is_heavy { CLIENTS } else { 0 };
        let clients = first_client..first_client + clients;
        self.serve(launch.start(), launch, data_dir, clients)
    }

    fn serve(&self, server: Server, launch: &Launch, data_dir: &Path, clients: Range<u32>) -> Rig {
        let load = Load::start_numbered(server.address(), clients, PACE);
        Rig::around(data_dir, self.database, launch.clone(), server, load)
    }

    fn send(&self, rig: &Rig, random: &mut Random) {
        if self.is_heavy {
            rig.load().wait_for_acks(1 + random.below(ACKS_MAX));
        } else {
            for _ in 0..random.below(EVENTS_MAX) {
                rig.load().probe_singly("").unwrap();
            }
        }
    }

    /// Lets both run, while a supervisor restarts the copy, until one is refused and stays so over restarts. Returns
    /// that one first.
    fn race(
        &self,
        mut rigs: [Rig; 2],
        is_away: bool,
        names: [&'static str; 2],
        random: &mut Random,
        report: &mut Report,
    ) -> [Retired; 2] {
        let mut undisturbed_since = [Instant::now(); 2];
        for _ in 0..random.below(RESTARTS_MAX) {
            self.use_both(&rigs, is_away, random);
            restart(&mut rigs[1], random.chance(50), report);
            undisturbed_since[1] = Instant::now();
        }
        if is_away {
            // Without events of their own, each tries to store what both have.
            if random.chance(70) {
                self.use_both(&rigs, is_away, random);
            }
            self.proxy.open();
        }
        self.use_both(&rigs, false, random);
        let index = wait_for_a_refusal(&rigs);
        report.fired(names[index]);
        let [mut refused, mut survivor] = rigs;
        if index == 1 {
            std::mem::swap(&mut refused, &mut survivor);
        }
        logs::assert_refused(&refused);
        for _ in 0..random.below(RESTARTS_MAX) {
            restart(&mut refused, random.chance(50), report);
            logs::assert_refused(&refused);
            report.fired("refused server restarted");
        }
        let mut retired = [&refused, &survivor].map(|rig| Retired {
            data_dir: rig.data_dir().to_owned(),
            launch: rig.launch().clone(),
            ledger: Ledger::default(),
        });
        retired[0].ledger = refused.give_up(report);
        (retired[1].ledger, _) = survivor.finish_unchecked(report);
        let since = undisturbed_since[1 - index];
        let is_hurt = |entry: &Entry| entry.sent_at > since && entry.outcome != Outcome::Ack;
        let hurt = retired[1].ledger.count(is_hurt);
        assert_eq!(hurt, 0, "the server that goes on is hurt");
        retired
    }

    /// Sends both servers events of their own.
    fn use_both(&self, rigs: &[Rig; 2], is_away: bool, random: &mut Random) {
        if self.is_heavy {
            if is_away {
                for rig in rigs {
                    rig.load().wait_for_acks(1 + random.below(ACKS_MAX));
                }
            }
            return;
        }
        let first = usize::from(random.chance(50));
        for _ in 0..1 + random.below(EVENTS_MAX) {
            // Equally many for each, so that both logs end at the same sequence.
            for rig in [&rigs[first], &rigs[1 - first]] {
                let answer = rig.load().probe_singly("").unwrap();
                assert!([202, 503].contains(&answer.status), "{answer:?}");
                if !is_away && random.chance(50) {
                    rig.server().wait_for_health("flushed or refused", |health| {
                        health["flush"]["lag_events"] == 0 || is_refused(health)
                    });
                }
            }
        }
    }

    /// Asserts that the events that only the refused log has are not in the database, and all others once. After a
    /// person's `wal adopt` the former are there too.
    fn audit_both(&self, refused: Retired, survivor: Retired, shared: u64, random: &mut Random, report: &mut Report) {
        let mut stored = refused.ledger.clone();
        let withheld = stored.withhold(|sequence| sequence > shared);
        let kept = logs::end_of(&refused.data_dir).unwrap() - shared;
        assert!(withheld <= kept, "{withheld} are acknowledged, {kept} wait");
        stored.entries.extend_from_slice(&survivor.ledger.entries);
        stored.verify(&self.database.events());

        let adopted = self.adopt(&refused, shared + 1, random, report);
        let mut parts = vec![refused.ledger, survivor.ledger];
        if random.chance(50) {
            // Beside the server that goes on.
            let clients = CLIENTS_BESIDE_THEM..CLIENTS_BESIDE_THEM + CLIENTS;
            let launch = &survivor.launch;
            let other = self.serve(launch.start(), launch, &survivor.data_dir, clients);
            for rig in [&other, &adopted] {
                rig.load().wait_for_acks(1 + random.below(ACKS_MAX));
            }
            parts.push(other.retire(report));
        }
        parts.push(adopted.finish_unchecked(report).0);
        let entries = parts.into_iter().flat_map(|part| part.entries).collect();
        report.add(Ledger { entries }.audit(&self.database.events()));
    }

    /// Lets a refused log go on as a log of its own from this sequence, by a `wal adopt` before its server starts or
    /// while it runs, and starts it with new clients.
    fn adopt(&self, refused: &Retired, from: u64, random: &mut Random, report: &mut Report) -> Rig {
        let Retired { launch, data_dir, .. } = refused;
        let is_running = random.chance(30);
        let running = is_running.then(|| launch.start());
        let unsaid = logs::adopt(data_dir, self.database, &["--yes"]);
        unsaid.assert_refusal(logs::CONFIG, &["--from SEQUENCE"]);
        let from = from.to_string();
        let shown = logs::adopt(data_dir, self.database, &["--from", &from]);
        assert_eq!(shown.code(), 0, "{shown:?}");
        let adopted = logs::adopt(data_dir, self.database, &["--from", &from, "--yes"]);
        assert_eq!(adopted.code(), 0, "{adopted:?}");
        report.fired(if is_running {
            "adopted beside its server"
        } else {
            "adopted"
        });
        let server = running.unwrap_or_else(|| launch.start());
        let clients = CLIENTS_ONCE_ADOPTED..CLIENTS_ONCE_ADOPTED + CLIENTS;
        self.serve(server, launch, data_dir, clients)
    }
}

/// Waits until one of the two is refused. Never both are: the checkpoint belongs to one of them.
fn wait_for_a_refusal(rigs: &[Rig; 2]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let refused = rigs.each_ref().map(|rig| is_refused(&rig.server().health()));
        match refused {
            [true, true] => panic!("both are refused"),
            [true, false] => return 0,
            [false, true] => return 1,
            [false, false] => {}
        }
        assert!(Instant::now() < deadline, "both go on");
        thread::sleep(LOOK_AGAIN);
    }
}

fn is_refused(health: &Value) -> bool {
    health["status"] == "unavailable"
}

fn restart(rig: &mut Rig, is_killed: bool, report: &mut Report) {
    end(rig.take_server(report), is_killed);
    rig.restart();
}

fn end(server: Server, is_killed: bool) {
    if is_killed {
        server.kill();
    } else {
        server.stop();
    }
}
