//! Too little of everything, against the real binary: heads and bodies sent byte by byte, silence, answers that nobody
//! reads, half-closed sockets. The server itself ends every one of these connections. Only the limit under test is
//! short, so that no other limit can end them.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::hostile::support::{ATTACKER, Attacker, Siege, wait_until};
use crate::support::http::{get, post, post_head};
use crate::support::ledger::body_of;
use crate::support::process::PATIENCE;
use crate::torture::report::Footprint;

const NEVER: &str = "10min";

/// Limits for hundreds of small requests.
const LIMITS: Footprint = Footprint {
    rss_kib: 80 * 1024,
    threads: 32,
    files: 512,
};

/// Lets each attacker send this byte, over and over, until the server has closed all connections.
fn drip_until_cut(attackers: &mut [Attacker], byte: u8) {
    wait_until("all attackers are cut", || {
        for attacker in attackers.iter_mut().filter(|one| !one.is_cut) {
            attacker.drip(byte);
            attacker.look();
        }
        attackers.iter().all(|attacker| attacker.is_cut)
    });
}

/// Waits until the server has closed the connections of all silent attackers.
fn wait_until_cut(silent: &mut [Attacker]) {
    wait_until("silent clients are cut", || {
        silent.iter_mut().for_each(Attacker::look);
        silent.iter().all(|attacker| attacker.is_cut)
    });
}

fn assert_dripped(attackers: &[Attacker]) {
    assert!(attackers.iter().all(|attacker| attacker.dripped > 10), "all sent bytes");
}

#[test]
fn slow_heads_and_silence_are_cut() {
    let flags = [
        ("--header-timeout", "2s"),
        ("--body-timeout", NEVER),
        ("--idle-timeout", NEVER),
        ("--write-timeout", NEVER),
    ];
    let siege = Siege::begin(LIMITS, &flags);
    let begun = "GET /health HTTP/1.1\r\nHost: localhost\r\nX: ";
    let open = |beginning: &str| Attacker::open(siege.address(), beginning.as_bytes());
    let mut silent: Vec<_> = (0..100).map(|_| open("")).collect();
    // Bytes drip within the first word, within a header, and in a second request.
    let dripping = ["G", begun];
    let mut dripping: Vec<_> = (0..200).map(|number| open(dripping[number % 2])).collect();
    let first = String::from_utf8(get("/health")).unwrap();
    let mut second: Vec<_> = (0..50).map(|_| open(&format!("{first}{begun}"))).collect();
    siege.assert_goes_on();
    drip_until_cut(&mut dripping, b'x');
    drip_until_cut(&mut second, b'x');
    wait_until_cut(&mut silent);
    assert_dripped(&dripping);
    for attacker in silent.iter().chain(&dripping) {
        assert!(attacker.received.is_empty(), "{:?}", attacker.status());
    }
    for attacker in &second {
        assert_eq!(attacker.status(), Some(200), "the first request is answered");
    }
    let peak = siege.lift(&[]);
    assert!(peak.files > 300, "not all were connected: {peak:?}");
}

#[test]
fn slow_and_silent_bodies_are_answered_and_cut() {
    let flags = [
        ("--header-timeout", NEVER),
        ("--body-timeout", "3s"),
        ("--idle-timeout", NEVER),
        ("--write-timeout", NEVER),
    ];
    let siege = Siege::begin(LIMITS, &flags);
    let known = post_head("/events", "Content-Length: 10000\r\n");
    let chunked = post_head("/events", "Transfer-Encoding: chunked\r\n");
    let open = |beginning: &[&[u8]]| Attacker::open(siege.address(), &beginning.concat());
    let mut silent: Vec<_> = (0..50).map(|_| open(&[&known[..]])).collect();
    silent.extend((0..50).map(|_| open(&[&chunked[..], b"ffff\r\n{"])));
    let mut dripping: Vec<_> = (0..100).map(|_| open(&[&known[..], b"{"])).collect();
    dripping.extend((0..100).map(|_| open(&[&chunked[..], b"ffff\r\n{"])));
    siege.assert_goes_on();
    drip_until_cut(&mut dripping, b' ');
    wait_until_cut(&mut silent);
    assert_dripped(&dripping);
    for attacker in silent.iter().chain(&dripping) {
        assert_eq!(attacker.status(), Some(408), "{:?}", attacker.received);
    }
    let peak = siege.lift(&[]);
    assert!(peak.files > 250, "not all were connected: {peak:?}");
}

/// Pipelined requests whose answers nobody reads. The server holds a bounded amount of answers, and waits a bounded
/// time.
#[test]
fn clients_that_never_read_are_cut() {
    const ATTACKERS: usize = 24;
    let flags = [
        ("--header-timeout", NEVER),
        ("--body-timeout", NEVER),
        ("--idle-timeout", NEVER),
        ("--write-timeout", "2s"),
    ];
    let siege = Siege::begin(LIMITS, &flags);
    let mut requests = get("/health").repeat(90);
    requests.extend(get("/metrics?event_name=*&from=0&to=1&group_by=day").repeat(10));
    let sent: Vec<u64> = thread::scope(|scope| {
        let attack = || {
            let mut stream = TcpStream::connect(siege.address()).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            let mut sent = 0;
            // Until the server resets the connection: then its blocked write has timed out.
            let error = loop {
                match stream.write_all(&requests) {
                    Ok(()) => sent += requests.len() as u64,
                    Err(error) => break error,
                }
            };
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it is not cut");
            sent
        };
        let attackers: Vec<_> = (0..ATTACKERS).map(|_| scope.spawn(attack)).collect();
        siege.assert_goes_on();
        attackers.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let answers = sent.iter().map(|sent| sent / requests.len() as u64 * 100);
    assert!(answers.min() >= Some(100), "they sent requests: {sent:?}");
    siege.lift(&[]);
}

/// A client that closes its sending side after its request still gets the answer, as `nc -N` needs.
#[test]
fn half_closed_clients_are_answered() {
    let siege = Siege::begin(LIMITS, &[]);
    let users: Vec<_> = (0..100).map(|number| format!("{ATTACKER}{number}")).collect();
    let mut clients: Vec<_> = users
        .iter()
        .map(|user| {
            let client = Attacker::open(siege.address(), &post("/events", body_of(user)));
            client.stream.shutdown(Shutdown::Write).unwrap();
            client
        })
        .collect();
    wait_until("all are closed", || {
        clients.iter_mut().for_each(Attacker::look);
        clients.iter().all(|client| client.is_cut)
    });
    let told: Vec<_> = clients.iter().map(Attacker::status).collect();
    assert!(told.iter().all(|status| *status == Some(202)), "{told:?}");
    siege.lift(&users);
}
