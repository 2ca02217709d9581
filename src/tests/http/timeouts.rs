//! Time limits: a client that is slow in any way does not hold a connection for ever, and a client that waits for the
//! server is not cut.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use fast_ingest::query::{Counts, GroupKey, MetricsReport, ReportGroup};

use crate::support::http::{EVENT, PATIENCE, Setup, StoreStub, TestServer, get, post, post_head, wait_until};

/// Short for a quick test, long enough for a busy machine to tell that it has passed.
const SHORT: Duration = Duration::from_millis(150);

#[test]
fn slow_headers_and_silence_are_cut_by_the_header_limit() {
    let mut setup = Setup::default();
    setup.settings.header_timeout = SHORT;
    let (server, _) = TestServer::acknowledging(setup);
    assert_eq!(server.connect().until_closed(), b"");
    let mut client = server.connect();
    assert_eq!(client.exchange(get("/health")).status, 200);
    client.send("GET /health HTTP/1.1\r\nHost:");
    assert_eq!(client.until_closed(), b"");

    let mut dripping = server.connect();
    wait_until(|| !dripping.try_send("G"));
}

#[test]
fn an_idle_connection_is_closed_by_the_idle_limit() {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = SHORT;
    let (server, _) = TestServer::acknowledging(setup);
    let mut client = server.connect();
    assert_eq!(client.exchange(get("/health")).status, 200);
    assert_eq!(client.until_closed(), b"");
}

#[test]
fn a_request_that_waits_for_its_ack_is_neither_idle_nor_slow() {
    let mut setup = Setup::default();
    setup.settings.idle_timeout = Duration::from_millis(1);
    setup.settings.header_timeout = SHORT;
    setup.settings.write_timeout = Duration::from_millis(1);
    let (server, submissions) = TestServer::start(setup);
    let mut waiting = server.connect();
    waiting.send(post("/events", EVENT));
    let submission = submissions.recv().unwrap();
    // Another connection reaches the longest of these limits first.
    assert_eq!(server.connect().until_closed(), b"");
    submission.ack.send(Ok(1)).unwrap();
    assert_eq!(waiting.answer().status, 202);
}

#[test]
fn a_slow_body_is_408() {
    let mut setup = Setup::default();
    setup.settings.body_timeout = SHORT;
    let (server, stored) = TestServer::acknowledging(setup);
    let head = [
        post_head("/events", &format!("Content-Length: {}\r\n", EVENT.len())),
        post_head("/events", "Transfer-Encoding: chunked\r\n"),
    ];
    for head in head {
        let mut client = server.connect();
        client.send(head);
        let answer = client.answer();
        assert_eq!((answer.status, answer.problem().as_str()), (408, "body_timeout"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.until_closed(), b"");
    }
    assert!(stored.is_empty());
}

const HUGE: &str = "/metrics?event_name=a&from=0&to=1&group_by=channel";

/// [`HUGE`] is answered with far more than the socket buffers of both sides hold.
fn with_a_huge_answer() -> Setup {
    let answer = |_: &_| {
        let group = |_| ReportGroup {
            key: GroupKey {
                channel: Some("c".repeat(200)),
                ..GroupKey::default()
            },
            counts: Counts::default(),
        };
        Ok(MetricsReport {
            total: Counts::default(),
            groups: (0..100_000).map(group).collect(),
            ..MetricsReport::default()
        })
    };
    Setup {
        store: Arc::new(StoreStub(answer)),
        ..Setup::default()
    }
}

#[test]
fn a_client_that_is_still_reading_its_answer_is_not_idle() {
    let mut setup = with_a_huge_answer();
    setup.settings.idle_timeout = SHORT;
    let (server, _) = TestServer::acknowledging(setup);
    let mut slow = server.connect();
    slow.send(get(HUGE));
    slow.wait_for_answer();
    // A connection that has really been idle since then is closed by now.
    let mut idle = server.connect();
    assert_eq!(idle.exchange(get("/health")).status, 200);
    assert_eq!(idle.until_closed(), b"");
    let answer = slow.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.line().ends_with("}]}"), "whole");
    assert_eq!(slow.until_closed(), b"", "idle now");
}

#[test]
fn a_silent_body_is_given_up_sooner_than_a_slow_one() {
    let mut setup = Setup::default();
    setup.settings.body_timeout = 3 * SHORT;
    let (server, _) = TestServer::acknowledging(setup);
    let head = post_head("/events/bulk", "Content-Length: 4194304\r\n");
    let (mut silent, mut dripping) = (server.connect(), server.connect());
    silent.send([&head[..], b"["].concat());
    let answer = silent.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (408, "body_timeout"));
    assert!(
        answer.text().contains("no byte of the body arrived for 150ms"),
        "{}",
        answer.text()
    );

    dripping.send(&head);
    while !dripping.has_answer() {
        dripping.try_send(" ");
    }
    let answer = dripping.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (408, "body_timeout"));
    assert!(answer.text().contains("in time"), "{}", answer.text());
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut() {
    let mut setup = with_a_huge_answer();
    setup.settings.write_timeout = SHORT;
    setup.settings.connections_max = 1;
    let (server, _) = TestServer::acknowledging(setup);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&get(HUGE)).unwrap();
    let mut first_byte = [0];
    stream.read_exact(&mut first_byte).unwrap();
    // The only connection becomes free when the server cuts it.
    wait_until(|| server.exchange(get("/health")).status == 200);
    let mut rest = Vec::new();
    // The server cut it in the middle, with a reset or a close.
    stream.read_to_end(&mut rest).ok();
    assert!(rest.len() < 20_000_000, "{} bytes", rest.len());
}
