//! Connections: kept alive, pipelined, malformed, abandoned, drained.

use std::net::TcpStream;

use crate::support::http::{Client, EVENT, Setup, TestServer, chunked, get, post, post_head, wait_until};

#[test]
fn a_connection_carries_many_requests() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    for _ in 0..100 {
        assert_eq!(client.exchange(post("/events", EVENT)).status, 202);
    }
    let closing = client.exchange(post_head("/events", "Connection: close\r\n"));
    assert_eq!((closing.status, closing.header("connection")), (400, Some("close")));
    assert_eq!(client.until_closed(), b"");
    assert_eq!(stored.len(), 100);
}

#[test]
fn pipelined_requests_are_answered_in_order_each_with_its_own_ack() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let bulk = |count: usize| post("/events/bulk", format!("[{}]", vec![EVENT; count].join(",")));
    client.send((1..=50).flat_map(bulk).collect::<Vec<u8>>());
    for count in 1..=50 {
        assert_eq!(client.answer().json()["accepted"], count);
    }
    assert_eq!(
        stored.iter().take(50).collect::<Vec<u32>>(),
        (1..=50).collect::<Vec<u32>>()
    );
}

#[test]
fn a_refused_request_among_pipelined_ones_is_refused_alone() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    client.send(
        [
            post("/events", EVENT),
            post("/events", "{}"),
            post("/nowhere", EVENT),
            post("/events", EVENT),
        ]
        .concat(),
    );
    let statuses: Vec<u16> = (0..4).map(|_| client.answer().status).collect();
    assert_eq!(statuses, [202, 400, 404, 202]);
    assert_eq!(stored.len(), 2);
}

#[test]
fn a_malformed_request_among_pipelined_ones_ends_the_connection_after_the_answers_before_it() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    client.send(
        [
            post("/events", EVENT),
            b"GET /hea lth HTTP/1.1\r\n\r\n".to_vec(),
            post("/events", EVENT),
        ]
        .concat(),
    );
    assert_eq!(client.answer().status, 202);
    let malformed = client.answer();
    assert_eq!((malformed.status, malformed.header("connection")), (400, Some("close")));
    assert_eq!(malformed.text(), "");
    assert_eq!(client.until_closed(), b"", "what follows is not trusted");
    assert_eq!(stored.iter().take(1).count(), 1);
    assert!(stored.is_empty());
}

#[test]
fn the_answer_comes_although_the_next_request_is_half_sent() {
    let (server, _stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let next = post("/events", EVENT);
    client.send([post("/events", EVENT), next[..20].to_vec()].concat());
    assert_eq!(client.answer().status, 202);
    client.send(&next[20..]);
    assert_eq!(client.answer().status, 202);
}

#[test]
fn a_client_that_shuts_its_sending_side_gets_all_its_answers() {
    let (server, submissions) = TestServer::start(Setup::default());
    let mut client = server.connect();
    client.send([post("/events", EVENT), get("/health"), get("/nowhere")].concat());
    client.finish_sending();
    let submission = submissions.recv().unwrap();
    assert!(!client.has_answer());
    submission.ack.send(Ok(1)).unwrap();
    for status in [202, 200, 404] {
        assert_eq!(client.answer().status, status);
    }
    assert_eq!(client.until_closed(), b"");
}

#[test]
fn a_client_that_shuts_its_sending_side_may_wait_for_its_events() {
    let (server, submissions) = TestServer::start(Setup::default());
    let mut client = server.connect();
    client.send(post("/events?wait=applied", EVENT));
    client.finish_sending();
    submissions.recv().unwrap().ack.send(Ok(1)).unwrap();
    // No flush comes: the request waits until its time limit, and the answer says so.
    let answer = client.answer();
    assert_eq!((answer.status, &answer.json()["applied"]), (202, &false.into()));
    assert_eq!(client.until_closed(), b"");
}

#[test]
fn half_a_request_and_no_more_is_no_request() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let whole = post("/events", EVENT);
    let chunked = post_head("/events", "Transfer-Encoding: chunked\r\n");
    let in_the_head = [&whole[..0], &whole[..1], &whole[..20], &chunked[..30]];
    let in_the_body = [
        whole[..whole.len() - 1].to_vec(),
        chunked.clone(),
        [&chunked[..], b"5"].concat(),
        [&chunked[..], b"5\r\nabc"].concat(),
        [&chunked[..], b"1\r\n \r\n0\r\nX: y"].concat(),
    ];
    let told = |bytes: &[u8]| {
        let mut client = server.connect();
        client.send(bytes);
        client.finish_sending();
        String::from_utf8(client.until_closed()).unwrap()
    };
    for bytes in in_the_head {
        let told = told(bytes);
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 400"), "{told}");
    }
    for bytes in &in_the_body {
        let told = told(bytes);
        assert!(told.starts_with("HTTP/1.1 400"), "{bytes:?}: {told}");
    }
    assert!(stored.is_empty());
}

#[test]
fn http_2_and_oversized_heads_are_refused() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let rest = String::from_utf8(client.until_closed()).unwrap();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{rest}");

    let head = |line: String| format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{line}\r\n");
    assert_eq!(
        server
            .exchange(head(format!("X: {}\r\n", "x".repeat(15 * 1024))))
            .status,
        200
    );
    assert_eq!(
        server
            .exchange(head(format!("X: {}\r\n", "x".repeat(17 * 1024))))
            .status,
        431
    );
    assert_eq!(server.exchange(head("X: x\r\n".repeat(99))).status, 200);
    let too_many = server.exchange(head("X: x\r\n".repeat(100)));
    assert_eq!((too_many.status, too_many.text()), (431, ""));
}

#[test]
fn a_client_that_asks_first_is_told_to_continue() {
    let (server, _stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    client.send(post_head(
        "/events",
        &format!("Content-Length: {}\r\nExpect: 100-continue\r\n", EVENT.len()),
    ));
    assert_eq!(client.answer_head().status, 100);
    assert_eq!(client.exchange(EVENT).status, 202);
    assert_eq!(client.exchange(get("/health")).status, 200);
}

#[test]
fn http_1_0_is_served_and_closed() {
    let (server, _stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let answer = client.exchange(format!(
        "POST /events HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{EVENT}",
        EVENT.len()
    ));
    assert_eq!(answer.status, 202);
    assert_eq!(client.until_closed(), b"");

    let without_length = format!("POST /events HTTP/1.0\r\nContent-Type: application/json\r\n\r\n{EVENT}");
    assert_eq!(
        server.exchange(without_length).problem(),
        "invalid_json",
        "its body is empty"
    );
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_request_stores_nothing() {
    let (server, submissions) = TestServer::start(Setup::default());
    let request = post("/events", EVENT);
    let mut chunked_request = post_head("/events", "Transfer-Encoding: chunked\r\n");
    chunked_request.extend_from_slice(&chunked(EVENT.as_bytes(), 10));
    for request in [&request, &chunked_request] {
        for length in 1..request.len() {
            let mut client = server.connect();
            client.send(&request[..length]);
            client.finish_sending();
            client.until_closed();
        }
    }
    assert!(submissions.is_empty());
    // The server really served its connections: a whole request is answered.
    let mut client = server.connect();
    client.send(&request);
    submissions.recv().unwrap().ack.send(Ok(1)).unwrap();
    assert_eq!(client.answer().status, 202);
}

#[test]
fn a_client_that_leaves_before_its_answer_has_submitted_once() {
    let (server, submissions) = TestServer::start(Setup::default());
    let mut client = server.connect();
    client.send(post("/events", EVENT));
    let mut submission = submissions.recv().unwrap();
    drop(client);
    // The handler is gone, but the submission is not.
    wait_until(|| submission.ack.is_closed());
    assert_eq!(submission.event_count, 1);
    assert!(submissions.is_empty());
    submission.record.clear();
}

#[test]
fn a_drain_answers_what_is_in_flight_and_accepts_nothing_new() {
    let (mut server, submissions) = TestServer::start(Setup::default());
    let mut idle = server.connect();
    assert_eq!(idle.exchange(get("/health")).status, 200);
    let mut waiting = server.connect();
    waiting.send(post("/events", EVENT));
    let submission = submissions.recv().unwrap();

    server.shutdown.drain();
    assert_eq!(idle.until_closed(), b"");
    wait_until(|| TcpStream::connect(server.address).is_err());
    submission.ack.send(Ok(1)).unwrap();
    let answer = waiting.answer();
    assert_eq!((answer.status, answer.header("connection")), (202, Some("close")));
    drop(waiting);
    assert_eq!(server.drained(), 0);
}

#[test]
fn a_drain_answers_connections_that_wait_to_be_accepted() {
    let mut clients = Vec::new();
    let (mut server, _) = TestServer::start_after(Setup::default(), |address, shutdown| {
        for _ in 0..20 {
            let mut client = Client::connect(address);
            client.send(get("/health"));
            clients.push(client);
        }
        shutdown.drain();
    });
    for client in &mut clients {
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    drop(clients);
    assert_eq!(server.drained(), 0);
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn a_drain_cuts_what_does_not_end_and_says_how_many() {
    let drain_max = std::time::Duration::from_millis(50);
    let (mut server, submissions) = TestServer::start(Setup {
        drain_max,
        ..Setup::default()
    });
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        client.send(post("/events", EVENT));
    }
    let _unanswered = [submissions.recv().unwrap(), submissions.recv().unwrap()];
    server.shutdown.drain();
    assert_eq!(server.drained(), 2);
    for client in &mut clients {
        assert_eq!(client.until_closed(), b"");
    }
}

#[test]
fn a_taken_port_is_an_error_that_helps() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime
        .block_on(fast_ingest::http::server::bind(server.address))
        .unwrap_err()
        .to_string();
    assert!(error.contains(&server.address.to_string()), "{error}");
    assert!(error.contains("--port"), "{error}");
}
