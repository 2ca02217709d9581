//! A TCP proxy in front of PostgreSQL that cuts a connection at the worst moment: around the COMMIT of a batch.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::PATIENCE;
use super::stored::Database;

/// The simple query `COMMIT` on the wire. It is alone in its packet, because the flush waits for every answer before it.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// Where to cut.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// The server never hears of the COMMIT.
    BeforeCommit,
    /// The server has committed, and its answer is lost.
    AfterCommit,
}

/// A proxy. Its threads end with the connections, and with the process.
pub(crate) struct Proxy {
    database: Database,
    cuts: Arc<Cuts>,
}

#[derive(Default)]
struct Cuts {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the next COMMIT meets.
    armed: Option<Cut>,
    done: u32,
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
        let cuts = Arc::new(Cuts::default());
        thread::spawn({
            let (cuts, server) = (Arc::clone(&cuts), server.to_owned());
            move || {
                for client in listener.incoming() {
                    // A server that is down is told by hanging up.
                    if let Ok(upstream) = TcpStream::connect(&server) {
                        pair(client.unwrap(), upstream, &cuts);
                    }
                }
            }
        });
        let url = format!("{user}@{address}/{name}?sslmode=disable");
        Self {
            database: Database::Postgres(url),
            cuts,
        }
    }

    /// The database as it is reached through the proxy.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Cuts the connection of the next COMMIT, and returns when that is done.
    pub(crate) fn cut(&self, cut: Cut) {
        let mut state = self.cuts.state.lock().unwrap();
        state.armed = Some(cut);
        let wanted = state.done + 1;
        let (state, _) = self
            .cuts
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.done < wanted)
            .unwrap();
        assert_eq!(state.done, wanted, "no COMMIT came by");
    }
}

impl Cuts {
    fn note_done(&self) {
        self.state.lock().unwrap().done += 1;
        self.changed.notify_all();
    }
}

/// Moves bytes both ways until one side ends, or a cut.
fn pair(client: TcpStream, server: TcpStream, cuts: &Arc<Cuts>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let is_answer_lost = Arc::new(AtomicBool::new(false));
    let (client_end, server_end) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn({
        let (cuts, is_answer_lost) = (Arc::clone(cuts), Arc::clone(&is_answer_lost));
        move || {
            pump(&client, &server, |bytes| {
                let cut = (bytes == COMMIT)
                    .then(|| cuts.state.lock().unwrap().armed.take())
                    .flatten();
                match cut {
                    None => true,
                    Some(Cut::AfterCommit) => {
                        is_answer_lost.store(true, Ordering::SeqCst);
                        true
                    }
                    Some(Cut::BeforeCommit) => {
                        cuts.note_done();
                        false
                    }
                }
            });
        }
    });
    let cuts = Arc::clone(cuts);
    thread::spawn(move || {
        pump(&server_end, &client_end, |_| {
            let is_lost = is_answer_lost.load(Ordering::SeqCst);
            if is_lost {
                cuts.note_done();
            }
            !is_lost
        });
    });
}

/// Passes on what `may_pass`; closes both sides at the first piece that may not, and at the end.
fn pump(mut from: &TcpStream, mut to: &TcpStream, mut may_pass: impl FnMut(&[u8]) -> bool) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if !may_pass(&piece[..length]) || to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        // The other direction may have closed it before.
        stream.shutdown(Shutdown::Both).ok();
    }
}
