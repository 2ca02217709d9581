//! Limits, one step below and one above: bytes, events, connections, queue, budget, log.

use std::net::TcpStream;

use fast_ingest::wal::refusal::Refusal;

use crate::support::http::{EVENT, Setup, TestServer, chunked, get, post, post_head, wait_until};

/// A valid event, padded to `bytes` with whitespace.
fn padded(bytes: usize) -> String {
    format!("{EVENT}{}", " ".repeat(bytes - EVENT.len()))
}

#[test]
fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let mut setup = Setup::default();
    setup.settings.event_bytes_max = 1024;
    setup.settings.body_bytes_max = 2048;
    let (server, stored) = TestServer::acknowledging(setup);
    let mut client = server.connect();
    assert_eq!(client.exchange(post("/events", padded(1024))).status, 202);
    let answer = client.exchange(post("/events", padded(1025)));
    assert_eq!((answer.status, answer.problem().as_str()), (413, "body_too_large"));

    let bulk = |bytes: usize| format!("[{}]", padded(bytes - 2));
    assert_eq!(client.exchange(post("/events/bulk", bulk(2048))).status, 202);
    assert_eq!(client.exchange(post("/events/bulk", bulk(2049))).status, 413);
    assert_eq!(stored.len(), 2);
}

#[test]
fn a_chunked_body_may_be_as_long_as_the_limit_and_no_longer() {
    let mut setup = Setup::default();
    setup.settings.event_bytes_max = 100_000;
    let (server, stored) = TestServer::acknowledging(setup);
    let send = |body: &str, chunk_bytes| {
        let mut client = server.connect();
        client.send(post_head("/events", "Transfer-Encoding: chunked\r\n"));
        client.try_send(chunked(body.as_bytes(), chunk_bytes));
        (client.answer(), client)
    };
    let (answer, mut client) = send(EVENT, 1000);
    assert_eq!(answer.status, 202);
    assert_eq!(
        client.exchange(get("/health")).status,
        200,
        "a chunked body read to its end keeps the connection"
    );
    assert_eq!(send(EVENT, 7).0.status, 202);
    assert_eq!(send(&padded(100_000), 100_000).0.status, 202);
    assert_eq!(send(&padded(100_000), 999).0.status, 202);
    assert_eq!(stored.len(), 4);

    let (answer, mut client) = send(&padded(100_001), 999);
    assert_eq!((answer.status, answer.problem().as_str()), (413, "body_too_large"));
    assert_eq!(answer.header("connection"), Some("close"));
    client.until_closed();
    assert_eq!(stored.len(), 4);
}

#[test]
fn the_largest_chunked_body_fits_the_smallest_budget_that_settings_allow() {
    let mut setup = Setup::default();
    setup.settings.event_bytes_max = 100_000;
    setup.settings.inflight_bytes_max = 200_032;
    let (server, _stored) = TestServer::acknowledging(setup);
    let mut client = server.connect();
    client.send(post_head("/events", "Transfer-Encoding: chunked\r\n"));
    assert_eq!(client.exchange(chunked(padded(100_000).as_bytes(), 10_000)).status, 202);
}

#[test]
fn a_huge_content_length_is_answered_before_any_body() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    for length in ["10737418240", "18446744073709551613"] {
        let mut client = server.connect();
        client.send(post_head("/events/bulk", &format!("Content-Length: {length}\r\n")));
        let answer = client.answer();
        assert_eq!((answer.status, answer.problem().as_str()), (413, "body_too_large"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.until_closed(), b"");
    }
}

#[test]
fn a_refused_body_that_the_client_sends_anyway_does_not_destroy_the_answer() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    // More bytes than the server discards before it answers, fewer than it reads while it lingers.
    let mut client = server.connect();
    client.send(post_head("/events", "Content-Length: 614400\r\n"));
    client.send(vec![b' '; 512 * 1024]);
    client.wait_for_answer();
    for _ in 0..22 {
        client.send([b' '; 4 * 1024]);
    }
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    client.send([b' '; 4 * 1024]);
}

/// Most clients read the answer only after they have sent everything.
#[test]
fn an_answer_waits_for_a_client_that_sends_all_of_a_refused_body_first() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let length = 24 * 1024 * 1024;
    client.send(post_head("/events/bulk", &format!("Content-Length: {length}\r\n")));
    let piece = vec![b' '; 1024 * 1024];
    for _ in 0..length / piece.len() {
        client.send(&piece);
    }
    let answer = client.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (413, "body_too_large"));
    assert_eq!(client.until_closed(), b"");
}

#[test]
fn a_small_refused_body_leaves_the_connection_usable() {
    let (server, _stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let wrong_type = post("/nowhere", vec![b' '; 256 * 1024]);
    let answer = client.exchange(wrong_type);
    assert_eq!((answer.status, answer.header("connection")), (404, None));
    assert_eq!(client.exchange(post("/events", EVENT)).status, 202);

    let answer = client.exchange(post("/nowhere", vec![b' '; 256 * 1024 + 1]));
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
    client.until_closed();
}

#[test]
fn a_bulk_may_hold_as_many_events_as_the_limit_and_no_more() {
    let mut setup = Setup::default();
    setup.settings.bulk_events_max = 3;
    let (server, stored) = TestServer::acknowledging(setup);
    let bulk = |count| post("/events/bulk", format!("[{}]", vec![EVENT; count].join(",")));
    assert_eq!(server.exchange(bulk(3)).status, 202);
    let answer = server.exchange(bulk(4));
    assert_eq!((answer.status, answer.problem().as_str()), (400, "too_many_events"));
    assert_eq!(stored.len(), 1);
}

#[test]
fn one_connection_too_many_is_told_so_and_closed() {
    let mut setup = Setup::default();
    setup.settings.connections_max = 2;
    let (server, _stored) = TestServer::acknowledging(setup);
    let mut first = server.connect();
    let mut second = server.connect();
    assert_eq!(first.exchange(get("/health")).status, 200);
    assert_eq!(second.exchange(get("/health")).status, 200);

    let mut third = server.connect();
    let answer = third.exchange(post("/events", EVENT));
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "too_many_connections")
    );
    assert_eq!(
        (answer.header("retry-after"), answer.header("connection")),
        (Some("1"), Some("close"))
    );
    assert_eq!(third.until_closed(), b"");
    assert_eq!(second.exchange(post("/events", EVENT)).status, 202, "the others go on");

    drop(first);
    wait_until(|| server.exchange(get("/health")).status == 200);
}

#[test]
fn silent_connections_beyond_the_cap_do_not_pile_up() {
    let mut setup = Setup::default();
    setup.settings.connections_max = 1;
    let (server, _) = TestServer::acknowledging(setup);
    let mut first = server.connect();
    assert_eq!(first.exchange(get("/health")).status, 200);
    let _silent: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    assert_eq!(
        server.connect().until_closed(),
        b"",
        "closed without waiting for anything"
    );
    assert_eq!(first.exchange(get("/health")).status, 200);
}

#[test]
fn a_full_ring_is_429() {
    let (server, submissions) = TestServer::start(Setup {
        ring_slots: 1,
        ..Setup::default()
    });
    let mut waiting = server.connect();
    waiting.send(post("/events", EVENT));
    wait_until(|| !submissions.is_empty());
    let answer = server.exchange(post("/events", EVENT));
    assert_eq!((answer.status, answer.problem().as_str()), (429, "queue_full"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    submissions.recv().unwrap().ack.send(Ok(1)).unwrap();
    assert_eq!(waiting.answer().status, 202);
}

/// Sends the head of a request with `Expect: 100-continue`. Returns status, code and `Retry-After`.
fn answer_before_the_body(server: &TestServer, body_bytes: usize) -> (u16, String, Option<String>) {
    let mut client = server.connect();
    client.send(post_head(
        "/events",
        &format!("Content-Length: {body_bytes}\r\nExpect: 100-continue\r\n"),
    ));
    let answer = client.answer();
    assert_eq!(
        answer.header("connection"),
        Some("close"),
        "whether the body follows is unknown"
    );
    (
        answer.status,
        answer.problem(),
        answer.header("retry-after").map(str::to_owned),
    )
}

#[test]
fn a_full_budget_is_429_before_the_body_is_read() {
    let mut setup = Setup::default();
    setup.settings.inflight_bytes_max = 2 * 1000 + 32;
    let (server, _stored) = TestServer::acknowledging(setup);
    assert_eq!(
        answer_before_the_body(&server, 1001),
        (429, "bytes_in_flight_full".to_owned(), Some("1".to_owned()))
    );
    assert_eq!(server.exchange(post("/events", padded(1000))).status, 202);
}

#[test]
fn announced_bodies_that_do_not_come_keep_nobody_out() {
    let mut setup = Setup::default();
    let room_at_first = 2 * 16 * 1024 + 32;
    setup.settings.inflight_bytes_max = 2 * setup.settings.body_bytes_max + 32 + 3 * room_at_first;
    let (server, _stored) = TestServer::acknowledging(setup);
    let mut silent: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut silent {
        client.send(post_head("/events/bulk", "Content-Length: 4194304\r\n"));
    }
    let held = 3 * (16 * 1024 + 32);
    wait_until(|| server.gate.bytes_used() >= held);
    assert_eq!(server.gate.bytes_used(), held, "each holds a little, of the log too");
    assert_eq!(server.exchange(post("/events", EVENT)).status, 202);
    // The event's reservation ends a moment after its answer.
    wait_until(|| server.gate.bytes_used() == held);
    let largest = format!("[{}]", padded(4 * 1024 * 1024 - 2));
    assert_eq!(server.exchange(post("/events/bulk", largest)).status, 202);
}

#[test]
fn a_body_that_outgrows_what_is_left_is_429_and_the_connection_goes_on() {
    let mut setup = Setup::default();
    setup.settings.inflight_bytes_max = 400_032;
    let (server, _stored) = TestServer::acknowledging(setup);
    let body = padded(200_000).into_bytes();
    let (mut first, mut second) = (server.connect(), server.connect());
    let begin = |length: usize| post_head("/events", &format!("Content-Length: {length}\r\n"));
    first.send([begin(200_000), body[..1].to_vec()].concat());
    wait_until(|| server.gate.bytes_used() == 16 * 1024 + 32);
    second.send([begin(150_000), body[..1].to_vec()].concat());
    wait_until(|| server.gate.bytes_used() == 2 * (16 * 1024 + 32));
    // Each fitted alone, but both do not.
    second.send(&body[1..149_999]);
    wait_until(|| server.gate.bytes_used() == 16 * 1024 + 32 + 150_032);
    first.send(&body[1..]);
    let answer = first.answer();
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (429, "bytes_in_flight_full")
    );
    second.send(" ");
    assert_eq!(second.answer().status, 202);
    wait_until(|| server.gate.bytes_used() == 0);
    assert_eq!(first.exchange(post("/events", body)).status, 202);
}

#[test]
fn a_body_that_outgrows_the_log_is_503() {
    let (server, _stored) = TestServer::acknowledging(Setup {
        log_bytes_max: 250_000,
        ..Setup::default()
    });
    let body = padded(200_000).into_bytes();
    let (mut first, mut second) = (server.connect(), server.connect());
    let head = post_head("/events", "Content-Length: 200000\r\n");
    for client in [&mut first, &mut second] {
        client.send([&head, &body[..1]].concat());
    }
    wait_until(|| server.gate.bytes_used() == 2 * (16 * 1024 + 32));
    second.send(&body[1..199_999]);
    wait_until(|| server.gate.bytes_used() == 16 * 1024 + 32 + 200_032);
    first.send(&body[1..]);
    let answer = first.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (503, "log_full"));
    second.send(" ");
    assert_eq!(second.answer().status, 202, "an accepted body goes on");
}

#[test]
fn a_full_log_is_503_before_the_body_is_read() {
    let (server, _stored) = TestServer::acknowledging(Setup {
        log_bytes_max: 1032,
        ..Setup::default()
    });
    assert_eq!(
        answer_before_the_body(&server, 1001),
        (503, "log_full".to_owned(), Some("5".to_owned()))
    );
    assert_eq!(server.exchange(post("/events", padded(1000))).status, 202);
}

#[test]
fn a_draining_or_failed_log_is_503_before_the_body_is_read() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    server.gate.drain();
    assert_eq!(
        answer_before_the_body(&server, 100),
        (503, "draining".to_owned(), Some("2".to_owned()))
    );
    server.gate.poison();
    assert_eq!(
        answer_before_the_body(&server, 100),
        (503, "log_failed".to_owned(), Some("2".to_owned()))
    );
    let text = server.exchange(post("/events", EVENT)).text().to_owned();
    assert!(text.contains("nothing was stored"), "{text}");
    assert!(!text.contains("unknown"), "{text}");
}

#[test]
fn a_log_that_fails_under_a_request_leaves_its_outcome_unknown() {
    let (server, submissions) = TestServer::start(Setup::default());
    let mut client = server.connect();
    client.send(post("/events", EVENT));
    submissions.recv().unwrap().ack.send(Err(Refusal::Poisoned)).unwrap();
    let answer = client.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (503, "outcome_unknown"));
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert!(answer.text().contains("is unknown"), "{}", answer.text());

    client.send(post("/events", EVENT));
    // The log drops the submission without an answer.
    drop(submissions.recv().unwrap());
    assert_eq!(client.answer().problem(), "outcome_unknown");

    drop(submissions);
    let answer = client.exchange(post("/events", EVENT));
    assert_eq!(answer.problem(), "log_failed");
    assert!(answer.text().contains("nothing was stored"));
}
