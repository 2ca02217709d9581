//! The real HTTP server in this process, on a port of its own, and a client that writes raw bytes.
//!
//! The test controls what is behind the server: the receiving end of the ring (acknowledged by a thread, or held by the
//! test) and the store.

#![allow(
    clippy::unwrap_used,
    reason = "clippy counts helpers of integration tests as production code"
)]

pub(crate) mod store_stub;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown as SocketShutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use fast_ingest::flush::progress::Progress;
use fast_ingest::http::applied::Applied;
use fast_ingest::http::hosts::Hosts;
use fast_ingest::http::settings::HttpSettings;
use fast_ingest::http::{App, server};
use fast_ingest::intake::{Clock, Intake};
use fast_ingest::store::EventStore;
use fast_ingest::support::budget::Budget;
use fast_ingest::support::shutdown::Shutdown;
use fast_ingest::wal::gate::Gate;
use fast_ingest::wal::id::LifeId;
use fast_ingest::wal::log::DurableMark;
use fast_ingest::wal::submission::Submission;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) use store_stub::StoreStub;

/// Far longer than any of these tests takes: it turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One valid event, as the body of `POST /events`.
pub(crate) const EVENT: &str = r#"{"event_name":"page_view","channel":"web","user_id":"u1","timestamp":1769938200}"#;

/// What a test may configure before the server starts.
pub(crate) struct Setup {
    pub(crate) settings: HttpSettings,
    pub(crate) ring_slots: usize,
    pub(crate) log_bytes_max: u64,
    pub(crate) drain_max: Duration,
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) clock: Clock,
}

impl Default for Setup {
    fn default() -> Self {
        let settings = HttpSettings {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            allowed_hosts: Vec::new(),
            connections_max: 100,
            bulk_events_max: 1000,
            event_age_max: Duration::MAX,
            event_bytes_max: 256 * 1024,
            body_bytes_max: 4 * 1024 * 1024,
            inflight_bytes_max: 24 * 1024 * 1024,
            header_timeout: PATIENCE,
            body_timeout: PATIENCE,
            idle_timeout: PATIENCE,
            write_timeout: PATIENCE,
        };
        let store = Arc::new(StoreStub::default());
        Self {
            settings,
            ring_slots: 16,
            log_bytes_max: 1 << 30,
            drain_max: PATIENCE,
            store,
            clock: Clock::SYSTEM,
        }
    }
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) gate: Arc<Gate>,
    pub(crate) progress: Arc<Progress>,
    /// Life of its log.
    pub(crate) life: LifeId,
    /// Stands in for what the log thread publishes.
    pub(crate) durable: watch::Sender<DurableMark>,
    /// Yields the number of connections that the drain had to cut.
    serving: Option<JoinHandle<usize>>,
    runtime: Runtime,
}

impl TestServer {
    /// A server whose log acknowledges everything. The receiver yields the event count of each record, at the latest
    /// when its answer arrives.
    pub(crate) fn acknowledging(setup: Setup) -> (Self, Receiver<u32>) {
        let (server, submissions) = Self::start(setup);
        let (stored, stored_counts) = crossbeam_channel::unbounded();
        thread::spawn(move || {
            let mut through = 0;
            for submission in submissions {
                through += u64::from(submission.event_count);
                // The test or the request may have ended by now.
                stored.send(submission.event_count).ok();
                submission.ack.send(Ok(through)).ok();
            }
        });
        (server, stored_counts)
    }

    /// A server whose log is played by the test.
    pub(crate) fn start(setup: Setup) -> (Self, Receiver<Submission>) {
        Self::start_after(setup, |_, _| ())
    }

    /// A server that begins to accept only after `before`; clients can connect earlier.
    pub(crate) fn start_after(
        setup: Setup,
        before: impl FnOnce(SocketAddr, &Shutdown),
    ) -> (Self, Receiver<Submission>) {
        let gate = Gate::new(setup.log_bytes_max, 0);
        let budget = Budget::new(setup.settings.inflight_bytes_max);
        let (intake, submissions) = Intake::new(setup.ring_slots, budget, Arc::clone(&gate));
        let nothing = DurableMark {
            through: 0,
            active_first: 1,
            active_end: 0,
        };
        let durable = watch::Sender::new(nothing);
        let life = LifeId(Uuid::new_v4());
        let progress = Progress::new(durable.subscribe(), 0);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(server::bind(setup.settings.address())).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        before(address, &shutdown);
        let app = Arc::new(App {
            hosts: Hosts::new(address.ip(), &setup.settings.allowed_hosts),
            settings: setup.settings,
            intake,
            clock: setup.clock,
            gate: Arc::clone(&gate),
            store: setup.store,
            progress: Arc::clone(&progress),
            applied: Applied::new(life, shutdown.drain_token()),
        });
        let serving = runtime.spawn(server::serve(listener, app, shutdown.drain_token(), setup.drain_max));
        let server = Self {
            address,
            shutdown,
            gate,
            progress,
            life,
            durable,
            serving: Some(serving),
            runtime,
        };
        (server, submissions)
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one request on a connection of its own.
    pub(crate) fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        self.connect().exchange(request)
    }

    /// Waits for the end of the drain that the test has begun. Returns how many connections it cut.
    pub(crate) fn drained(&mut self) -> usize {
        let serving = self.serving.take().expect("waited for once");
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, serving).await })
            .expect("ends")
            .expect("no panic")
    }
}

/// Polls for a condition that sends no signal.
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "it does not happen");
        thread::yield_now();
    }
}

/// One connection, controlled step by step.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// A new connection.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            reader: BufReader::new(stream),
        }
    }

    /// Writes bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Writes bytes to a server that may have closed the connection; false if it has.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.reader.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// Writes a request and reads its answer.
    pub(crate) fn exchange(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer()
    }

    /// Reads one answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.answer_head();
        let length = answer.header("content-length").expect("a length").parse().unwrap();
        answer.body.resize(length, 0);
        self.reader.read_exact(&mut answer.body).unwrap();
        answer
    }

    /// Reads only the head of an answer: that of a HEAD request, or a `100 Continue`.
    pub(crate) fn answer_head(&mut self) -> Answer {
        let status_line = self.line();
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not an answer: {status_line:?}"));
        let mut headers = HashMap::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return Answer {
                    status,
                    headers,
                    body: Vec::new(),
                };
            }
            let (name, value) = line.split_once(": ").unwrap();
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }

    /// Waits for the first byte of an answer.
    pub(crate) fn wait_for_answer(&mut self) {
        assert!(!self.reader.fill_buf().unwrap().is_empty(), "closed without an answer");
    }

    /// Whether part of an answer has arrived.
    pub(crate) fn has_answer(&mut self) -> bool {
        let stream = self.reader.get_mut();
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        matches!(peeked, Ok(1))
    }

    /// Closes the sending side.
    pub(crate) fn finish_sending(&mut self) {
        self.reader.get_mut().shutdown(SocketShutdown::Write).unwrap();
    }

    /// Reads until the server closes or resets the connection; returns the bytes before that.
    pub(crate) fn until_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the server does not close")
            }
            Ok(_) | Err(_) => rest,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end_matches(['\r', '\n']).to_owned()
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as text, which must be one line.
    pub(crate) fn line(&self) -> &str {
        let line = self.text().strip_suffix('\n');
        line.expect("a line feed at the end")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Checks that this is a complete RFC 9457 problem and returns its code.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        let code = problem["code"].as_str().expect("a code").to_owned();
        assert_eq!(problem["type"], format!("urn:fast-ingest:problem:{code}"));
        assert_eq!(problem["status"], self.status);
        for member in ["title", "detail"] {
            assert!(!problem[member].as_str().expect("a text").is_empty());
        }
        code
    }
}

/// A POST of JSON with a `Content-Length`.
pub(crate) fn post(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = post_head(path, &format!("Content-Length: {}\r\n", body.len()));
    request.extend_from_slice(body);
    request
}

/// The head of a POST of JSON with these additional header lines.
pub(crate) fn post_head(path: &str, lines: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}\r\n").into_bytes()
}

/// A request without a body.
pub(crate) fn bodyless(method: &str, target: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// A GET.
pub(crate) fn get(target: &str) -> Vec<u8> {
    bodyless("GET", target)
}

/// `body` in chunks of `chunk_bytes`.
pub(crate) fn chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(chunk_bytes) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
