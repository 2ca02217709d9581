//! Clients that write down what they sent and which answers they got, and compare the database with it.
//!
//! An event's user is derived from (client, request, index) and everything else in it from the user, so a stored row
//! can be checked without remembering what was sent. No event has an `event_id`: nothing but the server prevents
//! duplicates.

mod audit;
mod events;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) use audit::Audit;
#[allow(unused_imports, reason = "the tests use more of it than the plans do")]
pub(crate) use events::{body_of, bulk_of, event_of};

use events::{compose, is_single, user_of};

use crate::support::process::PATIENCE;
use crate::support::process::client::{Answer, Connection};
use crate::support::process::stored::StoredEvent;

/// Pause of a client after a refusal, before it goes on.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// A client's knowledge about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered 202, read to its end.
    Ack,
    /// Certainly not stored.
    Refused(u16),
    /// Any other result.
    Unknown,
    /// Answered 202, and known not to be in the database: the event waits in the log, or a person has given it up.
    Withheld,
}

/// One request as its client saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) client: u32,
    pub(crate) request: u32,
    pub(crate) events: u32,
    pub(crate) outcome: Outcome,
    /// Sequence of the last event, from the receipt of a 202.
    pub(crate) through: Option<u64>,
    /// When the system had accepted the whole request.
    pub(crate) sent_at: Instant,
    /// When the outcome was known.
    pub(crate) answered_at: Instant,
}

/// The entries of all clients.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger {
    pub(crate) entries: Vec<Entry>,
}

/// Running clients.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The client number of probes; no other load uses it.
    probe_client: u32,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    address: SocketAddr,
    /// Grows with each address, so that a client whose server is gone waits for the next one.
    generation: u64,
    is_stopping: bool,
    entries: Vec<Entry>,
    acks: u64,
    refusals: u64,
    probes: u32,
}

impl Entry {
    fn new((client, request, events): (u32, u32, u32), answer: &io::Result<Answer>, sent_at: Instant) -> Self {
        let answer = answer.as_ref();
        Self {
            client,
            request,
            events,
            outcome: answer.map_or(Outcome::Unknown, judge),
            through: answer.ok().and_then(sequence_of),
            sent_at,
            answered_at: Instant::now(),
        }
    }
}

impl Load {
    /// Starts clients that send as fast as they are answered.
    pub(crate) fn start(address: SocketAddr, clients: u32) -> Self {
        Self::start_numbered(address, 0..clients, Duration::ZERO)
    }

    /// Starts clients that rest between an answer and the next request.
    pub(crate) fn start_paced(address: SocketAddr, clients: u32, rest: Duration) -> Self {
        Self::start_numbered(address, 0..clients, rest)
    }

    /// Starts clients with these numbers, so that several loads can share a database.
    pub(crate) fn start_numbered(address: SocketAddr, clients: Range<u32>, rest: Duration) -> Self {
        let state = State {
            address,
            generation: 0,
            is_stopping: false,
            entries: Vec::new(),
            acks: 0,
            refusals: 0,
            probes: 0,
        };
        let shared = Arc::new(Shared {
            probe_client: u32::MAX - clients.start,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let start_client = |client| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || work(&shared, client, rest))
        };
        let clients = clients.map(start_client).collect();
        Self { shared, clients }
    }

    /// Waits until this many more requests were acknowledged.
    #[track_caller]
    pub(crate) fn wait_for_acks(&self, more: u64) {
        self.wait_for("acknowledged", more, |state| state.acks);
    }

    /// Waits until this many more requests were refused.
    #[track_caller]
    pub(crate) fn wait_for_refusals(&self, more: u64) {
        self.wait_for("refused", more, |state| state.refusals);
    }

    #[track_caller]
    fn wait_for(&self, what: &str, more: u64, count: impl Fn(&State) -> u64) {
        let state = self.shared.state.lock().unwrap();
        let wanted = count(&state) + more;
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| count(state) < wanted)
            .unwrap();
        let found = count(&state);
        drop(state);
        assert!(!waited.timed_out(), "{found} requests {what}, still no {wanted}");
    }

    /// Sends one extra request and returns its answer; it is in the ledger like any other.
    pub(crate) fn probe(&self, query: &str) -> io::Result<Answer> {
        self.probe_with(query, |_, _| true)
    }

    /// Sends one extra request of one event.
    pub(crate) fn probe_singly(&self, query: &str) -> io::Result<Answer> {
        self.probe_with(query, is_single)
    }

    fn probe_with(&self, query: &str, is_wanted: impl Fn(u32, u32) -> bool) -> io::Result<Answer> {
        let client = self.shared.probe_client;
        let (address, request) = {
            let mut state = self.shared.state.lock().unwrap();
            state.probes += 1;
            while !is_wanted(client, state.probes) {
                state.probes += 1;
            }
            (state.address, state.probes)
        };
        let (path, body, events) = compose(client, request);
        let sent_at = Instant::now();
        let answer = Connection::open(address)
            .and_then(|mut connection| connection.request("POST", &format!("{path}{query}"), body.as_bytes()));
        self.shared
            .record(Entry::new((client, request, events), &answer, sent_at));
        answer
    }

    /// Whether the load has clients that send by themselves.
    pub(crate) fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Tells the clients where the server is now.
    pub(crate) fn go_on_at(&self, address: SocketAddr) {
        let mut state = self.shared.state.lock().unwrap();
        state.address = address;
        state.generation += 1;
        self.shared.changed.notify_all();
    }

    /// Lets requests in flight finish and returns what the clients know.
    pub(crate) fn finish(self) -> Ledger {
        self.shared.state.lock().unwrap().is_stopping = true;
        self.shared.changed.notify_all();
        for client in self.clients {
            client.join().unwrap();
        }
        let entries = std::mem::take(&mut self.shared.state.lock().unwrap().entries);
        Ledger { entries }
    }
}

impl Shared {
    /// Where to send; `None` when the load ends.
    fn target(&self) -> Option<(SocketAddr, u64)> {
        let state = self.state.lock().unwrap();
        (!state.is_stopping).then_some((state.address, state.generation))
    }

    fn wait_for_next(&self, generation: u64, at_most: Duration) {
        let state = self.state.lock().unwrap();
        let is_same = |state: &mut State| state.generation == generation && !state.is_stopping;
        let waited = self.changed.wait_timeout_while(state, at_most, is_same);
        drop(waited.unwrap());
    }

    fn record(&self, entry: Entry) {
        let mut state = self.state.lock().unwrap();
        state.entries.push(entry);
        state.acks += u64::from(entry.outcome == Outcome::Ack);
        state.refusals += u64::from(matches!(entry.outcome, Outcome::Refused(_)));
        self.changed.notify_all();
    }
}

/// One client: request after request, each with new events, until the load ends.
fn work(shared: &Shared, client: u32, rest: Duration) {
    let mut kept: Option<(Connection, u64)> = None;
    let mut request = 0;
    while let Some((address, generation)) = shared.target() {
        let mut connection = match kept.take() {
            Some((connection, opened_in)) if opened_in == generation => connection,
            _ => match Connection::open(address) {
                Ok(connection) => connection,
                Err(_) => {
                    shared.wait_for_next(generation, PATIENCE);
                    continue;
                }
            },
        };
        let (path, body, events) = compose(client, request);
        let sent = connection.send("POST", path, body.as_bytes());
        let sent_at = Instant::now();
        // A request that was sent in part has no known outcome either, although it has probably failed.
        let answer = sent.and_then(|()| connection.receive());
        let entry = Entry::new((client, request, events), &answer, sent_at);
        shared.record(entry);
        request += 1;
        if let Ok(answer) = answer
            && answer.header("connection") != Some("close")
        {
            kept = Some((connection, generation));
        }
        let pause = match entry.outcome {
            Outcome::Refused(_) => REFUSED_PAUSE,
            Outcome::Ack | Outcome::Unknown | Outcome::Withheld => rest,
        };
        if !pause.is_zero() {
            shared.wait_for_next(generation, pause);
        }
    }
}

/// The sequence in the receipt of an answer: the hexadecimal digits after the life.
fn sequence_of(answer: &Answer) -> Option<u64> {
    let (_, rest) = answer.body.split_once("\"receipt\":\"")?;
    let (receipt, _) = rest.split_once('"')?;
    u64::from_str_radix(receipt.get(32..)?, 16).ok()
}

fn judge(answer: &Answer) -> Outcome {
    match answer.status {
        200 | 202 => Outcome::Ack,
        // The log failed while it held the request.
        503 if answer.body.contains("outcome_unknown") => Outcome::Unknown,
        status @ (400..=499 | 503) => Outcome::Refused(status),
        _ => Outcome::Unknown,
    }
}

impl Ledger {
    /// Number of requests that satisfy a condition.
    pub(crate) fn count(&self, is_counted: impl Fn(&Entry) -> bool) -> usize {
        self.entries.iter().filter(|entry| is_counted(entry)).count()
    }

    /// Asserts that no client noticed what was done to the database.
    #[track_caller]
    pub(crate) fn assert_all_acknowledged(&self) {
        let others = self.count(|entry| entry.outcome != Outcome::Ack);
        assert_eq!(others, 0, "every answer is a 202");
    }

    /// Makes the outcome of all requests answered in this time unknown.
    pub(crate) fn forget_answers_in(&mut self, time: &Range<Instant>) {
        for entry in &mut self.entries {
            if time.contains(&entry.answered_at) {
                entry.outcome = Outcome::Unknown;
            }
        }
    }

    /// Expects the acknowledged events with withheld sequences to be missing from the database. Returns their number.
    pub(crate) fn withhold(&mut self, is_withheld: impl Fn(u64) -> bool) -> u64 {
        let mut withheld = 0;
        for entry in &mut self.entries {
            let is_ack = matches!(entry.outcome, Outcome::Ack | Outcome::Withheld);
            let Some(through) = entry.through.filter(|_| is_ack) else {
                continue;
            };
            let sequences = through + 1 - u64::from(entry.events)..=through;
            let found = sequences.filter(|sequence| is_withheld(*sequence)).count() as u64;
            if found > 0 {
                assert_eq!(found, u64::from(entry.events), "a part of {entry:?}");
                entry.outcome = Outcome::Withheld;
                withheld += found;
            }
        }
        withheld
    }

    /// Compares the entries with the events in the database.
    pub(crate) fn audit(&self, stored: &[StoredEvent]) -> Audit {
        let mut audit = Audit::default();
        let mut copies: HashMap<&str, u32> = HashMap::with_capacity(stored.len());
        for event in stored {
            if *event != event_of(&event.user_id) {
                audit.altered += 1;
                audit.note(|| format!("not what was sent: {event:?}"));
            }
            *copies.entry(&event.user_id).or_default() += 1;
        }
        for entry in &self.entries {
            let users = (0..entry.events).map(|index| user_of(entry.client, entry.request, index));
            let found: Vec<_> = users.map(|user| copies.remove(user.as_str()).unwrap_or(0)).collect();
            audit.weigh(entry, &found);
        }
        for (user, copies) in copies {
            audit.phantom += u64::from(copies);
            audit.note(|| format!("nobody sent {user}"));
        }
        audit
    }

    /// Checks the database against every answer: acknowledged events are there exactly once, refused ones are not, an
    /// unknown request is there whole or not at all, no other event is there, and all are as sent. Returns how many
    /// unknown requests are there.
    #[track_caller]
    pub(crate) fn verify(&self, stored: &[StoredEvent]) -> u64 {
        let audit = self.audit(stored);
        assert!(audit.is_clean(), "{audit:?}");
        audit.unknown_stored
    }
}

/// Asserts that the database has exactly these users' events, once each.
#[track_caller]
pub(crate) fn assert_stored_once(stored: &[StoredEvent], users: &[String]) {
    for event in stored {
        assert_eq!(*event, event_of(&event.user_id), "not what was sent");
    }
    let mut found: Vec<_> = stored.iter().map(|event| &event.user_id).collect();
    let mut wanted: Vec<_> = users.iter().collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}
