//! Reading one's own writes: receipts, queries that wait for their events, posts that wait for their own events.

use std::sync::Arc;

use async_trait::async_trait;
use crossbeam_channel::{Receiver, Sender};
use fast_ingest::query::{MetricsQuery, MetricsReport};
use fast_ingest::store::{EventSink, EventStore, QueryError, RollupStore, StoreError, Stretch};
use fast_ingest::wal::id::{LifeId, Sequence};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::support::http::{Answer, EVENT, PATIENCE, Setup, StoreStub, TestServer, get, post, post_head};
use crate::support::process::stored::Database;
use crate::support::process::{Launch, Server};

/// A life that the server's log has not had.
const OTHER: LifeId = LifeId(Uuid::from_u128(0xabc));

fn after(receipt: &str) -> Vec<u8> {
    get(&format!(
        "/metrics?event_name=page_view&from=0&to=1900000000&after={receipt}"
    ))
}

#[track_caller]
fn receipt_of(answer: &Answer) -> String {
    answer.json()["receipt"].as_str().unwrap().to_owned()
}

#[test]
fn a_query_waits_for_the_receipt_of_its_own_server() {
    let (server, _stored) = TestServer::acknowledging(Setup::default());
    let first = receipt_of(&server.exchange(post("/events", EVENT)));
    let bulk = post("/events/bulk", format!("[{EVENT},{EVENT}]"));
    let second = receipt_of(&server.exchange(bulk));
    assert_ne!(first, second);

    server.progress.set_flushed_through(1);
    assert_eq!(server.exchange(after(&first)).status, 200, "it is there");
    let mut client = server.connect();
    client.send(after(&second));
    server.progress.set_flushed_through(2);
    assert!(!client.has_answer(), "the bulk's last event is missing");
    server.progress.set_flushed_through(3);
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.exchange(after(&second)).status, 200);
}

#[test]
fn a_drain_ends_the_wait_of_a_query() {
    let (mut server, _stored) = TestServer::acknowledging(Setup::default());
    let receipt = receipt_of(&server.exchange(post("/events", EVENT)));
    let mut client = server.connect();
    client.send(after(&receipt));
    server.shutdown.drain();
    let answer = client.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (503, "not_applied_yet"));
    assert_eq!(
        (answer.header("retry-after"), answer.header("connection")),
        (Some("1"), Some("close"))
    );
    drop(client);
    assert_eq!(server.drained(), 0);
}

#[test]
fn what_is_no_receipt_is_400_among_the_other_errors() {
    let (server, _stored) = TestServer::acknowledging(Setup::default());
    for receipt in ["", "1", "%FF", "ffffffffffffffffffffffffffffffff"] {
        let answer = server.exchange(get(&format!("/metrics?from=0&to=1&after={receipt}")));
        assert_eq!(answer.status, 400, "{receipt}");
        assert_eq!(answer.problem(), "bad_query");
        let errors = &answer.json()["errors"];
        let found = |place: usize| (&errors[place]["field"], &errors[place]["code"]);
        assert_eq!(found(0), (&json!("event_name"), &json!("required")));
        assert_eq!(found(1), (&json!("after"), &json!("malformed")));
    }
}

/// A store that knows one life of one log, flushed as far as the test says; reports when it is asked, and when a
/// waiting request is dropped.
struct Marked {
    stub: StoreStub,
    flushed_through: watch::Receiver<Sequence>,
    asked: Sender<&'static str>,
    hangs: bool,
}

fn marked(hangs: bool) -> (Setup, watch::Sender<Sequence>, Receiver<&'static str>) {
    let (mark, flushed_through) = watch::channel(0);
    let (asked, asks) = crossbeam_channel::unbounded();
    let store = Marked {
        stub: StoreStub::default(),
        flushed_through,
        asked,
        hangs,
    };
    let setup = Setup {
        store: Arc::new(store),
        ..Setup::default()
    };
    (setup, mark, asks)
}

struct SaysWhenDropped(Sender<&'static str>);

impl Drop for SaysWhenDropped {
    fn drop(&mut self) {
        self.0.send("dropped").ok();
    }
}

#[async_trait]
impl EventStore for Marked {
    fn name(&self) -> &'static str {
        self.stub.name()
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        self.stub.check_schema().await
    }

    async fn open_sink(&self) -> Result<Box<dyn EventSink>, StoreError> {
        self.stub.open_sink().await
    }

    async fn open_rollups(&self) -> Result<Box<dyn RollupStore>, StoreError> {
        Err(StoreError::Unavailable("not to be asked".to_owned()))
    }

    async fn metrics(&self, query: &MetricsQuery) -> Result<MetricsReport, QueryError> {
        self.asked.send("metrics").ok();
        self.stub.metrics(query).await
    }

    async fn stored_of(&self, life: LifeId) -> Result<Vec<Stretch>, QueryError> {
        let _guard = self.hangs.then(|| SaysWhenDropped(self.asked.clone()));
        self.asked.send("stored_of").ok();
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let flushed_through = *self.flushed_through.borrow();
        let known = (life == OTHER).then(|| Stretch::new(1, flushed_through, None));
        Ok(known.into_iter().collect())
    }
}

#[test]
fn a_query_waits_for_the_receipt_of_another_server() {
    let (setup, mark, asks) = marked(false);
    let (server, _stored) = TestServer::acknowledging(setup);
    let mut client = server.connect();
    client.send(after(&format!("{}7", OTHER.0.simple())));
    for flushed_through in [5, 6] {
        mark.send_replace(flushed_through);
        for _ in 0..2 {
            assert_eq!(asks.recv_timeout(PATIENCE), Ok("stored_of"));
        }
    }
    mark.send_replace(7);
    assert_eq!(client.answer().status, 200);
    let last = asks.try_iter().collect::<Vec<_>>();
    assert_eq!(last.last(), Some(&"metrics"));
    assert_eq!(last.iter().filter(|asked| **asked == "metrics").count(), 1);
}

#[test]
fn a_wait_ends_when_its_client_goes_away() {
    let (setup, _mark, asks) = marked(true);
    let (server, _stored) = TestServer::acknowledging(setup);
    let mut client = server.connect();
    client.send(after(&format!("{}7", OTHER.0.simple())));
    assert_eq!(asks.recv_timeout(PATIENCE), Ok("stored_of"));
    drop(client);
    assert_eq!(asks.recv_timeout(PATIENCE), Ok("dropped"));
}

#[test]
fn a_post_that_waits_is_200_once_its_events_are_in_the_database() {
    let (server, submissions) = TestServer::start(Setup::default());
    let log = server.life.0.simple();
    let mut client = server.connect();
    client.send(post("/events/bulk?utm=x&wait=applied", format!("[{EVENT},{EVENT}]")));
    submissions.recv().unwrap().ack.send(Ok(31)).unwrap();
    server.progress.set_flushed_through(30);
    assert!(!client.has_answer());
    server.progress.set_flushed_through(31);
    let answer = client.answer();
    let body = format!(r#"{{"accepted":2,"receipt":"{log}1f","applied":true}}"#);
    assert_eq!((answer.status, answer.line()), (200, body.as_str()));
}

#[test]
fn a_drain_ends_the_wait_of_a_post() {
    let (mut server, submissions) = TestServer::start(Setup::default());
    let log = server.life.0.simple();
    let mut client = server.connect();
    client.send(post("/events?wait=applied", EVENT));
    let submission = submissions.recv().unwrap();
    server.shutdown.drain();
    submission.ack.send(Ok(1)).unwrap();
    let answer = client.answer();
    let body = format!(r#"{{"accepted":1,"receipt":"{log}1","applied":false}}"#);
    assert_eq!((answer.status, answer.line()), (202, body.as_str()));
    drop(client);
    assert_eq!(server.drained(), 0);
}

#[test]
fn a_post_that_waits_for_something_else_stores_nothing() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    for path in ["/events?wait=flushed", "/events/bulk?x&wait"] {
        let answer = server.exchange(post(path, EVENT));
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad_query"));
        let errors = &answer.json()["errors"];
        assert_eq!(errors[0]["field"], "wait");
        assert_eq!(errors[0]["code"], "unknown_value");
    }
    // The refusal comes before the body is sent.
    let mut client = server.connect();
    let expects = "Content-Length: 100\r\nExpect: 100-continue\r\n";
    assert_eq!(client.exchange(post_head("/events?wait=1", expects)).status, 400);
    assert!(stored.is_empty());
}

#[test]
fn a_real_server_counts_what_it_has_a_receipt_for() {
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::new(dir.path(), &Database::embedded(dir.path()));
    let server = launch.start();
    let bulk = |count: usize| format!("[{}]", vec![EVENT; count].join(","));
    let total = |server: &Server, receipt: &Value| {
        let receipt = receipt.as_str().unwrap();
        let target = format!("/metrics?event_name=page_view&from=0&to=4000000000&after={receipt}");
        server.request("GET", &target, "").json()["total_events"].clone()
    };
    for (count, sum) in [(1, 1), (3, 4), (5, 9)] {
        let answer = server.request("POST", "/events/bulk", &bulk(count));
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(total(&server, &answer.json()["receipt"]), sum);
    }
    let answer = server.request("POST", "/events/bulk?wait=applied", &bulk(2));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["applied"], true);
    server.stop();
    // The receipt outlives the process that gave it.
    let server = launch.start();
    assert_eq!(total(&server, &answer.json()["receipt"]), 11);
    server.stop();
}
