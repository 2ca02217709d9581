//! The load: many keep-alive connections driven by one thread, with as few system calls as possible, so that the
//! measurement shows the server.
//!
//! Closed: every connection sends its next request when the last one was answered. Open: requests are due at fixed
//! moments, whether the server keeps up or not, and their latency counts from then, so that a stall shows in every
//! request that it delays (no coordinated omission).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::requests::Requests;

/// A refused request is sent again after this pause, as a well-behaved client does; it is not counted.
const PAUSE_WHEN_REFUSED: Duration = Duration::from_millis(5);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the connection's last request was answered.
    Closed,
    /// This many requests a second, over all connections.
    Open(f64),
}

/// The result of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Latency of each request that was answered by 202, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// Requests that were refused and asked to slow down.
    pub(crate) refused: u64,
}

impl Outcome {
    /// The latency that this share of the requests stayed within.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        super::quantile(&self.latencies, share)
    }

    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Connections to one server.
pub(crate) struct Client {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    events: Vec<Event>,
    /// Connections that wait for a request to be due.
    idle: Vec<usize>,
    /// Connections with a refused request, and when they may go on.
    paused: VecDeque<(Instant, usize)>,
}

struct Connection {
    stream: TcpStream,
    requests: Requests,
    /// How many bytes of the request are sent.
    sent: usize,
    /// When the current request was due; `None` between requests.
    due: Option<Instant>,
    answer: Vec<u8>,
}

enum Progress {
    Waiting,
    Answered(u16),
}

impl Client {
    /// Opens this many connections. Each sends requests of its own, made by `requests` for its number.
    pub(crate) fn connect(address: SocketAddr, connections: usize, requests: impl Fn(usize) -> Requests) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll instance");
        let connections: Vec<_> = (0..connections)
            .map(|index| {
                let stream = TcpStream::connect(address).expect("the server listens");
                stream.set_nodelay(true).expect("a TCP socket");
                stream.set_nonblocking(true).expect("a socket");
                let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                epoll::add(&epoll, &stream, EventData::new_u64(index as u64), both).expect("a socket can be watched");
                Connection {
                    stream,
                    requests: requests(index),
                    sent: 0,
                    due: None,
                    answer: Vec::with_capacity(ANSWER_BYTES_MAX),
                }
            })
            .collect();
        Self {
            epoll,
            events: Vec::with_capacity(connections.len()),
            idle: (0..connections.len()).collect(),
            connections,
            paused: VecDeque::new(),
        }
    }

    /// Sends this many requests and waits for their answers.
    pub(crate) fn run(&mut self, requests: u64, pace: Pace) -> Outcome {
        let started = Instant::now();
        let mut load = Progressing {
            pace,
            started,
            requests,
            begun: 0,
            latencies: Vec::with_capacity(usize::try_from(requests).expect("the latencies fit into memory")),
            refused: 0,
        };
        loop {
            self.begin_what_is_due(&mut load);
            if load.latencies.len() as u64 == requests {
                break;
            }
            let wake_up = [load.next_due(), self.paused.front().map(|&(until, _)| until)]
                .into_iter()
                .flatten()
                .filter(|_| !self.idle.is_empty() || !self.paused.is_empty())
                .min();
            self.wait(wake_up);
            let ready: Vec<_> = self.events.drain(..).map(|event| event.data.u64()).collect();
            for index in ready {
                self.go_on(usize::try_from(index).expect("an index"), &mut load);
            }
        }
        let elapsed = started.elapsed();
        load.latencies.sort_unstable();
        Outcome {
            elapsed,
            latencies: load.latencies,
            refused: load.refused,
        }
    }

    fn wait(&mut self, until: Option<Instant>) {
        let timeout = until.map(|until| {
            let wait = until.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(wait.as_secs()).expect("a wait of fewer seconds"),
                tv_nsec: i64::from(wait.subsec_nanos()),
            }
        });
        self.events.clear();
        let buffer = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll_wait: {error}"),
        }
    }

    fn begin_what_is_due(&mut self, load: &mut Progressing) {
        let now = Instant::now();
        while let Some(&(until, index)) = self.paused.front()
            && until <= now
        {
            self.paused.pop_front();
            self.send(index, load);
        }
        while !self.idle.is_empty()
            && let Some(due) = load.take_due(now)
        {
            let index = self.idle.pop().expect("an idle connection, as the loop saw");
            let connection = &mut self.connections[index];
            connection.requests.next();
            connection.due = Some(due);
            self.send(index, load);
        }
    }

    fn send(&mut self, index: usize, load: &mut Progressing) {
        self.connections[index].sent = 0;
        self.go_on(index, load);
    }

    fn go_on(&mut self, index: usize, load: &mut Progressing) {
        let connection = &mut self.connections[index];
        let Some(due) = connection.due else {
            return;
        };
        match connection.go_on() {
            Progress::Waiting => {}
            Progress::Answered(202) => {
                let now = Instant::now();
                load.latencies.push(now - due);
                connection.due = None;
                match load.take_due(now) {
                    Some(due) => {
                        connection.requests.next();
                        connection.due = Some(due);
                        self.send(index, load);
                    }
                    None => self.idle.push(index),
                }
            }
            Progress::Answered(429 | 503) => {
                load.refused += 1;
                // Until then the connection must send nothing: the position is beyond the request.
                connection.sent = usize::MAX;
                self.paused.push_back((Instant::now() + PAUSE_WHEN_REFUSED, index));
            }
            Progress::Answered(status) => panic!("answered {status}: {}", String::from_utf8_lossy(&connection.answer)),
        }
    }
}

/// A load under way.
struct Progressing {
    pace: Pace,
    started: Instant,
    requests: u64,
    begun: u64,
    latencies: Vec<Duration>,
    refused: u64,
}

impl Progressing {
    /// When the next request is due; `None` when it depends on an answer, or when there is none left.
    fn next_due(&self) -> Option<Instant> {
        match self.pace {
            Pace::Open(rate) if self.begun < self.requests => {
                Some(self.started + Duration::from_secs_f64(self.begun as f64 / rate))
            }
            _ => None,
        }
    }

    /// Begins a request, if one is due.
    fn take_due(&mut self, now: Instant) -> Option<Instant> {
        if self.begun == self.requests {
            return None;
        }
        let due = self.next_due().unwrap_or(now);
        (due <= now).then(|| {
            self.begun += 1;
            due
        })
    }
}

impl Connection {
    fn go_on(&mut self) -> Progress {
        let request = self.requests.bytes();
        while self.sent < request.len() {
            match rustix::io::write(&self.stream, &request[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(Errno::AGAIN) => break,
                Err(error) => panic!("sending: {error}"),
            }
            if self.sent == request.len() {
                self.answer.clear();
                // The answer cannot be here yet.
                return Progress::Waiting;
            }
        }
        if self.sent == usize::MAX {
            return Progress::Waiting;
        }
        loop {
            let mut piece = [0; ANSWER_BYTES_MAX];
            match self.stream.read(&mut piece) {
                Ok(0) => panic!("the server closed the connection"),
                Ok(bytes) => self.answer.extend_from_slice(&piece[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waiting,
                Err(error) => panic!("receiving: {error}"),
            }
            if let Some(status) = complete(&self.answer) {
                assert!(self.sent == self.requests.bytes().len(), "answered early: {status}");
                return Progress::Answered(status);
            }
        }
    }
}

/// The status of an answer, once the answer is complete.
fn complete(answer: &[u8]) -> Option<u16> {
    const NAME: &[u8] = b"content-length: ";
    let head_bytes = 4 + answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let digits = answer[..head_bytes]
        .windows(NAME.len())
        .position(|name| name.eq_ignore_ascii_case(NAME))
        .map_or(&b"0"[..], |at| &answer[at + NAME.len()..]);
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let body_bytes = digits.fold(0, |sum, digit| 10 * sum + usize::from(digit - b'0'));
    let status = answer.get(9..12)?;
    let status = std::str::from_utf8(status).ok()?.parse().ok()?;
    (answer.len() >= head_bytes + body_bytes).then_some(status)
}
