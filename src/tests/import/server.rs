//! A server that follows a test's script, and stores events as the real one does: once for each `event_id`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The server's reaction to a request.
pub(super) enum Reply {
    /// Store the events and acknowledge them.
    Store,
    /// Store the events, but close the connection instead of answering.
    StoreAndHangUp,
    /// Close the connection without an answer.
    HangUp,
    /// Answer without storing: status, header lines, body.
    Answer(u16, &'static str, String),
}

/// Decides on the n-th request, counted from 0 over all connections.
pub(super) type Script = dyn Fn(usize, &[Value]) -> Reply + Send + Sync;

/// The stored events. They outlive a restart.
#[derive(Default)]
pub(super) struct Store {
    with_id: Mutex<BTreeMap<String, Value>>,
    without_id: Mutex<Vec<Value>>,
    requests: AtomicUsize,
}

impl Store {
    /// Events by their id.
    pub(super) fn by_id(&self) -> BTreeMap<String, Value> {
        self.with_id.lock().unwrap().clone()
    }

    /// The field `n` of all events that have an id, in ascending order; each as often as it is stored.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let events = self.with_id.lock().unwrap();
        let mut numbers: Vec<u64> = events.values().map(|event| event["n"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Events without an id, in the order of their arrival.
    pub(super) fn without_id(&self) -> Vec<Value> {
        self.without_id.lock().unwrap().clone()
    }

    /// How many requests have come in.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn store(&self, events: Vec<Value>) {
        for event in events {
            match event["event_id"].as_str() {
                Some(id) => {
                    let before = self.with_id.lock().unwrap().insert(id.to_owned(), event.clone());
                    assert!(
                        before.is_none_or(|before| before == event),
                        "two events share the id {id}"
                    );
                }
                None => self.without_id.lock().unwrap().push(event),
            }
        }
    }
}

/// A running server. Stops when it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) store: Arc<Store>,
    stopping: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// A server on a free port.
    pub(super) fn start(script: impl Fn(usize, &[Value]) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), Arc::default(), script)
    }

    /// A server on this port that continues with the events of `store`.
    pub(super) fn start_at(
        address: SocketAddr,
        store: Arc<Store>,
        script: impl Fn(usize, &[Value]) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = bind(address);
        let address = listener.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let acceptor = {
            let (store, stopping, connections) = (store.clone(), stopping.clone(), connections.clone());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let stream = stream.unwrap();
                    connections.lock().unwrap().push(stream.try_clone().unwrap());
                    let (store, script) = (store.clone(), script.clone());
                    // An error means that the client has closed, or that the server is being stopped.
                    thread::spawn(move || serve(&stream, &store, &*script).unwrap_or_default());
                }
            })
        };
        Self {
            address,
            store,
            stopping,
            connections,
            acceptor: Some(acceptor),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the port and all connections, as a killed process would.
    pub(super) fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        self.stopping.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address).unwrap());
        acceptor.join().unwrap();
        for connection in self.connections.lock().unwrap().drain(..) {
            // Fails if the client has closed before.
            connection.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}

/// Binds a port that was closed a moment ago. A process that a parallel test is about to start may still hold a copy of
/// the old listener, between its fork and its exec.
fn bind(address: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => thread::yield_now(),
            bound => return bound.unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(stream: &TcpStream, store: &Store, script: &Script) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    while let Some(body) = read_request(&mut input)? {
        let number = store.requests.fetch_add(1, Ordering::SeqCst);
        let events: Vec<Value> = serde_json::from_slice(&body).expect("a body must be an array of events");
        let count = events.len();
        match script(number, &events) {
            Reply::Store => {
                store.store(events);
                answer(
                    stream,
                    202,
                    "",
                    &format!("{{\"accepted\":{count},\"receipt\":\"0a0b1\"}}"),
                )?;
            }
            Reply::StoreAndHangUp => {
                store.store(events);
                return stream.shutdown(Shutdown::Both);
            }
            Reply::HangUp => return stream.shutdown(Shutdown::Both),
            Reply::Answer(status, headers, body) => answer(stream, status, headers, &body)?,
        }
    }
    Ok(())
}

fn read_request(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    assert_eq!(line.trim_end(), "POST /events/bulk HTTP/1.1");
    let mut body = Vec::new();
    loop {
        line.clear();
        input.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(length) = header.strip_prefix("content-length: ") {
            body.resize(length.parse().unwrap(), 0);
        }
        if let Some(kind) = header.strip_prefix("content-type: ") {
            assert_eq!(kind, "application/json");
        }
    }
    input.read_exact(&mut body)?;
    Ok(Some(body))
}

fn answer(mut stream: &TcpStream, status: u16, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let text = format!("HTTP/1.1 {status} Scripted\r\n{headers}content-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes())
}

/// The answer to a bulk request in which `is_bad` events lack a field; lists at most `listed_max` of them. Stores the
/// events if none is bad.
pub(super) fn judge(events: &[Value], listed_max: usize, is_bad: impl Fn(&Value) -> bool) -> Reply {
    let bad: Vec<usize> = (0..events.len()).filter(|&index| is_bad(&events[index])).collect();
    if bad.is_empty() {
        return Reply::Store;
    }
    let error = |index: &usize| serde_json::json!({"index": index, "field": "user_id", "code": "required", "message": "is missing"});
    let errors: Vec<Value> = bad.iter().take(listed_max).map(error).collect();
    let problem = serde_json::json!({"type": "about:blank", "title": "Invalid events", "status": 400,
        "detail": "the request was not stored", "code": "invalid_events", "invalid_count": bad.len(), "errors": errors});
    Reply::Answer(400, "", problem.to_string())
}
