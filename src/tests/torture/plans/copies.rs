//! A data directory is copied as people copy them, and both copies are used, under load, for one database. One of the two goes on as if
//! nothing had happened; the other is refused as soon as it has an event of its own, and every event that it has acknowledged waits in
//! its log.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::ledger::{Load, Outcome};
use crate::postgres::Cluster;
use crate::process::proxy::Proxy;
use crate::process::stored::Database;
use crate::process::{LOOK_AGAIN, Launch, PATIENCE, Server};
use crate::random::Random;
use crate::torture::logs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Clients of either server under heavy load, and their rest between two requests.
const CLIENTS: u32 = 2;
const PACE: Duration = Duration::from_millis(2);
/// Numbers of the clients of the copy begin here, and of those of either once it is adopted.
const CLIENTS_OF_THE_COPY: u32 = 100;
const CLIENTS_ONCE_ADOPTED: u32 = 200;
/// Requests that must be acknowledged before a copy, and while nothing can be flushed.
const ACKS_MAX: u64 = 60;
/// Single events under light load, before a copy and after it.
const EVENTS_MAX: u64 = 4;
/// Restarts by a supervisor, before the refusal and after it.
const RESTARTS_MAX: u64 = 3;
/// A server that is stopped while the database is away leaves what it has in the log.
const DRAIN_TIMEOUT: &str = "100ms";
/// Requests that are acknowledged during one of the first attempts to copy a busy directory.
const ACKS_MEANWHILE: u64 = 100;
const SLOW_COPIES: u32 = 3;
/// So many copies of it may be torn in a row.
const TORN_MAX: u32 = 50;

/// How a directory is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its server has ended: the image of a machine in which it ran once.
    Stopped,
    /// `cp -r` while the server writes.
    Running,
    /// All at one moment: a snapshot of the volume.
    Frozen,
}

/// A way, and what it is called when the copy is refused and when the original is.
const WAYS: [(Way, [&str; 2]); 3] = [
    (
        Way::Stopped,
        ["image: original refused", "image: copy refused"],
    ),
    (
        Way::Running,
        ["cp -r: original refused", "cp -r: copy refused"],
    ),
    (
        Way::Frozen,
        ["snapshot: original refused", "snapshot: copy refused"],
    ),
];

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    // One for all cycles: its threads end with the process.
    let proxy = Proxy::before(&Database::empty(Cluster::shared()));
    for cycle in 0..cycles {
        // By turns: each kind is met whatever the number of cycles.
        let (way, names) = WAYS[cycle as usize % WAYS.len()];
        let is_heavy = cycle / 3 % 2 == 1;
        let database = Database::migrated(Cluster::shared());
        copy_and_use_both(way, is_heavy, (&database, &proxy), names, random, report);
        database.discard();
    }
}

fn copy_and_use_both(
    way: Way,
    is_heavy: bool,
    (database, proxy): (&Database, &Proxy),
    names: [&'static str; 2],
    random: &mut Random,
    report: &mut Report,
) {
    let (dir, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let launch =
        Rig::busy(dir.path(), &proxy.leading_to(database)).with("--drain-timeout", DRAIN_TIMEOUT);
    let mut original = start(&launch, dir.path(), database, 0, is_heavy);
    if is_heavy {
        original.load().wait_for_acks(1 + random.below(ACKS_MAX));
    } else {
        send_singly(&original, random);
    }
    // While the database is away nothing is stored: both share what is acknowledged and not stored, and both have events of their
    // own when the race begins.
    let is_away = random.chance(50);
    if is_away {
        proxy.shut();
        if is_heavy {
            original.load().wait_for_acks(1 + random.below(ACKS_MAX));
        } else {
            send_singly(&original, random);
        }
    }
    if way == Way::Stopped {
        let server = original.take_server(report);
        end(server, random.chance(50));
    }
    let shared = copy(way, &original, copied.path(), random, report);
    let is_original_first = random.chance(50);
    if way == Way::Stopped && is_original_first {
        original.restart();
    }
    let copied_launch = launch.in_directory(copied.path());
    let first_client = CLIENTS_OF_THE_COPY;
    let copy = start(
        &copied_launch,
        copied.path(),
        database,
        first_client,
        is_heavy,
    );
    if way == Way::Stopped && !is_original_first {
        original.restart();
    }
    let mut undisturbed_since = [Instant::now(); 2];
    let mut rigs = [original, copy];
    let restarts = random.below(RESTARTS_MAX);
    for _ in 0..restarts {
        use_both(&rigs, is_away, is_heavy, random);
        restart(&mut rigs[1], random.chance(50), report);
        undisturbed_since[1] = Instant::now();
    }
    if is_away {
        // Without any of their own, each tries to store what both have.
        if random.chance(70) {
            use_both(&rigs, is_away, is_heavy, random);
        }
        proxy.open();
    }
    use_both(&rigs, false, is_heavy, random);

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

    let (launch, refused_dir) = (refused.launch().clone(), refused.data_dir().to_owned());
    let mut refused_ledger = refused.give_up(report);
    let (mut ledger, _) = survivor.finish_unchecked(report);
    let since = undisturbed_since[1 - index];
    let not_served = ledger.count(|entry| entry.sent_at > since && entry.outcome != Outcome::Ack);
    assert_eq!(not_served, 0, "the first one goes on as if alone");
    // Nothing of what only the refused one has is in the database, all that both have is there once.
    let mut stored = refused_ledger.clone();
    let withheld = stored.withhold(|sequence| sequence > shared);
    let kept = logs::end_of(&refused_dir).unwrap() - shared;
    assert!(
        withheld <= kept,
        "{withheld} were acknowledged, {kept} wait"
    );
    stored.entries.extend_from_slice(&ledger.entries);
    stored.verify(&database.events());

    // With a person's word it is there too.
    let adopted = adopt(&launch, &refused_dir, database, shared + 1, random, report);
    let (newer, _) = adopted.finish_unchecked(report);
    for entries in [&mut refused_ledger.entries, &mut newer.entries.clone()] {
        ledger.entries.append(entries);
    }
    report.add(ledger.audit(&database.events()));
}

/// Lets a refused log go on as one of its own from this sequence on, before its server starts or while it runs, and starts it with new
/// clients.
fn adopt(
    launch: &Launch,
    data_dir: &Path,
    database: &Database,
    from: u64,
    random: &mut Random,
    report: &mut Report,
) -> Rig {
    let is_running = random.chance(30);
    let running = is_running.then(|| launch.start());
    let from = from.to_string();
    let shown = logs::adopt(data_dir, database, &["--from", &from]);
    assert_eq!(shown.code(), 0, "{shown:?}");
    let adopted = logs::adopt(data_dir, database, &["--from", &from, "--yes"]);
    assert_eq!(adopted.code(), 0, "{adopted:?}");
    report.fired(if is_running {
        "adopted beside its server"
    } else {
        "adopted"
    });
    let server = running.unwrap_or_else(|| launch.start());
    let clients = CLIENTS_ONCE_ADOPTED..CLIENTS_ONCE_ADOPTED + CLIENTS;
    let load = Load::start_numbered(server.address(), clients, PACE);
    Rig::around(data_dir, database, launch.clone(), server, load)
}

/// Starts a server with clients of its own, or with none under light load.
fn start(
    launch: &Launch,
    data_dir: &Path,
    database: &Database,
    first_client: u32,
    is_heavy: bool,
) -> Rig {
    let server = launch.start();
    let clients = if is_heavy { CLIENTS } else { 0 };
    let clients = first_client..first_client + clients;
    let load = Load::start_numbered(server.address(), clients, PACE);
    Rig::around(data_dir, database, launch.clone(), server, load)
}

/// Copies the log. Returns the last sequence that both have then.
fn copy(way: Way, original: &Rig, to: &Path, random: &mut Random, report: &mut Report) -> u64 {
    let from = original.data_dir();
    match way {
        Way::Stopped => logs::copy(from, to),
        Way::Frozen => {
            freeze(original.server());
            logs::copy(from, to);
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
        let acks = if attempt < SLOW_COPIES {
            random.below(ACKS_MEANWHILE)
        } else {
            0
        };
        let meanwhile = || {
            if original.load().has_clients() {
                original.load().wait_for_acks(acks);
            }
        };
        logs::copy_running(original.data_dir(), to, random, meanwhile);
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

fn send_singly(rig: &Rig, random: &mut Random) {
    for _ in 0..random.below(EVENTS_MAX) {
        rig.load().probe_singly("").unwrap();
    }
}

/// Lets both servers take events of their own.
fn use_both(rigs: &[Rig; 2], is_away: bool, is_heavy: bool, random: &mut Random) {
    if is_heavy && is_away {
        for rig in rigs {
            rig.load().wait_for_acks(1 + random.below(ACKS_MAX));
        }
    }
    if is_heavy {
        return;
    }
    let first = usize::from(random.chance(50));
    for _ in 0..1 + random.below(EVENTS_MAX) {
        // As many for each, so that both logs end at the same sequence.
        for rig in [&rigs[first], &rigs[1 - first]] {
            let answer = rig.load().probe_singly("").unwrap();
            assert!([202, 503].contains(&answer.status), "{answer:?}");
            if !is_away && random.chance(50) {
                rig.server()
                    .wait_for_health("flushed or refused", |health| {
                        health["flush"]["lag_events"] == 0 || is_refused(health)
                    });
            }
        }
    }
}

/// Waits until one of the two is refused. Never both: the checkpoint is of one of them.
fn wait_for_a_refusal(rigs: &[Rig; 2]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let refused = rigs
            .each_ref()
            .map(|rig| is_refused(&rig.server().health()));
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

/// Stops a process as it stands. On return none of its threads does anything.
fn freeze(server: &Server) {
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
