//! Requests with distinct events, made by writing digits into a request that exists already.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::traffic::{CHANNELS, NAMES, USERS, mix};

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One event, to `/events`.
    Single,
    /// This many events, to `/events/bulk`.
    Bulk(usize),
}

impl Kind {
    /// Events of a request.
    pub(crate) fn events(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Bulk(events) => events,
        }
    }
}

/// The requests of one connection, one after the other.
#[derive(Debug)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    head_bytes: usize,
    /// Offsets of each event's user and timestamp.
    places: Vec<(usize, usize)>,
    /// Number of the next event, among those of all connections.
    number: u64,
    /// Distance between the numbers of two events of this connection.
    stride: u64,
    /// Time of the event of number 0, in microseconds.
    start: u64,
}

const USER_DIGITS: usize = 7;
const MICROS_DIGITS: usize = 16;

impl Requests {
    /// The requests of the connection `index` of `connections`. Events are a microsecond apart from `start` on.
    pub(crate) fn new(kind: Kind, index: usize, connections: usize, start: SystemTime) -> Self {
        Self::with_metadata(kind, index, connections, start, 0)
    }

    /// Requests whose events each carry metadata of about this many bytes; none for 0.
    pub(crate) fn with_metadata(
        kind: Kind,
        index: usize,
        connections: usize,
        start: SystemTime,
        metadata_bytes: usize,
    ) -> Self {
        let metadata = match metadata_bytes {
            0 => String::new(),
            bytes => format!(r#","metadata":{{"text":"{}"}}"#, "x".repeat(bytes)),
        };
        let (path, open, close) = match kind {
            Kind::Single => ("/events", "", ""),
            Kind::Bulk(_) => ("/events/bulk", "[", "]"),
        };
        let mut body = open.to_owned();
        let mut places = Vec::with_capacity(kind.events());
        for event in 0..kind.events() {
            let random = mix((index * kind.events() + event) as u64);
            let name = NAMES[(random % NAMES.len() as u64) as usize];
            let channel = CHANNELS[(random >> 8) as usize % CHANNELS.len()];
            let separator = if event == 0 { "" } else { "," };
            body.push_str(&format!(
                r#"{separator}{{"event_name":"{name}","channel":"{channel}","user_id":"user-"#
            ));
            let user_at = body.len();
            body.push_str(&"0".repeat(USER_DIGITS));
            body.push_str(r#"","timestamp":"#);
            places.push((user_at, body.len()));
            body.push_str(&"0".repeat(MICROS_DIGITS));
            body.push_str(&metadata);
            body.push('}');
        }
        body.push_str(close);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        for (user_at, micros_at) in &mut places {
            *user_at += head.len();
            *micros_at += head.len();
        }
        let since_epoch = start.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let mut requests = Self {
            head_bytes: head.len(),
            bytes: [head, body].concat().into_bytes(),
            places,
            number: index as u64,
            stride: connections as u64,
            start: u64::try_from(since_epoch.as_micros()).expect("not so late"),
        };
        requests.next();
        requests
    }

    /// Makes the next request.
    pub(crate) fn next(&mut self) {
        for &(user_at, micros_at) in &self.places {
            let user = mix(self.number) % USERS;
            put_digits(&mut self.bytes[user_at..user_at + USER_DIGITS], user);
            let micros = self.start + self.number;
            put_digits(&mut self.bytes[micros_at..micros_at + MICROS_DIGITS], micros);
            self.number += self.stride;
        }
    }

    /// The request as it goes over the wire.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body of the request.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.head_bytes..]
    }
}

fn put_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
