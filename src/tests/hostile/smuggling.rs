//! Requests that two readers could read differently, each followed by a hidden second request, against the real binary.
//!
//! Where the end of the first one is in doubt, no byte after it may be read as a request: the connection ends with one
//! answer at most, and the hidden event is not stored. Where there is no doubt, the hidden request is an ordinary
//! second request. After each shape, a client on a connection of its own is answered as always.

mod shapes;

use crate::hostile::smuggling::shapes::{CHUNKS, CODINGS, HEADS, LENGTHS, Shape};
use crate::hostile::support::{ATTACKER, Attacker, Siege, status_of, wait_until};
use crate::support::http::chunked;
use crate::support::ledger::{body_of, bulk_of};
use crate::torture::report::Footprint;

const LIMITS: Footprint = Footprint {
    rss_kib: 64 * 1024,
    threads: 32,
    files: 128,
};

const POST: &str = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

#[test]
fn lengths_that_can_be_read_in_two_ways_hide_nothing() {
    try_all(LENGTHS);
}

#[test]
fn transfer_codings_that_can_be_read_in_two_ways_hide_nothing() {
    try_all(CODINGS);
}

#[test]
fn chunks_that_can_be_read_in_two_ways_hide_nothing() {
    try_all(CHUNKS);
}

#[test]
fn heads_that_can_be_read_in_two_ways_hide_nothing() {
    try_all(HEADS);
}

/// Tries every shape, then reports all failures together.
fn try_all(shapes: &[Shape]) {
    let siege = Siege::begin(LIMITS, &[]);
    let mut stored = Vec::new();
    let mut surprises = Vec::new();
    for (number, (name, shape, statuses)) in shapes.iter().enumerate() {
        let user = |role: &str| format!("{ATTACKER}{role}-{number}");
        let body = body_of(&user("first"));
        let kept = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
        let chunks = String::from_utf8(chunked(body.as_bytes(), 100)).unwrap();
        let request = shape
            .replace("{P}", POST)
            .replace("{K}", &kept)
            .replace("{L}", &body.len().to_string())
            .replace("{B}", &body)
            .replace("{C}", &chunks);
        let hidden = bulk_of(&[user("hidden"), user("hidden-too")]);
        let hidden = format!(
            "POST /events/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        );
        let answered = answers(&siege, &format!("{request}{hidden}"));
        if answered != *statuses {
            surprises.push(format!("{name}: {answered:?} instead of {statuses:?}"));
        }
        // The first answer is the first event's, the second that of the hidden ones.
        if answered.first() == Some(&202) {
            stored.push(user("first"));
        }
        if answered.get(1) == Some(&202) {
            stored.extend([user("hidden"), user("hidden-too")]);
        }
        let canary = siege.server().request("POST", "/events", &body_of(&user("canary")));
        assert_eq!(canary.status, 202, "after {name}: {canary:?}");
        stored.push(user("canary"));
    }
    siege.lift(&stored);
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

/// Sends the request in one write and returns the statuses of all answers until the server closes.
fn answers(siege: &Siege, request: &str) -> Vec<u16> {
    let mut client = Attacker::open(siege.address(), request.as_bytes());
    wait_until("the connection ends", || {
        client.look();
        client.is_cut
    });
    let mut rest = &client.received[..];
    let mut statuses = Vec::new();
    while !rest.is_empty() {
        let text = String::from_utf8_lossy(rest);
        let status = status_of(rest).unwrap_or_else(|| panic!("no answer: {text}"));
        let (head, _) = text.split_once("\r\n\r\n").expect("a whole head");
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        rest = rest.get(head.len() + 4 + length..).expect("a whole answer");
        statuses.push(status);
    }
    statuses
}
