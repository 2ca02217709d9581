//! The other half of the promise: clients that write down what they sent and what they were told, and hold the database to it.
//!
//! An event's user is derived from (client, request, index) and everything else in it from the user, so a stored row can be
//! checked without remembering what was sent. No event has an `event_id`: nothing but the server prevents duplicates.

mod audit;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

pub(crate) use audit::Audit;

use crate::process::PATIENCE;
use crate::process::client::{Answer, Connection};
use crate::process::stored::StoredEvent;

/// 2026-01-29T00:00:00Z: the events spread over six days and two months.
const FIRST_SECOND: i64 = 1_769_644_800;
const SECONDS: u64 = 6 * 86_400;
/// The client of single requests that are sent by hand.
const PROBE: u32 = u32::MAX;
/// A client that was told to slow down does.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// What a client knows about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 202, read to its end.
    Ack,
    /// Definitely not stored.
    Refused(u16),
    /// Anything else.
    Unknown,
}

/// One request as its client saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) client: u32,
    pub(crate) request: u32,
    pub(crate) events: u32,
    pub(crate) outcome: Outcome,
    /// When the system had taken all of it.
    pub(crate) sent_at: Instant,
    /// When the outcome was known.
    pub(crate) answered_at: Instant,
}

/// Everything the clients know.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: Vec<Entry>,
}

/// Clients at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
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

impl Load {
    /// Starts clients that send as fast as they are answered.
    pub(crate) fn start(address: SocketAddr, clients: u32) -> Self {
        Self::start_numbered(address, 0..clients, Duration::ZERO)
    }

    /// Starts clients that rest between an answer and the next request.
    pub(crate) fn start_paced(address: SocketAddr, clients: u32, rest: Duration) -> Self {
        Self::start_numbered(address, 0..clients, rest)
    }

    /// The same with clients of these numbers, so that several loads can share a database.
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
        assert!(
            !waited.timed_out(),
            "{found} requests {what}, still no {wanted}"
        );
    }

    /// Sends one request of its own and returns its answer; it is in the ledger like any other.
    pub(crate) fn probe(&self, query: &str) -> io::Result<Answer> {
        let (address, request) = {
            let mut state = self.shared.state.lock().unwrap();
            state.probes += 1;
            (state.address, state.probes)
        };
        let (path, body, events) = compose(PROBE, request);
        let sent_at = Instant::now();
        let answer = Connection::open(address).and_then(|mut connection| {
            connection.request("POST", &format!("{path}{query}"), body.as_bytes())
        });
        let outcome = answer.as_ref().map_or(Outcome::Unknown, judge);
        self.shared.record(Entry {
            client: PROBE,
            request,
            events,
            outcome,
            sent_at,
            answered_at: Instant::now(),
        });
        answer
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
    /// Where to send to; `None` when it is time to end.
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

/// One client: request after request, each with new events, until told to end.
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
        // A request that was sent in part has no outcome either, only more certainty that it failed.
        let answer = sent.and_then(|()| connection.receive());
        let outcome = answer.as_ref().map_or(Outcome::Unknown, judge);
        shared.record(Entry {
            client,
            request,
            events,
            outcome,
            sent_at,
            answered_at: Instant::now(),
        });
        request += 1;
        if let Ok(answer) = answer
            && answer.header("connection") != Some("close")
        {
            kept = Some((connection, generation));
        }
        let pause = match outcome {
            Outcome::Refused(_) => REFUSED_PAUSE,
            Outcome::Ack | Outcome::Unknown => rest,
        };
        if !pause.is_zero() {
            shared.wait_for_next(generation, pause);
        }
    }
}

fn judge(answer: &Answer) -> Outcome {
    match answer.status {
        200 | 202 => Outcome::Ack,
        // The log failed while it had the request.
        503 if answer.body.contains("outcome_unknown") => Outcome::Unknown,
        status @ (400..=499 | 503) => Outcome::Refused(status),
        _ => Outcome::Unknown,
    }
}

/// A request's path, body and number of events. One in eight is a single event.
fn compose(client: u32, request: u32) -> (&'static str, String, u32) {
    let hash = hash_of(&(client, request));
    if hash.is_multiple_of(8) {
        return ("/events", body_of(&user_of(client, request, 0)), 1);
    }
    let events = 1 + u32::try_from(hash % 30).unwrap();
    let bodies: Vec<_> = (0..events)
        .map(|index| body_of(&user_of(client, request, index)))
        .collect();
    ("/events/bulk", format!("[{}]", bodies.join(",")), events)
}

fn user_of(client: u32, request: u32, index: u32) -> String {
    format!("c{client}-r{request}-e{index}")
}

/// The row that must come of a user's event.
pub(crate) fn event_of(user_id: &str) -> StoredEvent {
    let hash = hash_of(&user_id);
    let micros = i64::try_from(hash % (SECONDS * 1_000_000)).unwrap();
    StoredEvent {
        user_id: user_id.to_owned(),
        event_name: format!("name-{}", hash % 3),
        channel: format!("kanal-ü{}", hash % 5),
        ts_micros: FIRST_SECOND * 1_000_000 + micros,
        event_id: None,
        campaign_id: hash.is_multiple_of(7).then(|| format!("campaign {hash}")),
        tags: hash
            .is_multiple_of(5)
            .then(|| json!([format!("{hash:x}"), "ta\"g", "é"])),
        metadata: (!hash.is_multiple_of(4))
            .then(|| json!({"hash": hash.to_string(), "nested": {"n": [hash % 100, null, 1.5]}})),
    }
}

/// The same event as it is sent.
pub(crate) fn body_of(user_id: &str) -> String {
    let event = event_of(user_id);
    let mut body = format!(
        r#"{{"event_name":"{}","channel":"{}","user_id":"{user_id}","timestamp":{}"#,
        event.event_name, event.channel, event.ts_micros
    );
    if let Some(campaign) = event.campaign_id {
        write!(body, r#","campaign_id":"{campaign}""#).unwrap();
    }
    for (name, value) in [("tags", event.tags), ("metadata", event.metadata)] {
        if let Some(value) = value {
            write!(body, r#","{name}":{value}"#).unwrap();
        }
    }
    body + "}"
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Ledger {
    /// How many requests ended in a way.
    pub(crate) fn count(&self, is_counted: impl Fn(&Entry) -> bool) -> usize {
        self.entries
            .iter()
            .filter(|entry| is_counted(entry))
            .count()
    }

    /// Nobody noticed anything of what was done to the database.
    #[track_caller]
    pub(crate) fn assert_all_acknowledged(&self) {
        let others = self.count(|entry| entry.outcome != Outcome::Ack);
        assert_eq!(others, 0, "every answer is a 202");
    }

    /// Leaves the outcome of what was answered in this time open.
    pub(crate) fn forget_answers_in(&mut self, time: &Range<Instant>) {
        for entry in &mut self.entries {
            if time.contains(&entry.answered_at) {
                entry.outcome = Outcome::Unknown;
            }
        }
    }

    /// Compares what the clients know with what the database holds.
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
            let found: Vec<_> = users
                .map(|user| copies.remove(user.as_str()).unwrap_or(0))
                .collect();
            audit.weigh(entry, &found);
        }
        for (user, copies) in copies {
            audit.phantom += u64::from(copies);
            audit.note(|| format!("nobody sent {user}"));
        }
        audit
    }

    /// Holds the database to every answer: acknowledged events are there exactly once, refused ones are not, an unknown request
    /// is there whole or not at all, nothing else is there, and all of it is what was sent. Returns how many unknown ones are
    /// there.
    #[track_caller]
    pub(crate) fn verify(&self, stored: &[StoredEvent]) -> u64 {
        let audit = self.audit(stored);
        assert!(audit.is_clean(), "{audit:?}");
        audit.unknown_stored
    }
}

/// A bulk request of one event for each user.
pub(crate) fn bulk_of(users: &[String]) -> String {
    let bodies: Vec<_> = users.iter().map(|user| body_of(user)).collect();
    format!("[{}]", bodies.join(","))
}

/// Holds the database to exactly these users' events, once each.
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
