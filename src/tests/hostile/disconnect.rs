//! Clients that vanish at every byte of a request, with a close or a reset, and bad requests among many, against the
//! real binary.
//!
//! An incomplete request stores nothing. A complete one whose client did not wait for the answer is stored once or not
//! at all: only in this case does a client not know.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::hostile::support::{ATTACKER, Siege};
use crate::support::http::{Client, chunked, post, post_head};
use crate::support::ledger::body_of;
use crate::support::process::PATIENCE;
use crate::torture::report::Footprint;

const LIMITS: Footprint = Footprint {
    rss_kib: 64 * 1024,
    threads: 32,
    files: 512,
};

/// How a client vanishes.
#[derive(Debug, Clone, Copy)]
enum End {
    /// What it sent still arrives, followed by the end of the stream.
    Close,
    /// It sends no more, and waits until the server closes.
    HalfClose,
    /// What it sent may be lost in transit.
    Reset,
}

#[test]
fn a_client_that_vanishes_at_any_byte_stores_nothing_or_all_once() {
    let siege = Siege::begin(LIMITS, &[]);
    let request_of = |is_chunked: bool, user: &str| {
        let body = body_of(user);
        if !is_chunked {
            return post("/events", body);
        }
        let head = post_head("/events", "Transfer-Encoding: chunked\r\n");
        [head, chunked(body.as_bytes(), 50)].concat()
    };
    let (mut whole, mut vanished) = (Vec::new(), 0);
    for is_chunked in [false, true] {
        for end in [End::Close, End::HalfClose, End::Reset] {
            let user = format!("{ATTACKER}{is_chunked}-{end:?}");
            // Another user than that of the whole request: no event of it may be stored.
            let request = request_of(is_chunked, &format!("{user}-cut"));
            for bytes in 0..request.len() {
                vanish(siege.address(), &request[..bytes], end);
                vanished += 1;
            }
            for number in 0..10 {
                let user = format!("{user}-whole-{number}");
                vanish(siege.address(), &request_of(is_chunked, &user), end);
                whole.push(user);
            }
        }
    }
    assert!(vanished > 1000, "only {vanished} clients");
    siege.lift_with_unknown(&[], &whole);
}

fn vanish(address: SocketAddr, bytes: &[u8], end: End) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    match end {
        End::Close => {}
        End::HalfClose => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            // With a reset or not; with an answer or without.
            if let Err(error) = stream.read_to_end(&mut answer) {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "not closed");
            }
        }
        End::Reset => set_socket_linger(&stream, Some(Duration::ZERO)).unwrap(),
    }
}

/// A refused request among others is refused alone; a malformed one ends the connection, and nothing after it is
/// stored.
#[test]
fn fifty_requests_in_one_write_with_a_bad_one_in_the_middle() {
    let siege = Siege::begin(LIMITS, &[]);
    let mut stored = Vec::new();
    let bad = [
        (post("/events", r#"{"user_id":"x"}"#), 400, true),
        (post("/nowhere", "{}"), 404, true),
        (b"POST /eve nts HTTP/1.1\r\n\r\n".to_vec(), 400, false),
        (post_head("/events", "Content-Length: x\r\n"), 400, false),
    ];
    for (case, (bad, status, goes_on)) in bad.iter().enumerate() {
        let user = |number: usize| format!("{ATTACKER}{case}-{number}");
        let request = |number: usize| match number {
            25 => bad.clone(),
            number => post("/events", body_of(&user(number))),
        };
        let mut client = Client::connect(siege.address());
        client.send((0..50).flat_map(request).collect::<Vec<u8>>());
        let answered = if *goes_on { 50 } else { 26 };
        for number in 0..answered {
            let wanted = if number == 25 { *status } else { 202 };
            assert_eq!(client.answer().status, wanted, "request {number} of case {case}");
        }
        if !goes_on {
            assert_eq!(client.until_closed(), b"");
        }
        stored.extend((0..answered).filter(|&number| number != 25).map(user));
    }
    siege.lift(&stored);
}
