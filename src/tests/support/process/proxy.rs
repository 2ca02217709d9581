//! A TCP proxy in front of PostgreSQL that disturbs connections as networks do: it cuts them around the COMMIT of a
//! batch, holds them without closing anything, holds a COMMIT back until long after its sender gave up, passes bytes on
//! slowly, or refuses connections.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::PATIENCE;
use super::stored::Database;

/// The simple query `COMMIT` on the wire. It is alone in its packet, because the flush waits for every answer before
/// it.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// Bytes in the first message of each batch.
const MOVE_CHECKPOINT: &[u8] = b"UPDATE wal_checkpoints";
/// Bytes that a slow connection passes on at a time.
const SLOW_PIECE: usize = 1024;

/// What happens to the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The COMMIT does not reach the server, and the connection ends.
    BeforeCommit,
    /// The server has committed, its answer is lost, and the connection ends.
    AfterCommit,
    /// The COMMIT and its connection are held, without closing anything, until [`Proxy::release`].
    HoldCommit,
    /// The first message of a transaction and its connection are held. New connections work.
    HoldBegin,
}

/// A proxy. Its threads end with the connections, and with the process.
pub(crate) struct Proxy {
    database: Database,
    trouble: Arc<Trouble>,
}

#[derive(Default)]
struct Trouble {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    armed: Option<Cut>,
    /// Number of cuts so far, holds included.
    done: u32,
    connections: u64,
    /// The connection that passes nothing on.
    held: Option<u64>,
    bytes_per_second: Option<u64>,
    /// Whether new connections are refused.
    is_shut: bool,
    /// Both ends of the open connections, by number.
    open: HashMap<u64, [TcpStream; 2]>,
}

impl State {
    /// The cut to make at these bytes of a client, if any.
    fn take_cut_at(&mut self, bytes: &[u8]) -> Option<Cut> {
        let is_met = match self.armed? {
            Cut::HoldBegin => bytes
                .windows(MOVE_CHECKPOINT.len())
                .any(|window| window == MOVE_CHECKPOINT),
            Cut::BeforeCommit | Cut::AfterCommit | Cut::HoldCommit => bytes == COMMIT,
        };
        if is_met { self.armed.take() } else { None }
    }
}

impl Proxy {
    /// A proxy in front of a PostgreSQL database.
    pub(crate) fn before(database: &Database) -> Self {
        let Database::Postgres(url) = database else {
            panic!("there is no connection to an embedded database")
        };
        let (user, rest) = url.split_once('@').unwrap();
        let (server, name) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let trouble = Arc::new(Trouble::default());
        thread::spawn({
            let (trouble, server) = (Arc::clone(&trouble), server.to_owned());
            move || {
                for client in listener.incoming() {
                    let client = client.unwrap();
                    // A server that is down shows as a closed connection.
                    if !trouble.lock().is_shut
                        && let Ok(upstream) = TcpStream::connect(&server)
                    {
                        pair(client, upstream, &trouble);
                    }
                }
            }
        });
        let url = format!("{user}@{address}/{name}?sslmode=disable");
        Self {
            database: Database::Postgres(url),
            trouble,
        }
    }

    /// The database as reached through the proxy.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Another database of the same server as reached through the proxy.
    pub(crate) fn leading_to(&self, other: &Database) -> Database {
        let (Database::Postgres(proxied), Database::Postgres(url)) = (&self.database, other) else {
            panic!("there is no connection to an embedded database")
        };
        let (address, parameters) = proxied.rsplit_once('/').unwrap();
        let (_, parameters) = parameters.split_once('?').unwrap();
        let (_, name) = url.rsplit_once('/').unwrap();
        Database::Postgres(format!("{address}/{name}?{parameters}"))
    }

    /// Ends every connection, and closes new ones at once, as if the server were down.
    pub(crate) fn shut(&self) {
        let mut state = self.trouble.lock();
        state.is_shut = true;
        for stream in state.open.values().flatten() {
            // The connection may be ending by itself.
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Lets connections through again.
    pub(crate) fn open(&self) {
        self.trouble.lock().is_shut = false;
    }

    /// Cuts or holds the connection of the next batch, and returns when it has happened.
    #[track_caller]
    pub(crate) fn cut(&self, cut: Cut) {
        let mut state = self.trouble.lock();
        state.armed = Some(cut);
        let wanted = state.done + 1;
        let state = self.trouble.wait_while(state, |state| state.done < wanted);
        assert_eq!(state.done, wanted, "no batch passed the proxy");
    }

    /// Passes everything on that was held.
    pub(crate) fn release(&self) {
        self.trouble.lock().held = None;
        self.trouble.changed.notify_all();
    }

    /// Limits the bytes passed on in each direction of a connection; `None`: no limit.
    pub(crate) fn slow_down(&self, bytes_per_second: Option<u64>) {
        self.trouble.lock().bytes_per_second = bytes_per_second;
    }
}

impl Trouble {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout_while(state, PATIENCE, condition);
        waited.unwrap().0
    }

    fn note_done(&self) {
        self.lock().done += 1;
        self.changed.notify_all();
    }

    /// Waits while a connection is held. Both of its sockets stay open meanwhile, even if their other ends close.
    fn wait_while_held(&self, connection: u64) {
        let mut state = self.lock();
        while state.held == Some(connection) {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn bytes_per_second(&self) -> Option<u64> {
        self.lock().bytes_per_second
    }
}

/// Moves bytes both ways until one side ends, or until a cut.
fn pair(client: TcpStream, server: TcpStream, trouble: &Arc<Trouble>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let connection = {
        let mut state = trouble.lock();
        if state.is_shut {
            return;
        }
        state.connections += 1;
        let connection = state.connections;
        let ends = [&client, &server].map(|end| end.try_clone().unwrap());
        state.open.insert(connection, ends);
        connection
    };
    let is_answer_lost = Arc::new(AtomicBool::new(false));
    let (client_end, server_end) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn({
        let (trouble, is_answer_lost) = (Arc::clone(trouble), Arc::clone(&is_answer_lost));
        move || {
            pump(&client, &server, &trouble, |bytes| {
                let cut = trouble.lock().take_cut_at(bytes);
                match cut {
                    None => {}
                    Some(Cut::AfterCommit) => is_answer_lost.store(true, Ordering::SeqCst),
                    Some(Cut::HoldCommit | Cut::HoldBegin) => {
                        trouble.lock().held = Some(connection);
                        trouble.note_done();
                    }
                    Some(Cut::BeforeCommit) => {
                        trouble.note_done();
                        return false;
                    }
                }
                trouble.wait_while_held(connection);
                true
            });
            trouble.lock().open.remove(&connection);
        }
    });
    let trouble = Arc::clone(trouble);
    thread::spawn(move || {
        pump(&server_end, &client_end, &trouble, |_| {
            trouble.wait_while_held(connection);
            let is_lost = is_answer_lost.load(Ordering::SeqCst);
            if is_lost {
                trouble.note_done();
            }
            !is_lost
        });
    });
}

/// Passes on pieces that `may_pass` allows; closes both sides at the first other piece, and at the end.
fn pump(mut from: &TcpStream, mut to: &TcpStream, trouble: &Trouble, mut may_pass: impl FnMut(&[u8]) -> bool) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let rate = trouble.bytes_per_second();
        let room = if rate.is_some() { SLOW_PIECE } else { piece.len() };
        let Ok(length @ 1..) = from.read(&mut piece[..room]) else {
            break;
        };
        if let Some(rate) = rate {
            // No wait for a condition: this sleep sets the rate.
            thread::sleep(Duration::from_secs_f64(length as f64 / rate as f64));
        }
        if !may_pass(&piece[..length]) || to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        // The other direction may have closed the stream before.
        stream.shutdown(Shutdown::Both).ok();
    }
}
