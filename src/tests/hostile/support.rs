//! A real server under attack while honest clients continue, and what every attack must leave intact.
//!
//! Whatever the attackers do, each honest request is answered 202 and stored once, the process stays inside the
//! attack's limits of memory, files and threads, and frees what the attackers held. A limit proves something only if
//! the attack took place, so each test also counts what its attackers did.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::support::ledger::{Ledger, Load, Outcome, assert_stored_once};
use crate::support::process::stored::Database;
use crate::support::process::{LOOK_AGAIN, Launch, PATIENCE, Server};
use crate::torture::report::Footprint;

/// Acks that the honest clients must get before an attack, and again after it.
const ACKS_AROUND: u64 = 20;
/// Files that a server may have open after an attack beyond those before it: it opens and closes database connections
/// and segments.
const FILES_SPARE: u64 = 16;
/// Prefix of the attackers' users, if their requests have users.
pub(crate) const ATTACKER: &str = "attacker-";

/// A server with its database, its honest clients and a thread that watches its memory, files and threads.
pub(crate) struct Siege {
    server: Server,
    database: Database,
    load: Load,
    watch: Watch,
    /// Memory, files and threads before the attack.
    calm: Footprint,
    limits: Footprint,
    dir: TempDir,
}

impl Siege {
    /// A server with these flags, its honest clients at work.
    pub(crate) fn begin(limits: Footprint, flags: &[(&str, &str)]) -> Self {
        Self::begin_with(limits, flags, |launch| launch)
    }

    /// Begins a siege whose launch the test may `change`.
    pub(crate) fn begin_with(limits: Footprint, flags: &[(&str, &str)], change: impl FnOnce(Launch) -> Launch) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::embedded(dir.path());
        Self::begin_in(dir, database, limits, flags, change)
    }

    /// Begins a siege of a server on this database.
    pub(crate) fn begin_on(database: &Database, limits: Footprint, flags: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::begin_in(dir, database.clone(), limits, flags, |launch| launch)
    }

    fn begin_in(
        dir: TempDir,
        database: Database,
        limits: Footprint,
        flags: &[(&str, &str)],
        change: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        allow_many_sockets();
        // The hostile input reaches back to 1970.
        let launch = flags.iter().fold(
            Launch::new(dir.path(), &database).with("--event-age-max", "100years"),
            |launch, (flag, value)| launch.with(flag, value),
        );
        let server = change(launch).start();
        let load = Load::start(server.address(), 1);
        load.wait_for_acks(ACKS_AROUND);
        let calm = look_at(server.pid());
        let watch = Watch::start(server.pid());
        Self {
            server,
            database,
            load,
            watch,
            calm,
            limits,
            dir,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until the honest clients have had more acks, in the middle of the attack.
    #[track_caller]
    pub(crate) fn assert_goes_on(&self) {
        self.load.wait_for_acks(ACKS_AROUND);
    }

    /// Ends the siege, after the attackers have ended: checks that the server kept what the module promises, and that
    /// the database has the honest clients' events and those of these attackers, each exactly once, and no others.
    /// Returns the peak of the process.
    #[track_caller]
    pub(crate) fn lift(self, attackers: &[String]) -> Footprint {
        self.lift_with_unknown(attackers, attackers)
    }

    /// Ends the siege: the database must hold the events of the `told`, and may hold those of the other `attackers`.
    #[track_caller]
    pub(crate) fn lift_with_unknown(self, told: &[String], attackers: &[String]) -> Footprint {
        let (database, ledger, peak, _dir) = self.end();
        let (theirs, ours) = database
            .events()
            .into_iter()
            .partition::<Vec<_>, _>(|event| event.user_id.starts_with(ATTACKER));
        ledger.verify(&ours);
        let mut stored: Vec<_> = attackers.to_vec();
        stored.retain(|user| told.contains(user) || theirs.iter().any(|event| event.user_id == *user));
        assert_stored_once(&theirs, &stored);
        peak
    }

    /// Ends the siege: `look` checks what the attackers sent, and takes it out of the database.
    #[track_caller]
    pub(crate) fn lift_after(self, look: impl FnOnce(&Database)) {
        let (database, ledger, _, _dir) = self.end();
        look(&database);
        ledger.verify(&database.events());
    }

    #[track_caller]
    fn end(self) -> (Database, Ledger, Footprint, TempDir) {
        self.assert_goes_on();
        let ledger = self.load.finish();
        assert_all_answered(&ledger);
        let files_max = self.calm.files + FILES_SPARE;
        wait_until("the attackers' files are closed", || {
            look_at(self.server.pid()).files <= files_max
        });
        let peak = self.watch.end();
        eprintln!("peak {peak:?} of {:?}", self.limits);
        let is_inside = peak.rss_kib <= self.limits.rss_kib
            && peak.threads <= self.limits.threads
            && peak.files <= self.limits.files;
        assert!(is_inside, "{peak:?} is beyond {:?}", self.limits);
        assert!(peak.rss_kib > 0 && peak.files > 0, "the peak was never measured");

        self.server.wait_until_flushed();
        assert_eq!(self.server.health()["status"], "ok");
        self.server.stop();
        let quarantined = self.database.rows("SELECT count(*) FROM quarantine");
        assert_eq!(quarantined, ["0"], "events were set aside");
        (self.database, ledger, peak, self.dir)
    }
}

#[track_caller]
fn assert_all_answered(ledger: &Ledger) {
    let others = ledger.entries.iter();
    let others: Vec<_> = others.filter(|entry| entry.outcome != Outcome::Ack).collect();
    assert!(
        others.is_empty(),
        "honest requests that were not answered 202: {others:?}"
    );
}

/// Polls for a condition that sends no signal.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(LOOK_AGAIN);
    }
}

/// Raises the limit of open files: attackers are many, and all tests share one process.
fn allow_many_sockets() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
    });
}

/// Records the peak of a process.
struct Watch {
    is_over: Arc<AtomicBool>,
    watcher: JoinHandle<Footprint>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let watcher = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let mut peak = Footprint::default();
                while !is_over.load(Ordering::Relaxed) {
                    let now = look_at(pid);
                    peak.rss_kib = peak.rss_kib.max(now.rss_kib);
                    peak.threads = peak.threads.max(now.threads);
                    peak.files = peak.files.max(now.files);
                    thread::sleep(LOOK_AGAIN);
                }
                peak
            }
        });
        Self { is_over, watcher }
    }

    fn end(self) -> Footprint {
        self.is_over.store(true, Ordering::Relaxed);
        self.watcher.join().unwrap()
    }
}

/// Figures of a process: its peak memory, its present files and threads.
fn look_at(pid: u32) -> Footprint {
    // The process may be gone: a failing test has killed it.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.map_or(0, |number| number.parse().unwrap())
    };
    Footprint {
        rss_kib: field("VmHWM:"),
        threads: field("Threads:"),
        files: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64),
    }
}

/// One socket of an attacker, which never blocks.
pub(crate) struct Attacker {
    pub(crate) stream: TcpStream,
    /// Bytes that the system has accepted, one at a time.
    pub(crate) dripped: u64,
    pub(crate) received: Vec<u8>,
    /// The server has closed the connection or reset it.
    pub(crate) is_cut: bool,
}

impl Attacker {
    /// Connects and sends these first bytes.
    pub(crate) fn open(address: SocketAddr, beginning: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        // The server may have closed the connection already.
        let is_cut = stream.write_all(beginning).is_err();
        stream.set_nonblocking(true).unwrap();
        Self {
            stream,
            dripped: 0,
            received: Vec::new(),
            is_cut,
        }
    }

    /// Sends one byte if the system accepts it.
    pub(crate) fn drip(&mut self, byte: u8) {
        match self.stream.write_all(&[byte]) {
            Ok(()) => self.dripped += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.is_cut = true,
        }
    }

    /// Reads what has arrived.
    pub(crate) fn look(&mut self) {
        let mut scratch = [0; 4096];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => self.is_cut = true,
                Ok(length) => {
                    self.received.extend_from_slice(&scratch[..length]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.is_cut = true,
            }
            return;
        }
    }

    /// The status of its first answer, if there is one.
    pub(crate) fn status(&self) -> Option<u16> {
        status_of(&self.received)
    }
}

/// The status of the first answer in these bytes.
pub(crate) fn status_of(received: &[u8]) -> Option<u16> {
    let text = received.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Sends the same piece again and again, up to this many bytes or until the server closes, then reads until the server
/// closes. Returns the bytes sent and what was received.
pub(crate) fn pour(mut stream: TcpStream, piece: &[u8], bytes_max: u64) -> (u64, Vec<u8>) {
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut sent = 0;
    while sent < bytes_max && stream.write_all(piece).is_ok() {
        sent += piece.len() as u64;
        assert!(Instant::now() < deadline, "{sent} bytes, and no end");
    }
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the server does not close"),
        Ok(_) | Err(_) => {}
    }
    (sent, received)
}
