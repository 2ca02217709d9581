//! `GET /metrics` on the wire: parameters in, reports out, trouble told without secrets.

#![allow(
    clippy::unwrap_used,
    reason = "clippy counts helpers of integration tests as production code"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use crossbeam_channel::Sender;
use fast_ingest::event::Timestamp;
use fast_ingest::query::{Counts, Group, GroupBy, GroupKey, MetricsQuery, MetricsReport};
use fast_ingest::store::{EventSink, EventStore, StoreError};
use serde_json::json;

use crate::http_support::{PATIENCE, Setup, StoreStub, TestServer, get};

const RANGE: &str = "event_name=page_view&from=2026-02-01T00:00:00Z&to=2026-02-22T09:40:29Z";

fn counts(total_events: u64, unique_users: u64) -> Counts {
    Counts {
        total_events,
        unique_users,
    }
}

fn instant(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

type StoreAnswer = fn(&MetricsQuery) -> Result<MetricsReport, StoreError>;

fn server_with(answer: StoreAnswer) -> TestServer {
    TestServer::acknowledging(Setup {
        store: Arc::new(StoreStub(answer)),
        ..Setup::default()
    })
    .0
}

fn report(query: &MetricsQuery) -> Result<MetricsReport, StoreError> {
    assert_eq!(query.event_name, "page_view");
    assert_eq!(
        (query.from, query.to),
        (
            instant("2026-02-01T00:00:00Z"),
            instant("2026-02-22T09:40:29Z")
        )
    );
    let bucket = |start, end| GroupKey::Bucket {
        start: instant(start),
        end: instant(end),
    };
    let groups = match query.group_by {
        None => vec![],
        Some(GroupBy::Hour) => vec![],
        Some(GroupBy::Day) => {
            vec![Group {
                key: bucket("2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z"),
                counts: counts(12, 9),
            }]
        }
        Some(GroupBy::Channel) => vec![Group {
            key: GroupKey::Channel("web".to_owned()),
            counts: counts(12, 9),
        }],
    };
    Ok(MetricsReport {
        total: counts(1234, 567),
        groups,
    })
}

#[test]
fn the_report_has_the_shape_of_the_contract() {
    let server = server_with(report);
    let ask = |group_by: &str| {
        let answer = server.exchange(get(&format!("/metrics?{RANGE}{group_by}")));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().to_owned()
    };
    let total = r#""total_events":1234,"unique_users":567"#;
    let range =
        r#""event_name":"page_view","from":"2026-02-01T00:00:00Z","to":"2026-02-22T09:40:29Z""#;
    assert_eq!(ask(""), format!("{{{range},{total}}}"));
    assert_eq!(
        ask("&group_by=day"),
        format!(
            r#"{{{range},"group_by":"day",{total},"groups":[{{"start":"2026-02-01T00:00:00Z","end":"2026-02-02T00:00:00Z","total_events":12,"unique_users":9}}]}}"#
        )
    );
    assert_eq!(
        ask("&group_by=channel"),
        format!(
            r#"{{{range},"group_by":"channel",{total},"groups":[{{"channel":"web","total_events":12,"unique_users":9}}]}}"#
        )
    );
    assert_eq!(
        ask("&group_by=hour"),
        format!(r#"{{{range},"group_by":"hour",{total},"groups":[]}}"#)
    );
}

#[test]
fn an_offset_may_have_a_literal_plus_and_times_may_be_numbers() {
    let server = server_with(|query| {
        assert_eq!(query.from, instant("2026-02-01T00:00:00Z"));
        assert_eq!(
            (query.event_name.as_str(), query.to),
            ("a b&c%é\u{fffd}", instant("2026-02-01T00:00:01Z"))
        );
        Ok(MetricsReport::default())
    });
    for from in [
        "2026-02-01T02:00:00+02:00",
        "2026-02-01T02:00:00%2B02:00",
        "2026-01-31T22:00:00-02:00",
        "1769904000",
    ] {
        let answer = server.exchange(get(&format!(
            "/metrics?event_name=a+b%26c%%c3%A9%EF%BF%BD&from={from}&&to=1769904001000"
        )));
        assert_eq!(answer.status, 200, "{from}: {}", answer.text());
    }
}

#[test]
fn every_problem_of_a_query_is_listed() {
    let server = server_with(|_| panic!("a bad query must not reach the store"));
    let long = "x".repeat(201);
    let table: [(String, &[(&str, &str)]); 13] = [
        (
            String::new(),
            &[
                ("event_name", "required"),
                ("from", "required"),
                ("to", "required"),
            ],
        ),
        (
            "event_name=&from=&to=&group_by=".to_owned(),
            &[
                ("event_name", "empty"),
                ("from", "empty"),
                ("to", "empty"),
                ("group_by", "empty"),
            ],
        ),
        (
            format!("{RANGE}&group_by=week"),
            &[("group_by", "unknown_value")],
        ),
        (
            format!("{RANGE}&groupBy=day&x"),
            &[("groupBy", "unknown_parameter"), ("x", "unknown_parameter")],
        ),
        (format!("{RANGE}&to=1"), &[("to", "duplicate")]),
        (
            "event_name=a&from=yesterday&to=1.5".to_owned(),
            &[("from", "malformed"), ("to", "malformed")],
        ),
        (
            "event_name=a&from=1969-12-31T23:59:59Z&to=1".to_owned(),
            &[("from", "out_of_range")],
        ),
        (
            "event_name=a&from=2&to=1".to_owned(),
            &[("from", "out_of_order")],
        ),
        (
            format!("event_name={long}&from=1&to=2"),
            &[("event_name", "too_long")],
        ),
        (
            "event_name=a%00&from=1&to=2".to_owned(),
            &[("event_name", "nul_character")],
        ),
        (
            "event_name=a%FF&from=%C3&to=1%80&group_by=%ff".to_owned(),
            &[
                ("event_name", "malformed"),
                ("from", "malformed"),
                ("to", "malformed"),
                ("group_by", "malformed"),
            ],
        ),
        (format!("{RANGE}&%FF=1"), &[("%FF", "unknown_parameter")]),
        (format!("{}=1&{RANGE}", "é".repeat(100)), &[]),
    ];
    for (query, expected) in table {
        let target = format!("/metrics?{}", query.replace('é', "%C3%A9"));
        let answer = server.exchange(get(&target));
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "bad_query"),
            "{query}"
        );
        let problem = answer.json();
        let errors = problem["errors"].as_array().unwrap();
        if expected.is_empty() {
            assert_eq!(errors[0]["field"], "é".repeat(64), "a long name is cut");
            continue;
        }
        let found: Vec<_> = errors
            .iter()
            .map(|error| (error["field"].as_str(), error["code"].as_str()))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|&(field, code)| (Some(field), Some(code)))
            .collect();
        assert_eq!(found, expected, "{query}");
        assert!(
            errors
                .iter()
                .all(|error| error.get("index").is_none() && error["message"].is_string())
        );
    }
    let flood = "a&".repeat(5000);
    assert_eq!(
        server.exchange(get(&format!("/metrics?{flood}"))).json()["errors"]
            .as_array()
            .unwrap()
            .len(),
        100
    );
}

#[test]
fn an_empty_range_is_a_query() {
    let server = server_with(|_| Ok(MetricsReport::default()));
    let answer = server.exchange(get("/metrics?event_name=a&from=1&to=1"));
    assert_eq!(
        (answer.status, &answer.json()["total_events"]),
        (200, &json!(0))
    );
}

#[test]
fn what_a_store_cannot_answer_has_its_status_and_its_words_stay_inside() {
    let table: [(StoreAnswer, u16, &str); 6] = [
        (
            |_| {
                Err(StoreError::Unavailable(
                    "connect to secret-host failed".to_owned(),
                ))
            },
            503,
            "database_unavailable",
        ),
        (
            |_| Err(StoreError::TooManyGroups { max: 10_000 }),
            400,
            "too_many_groups",
        ),
        (|_| Err(StoreError::QueryTooLarge), 400, "query_too_large"),
        (
            |_| Err(StoreError::QueryTimeout(Duration::from_secs(10))),
            503,
            "query_timeout",
        ),
        (
            |_| {
                Err(StoreError::Schema(
                    "relation \"events\" on secret-host does not exist".to_owned(),
                ))
            },
            503,
            "database_schema",
        ),
        (
            |_| {
                Err(StoreError::Data {
                    code: "22P02".to_owned(),
                    message: "secret-host".to_owned(),
                })
            },
            500,
            "internal",
        ),
    ];
    for (answer, status, code) in table {
        let server = server_with(answer);
        let answer = server.exchange(get(&format!("/metrics?{RANGE}")));
        assert_eq!((answer.status, answer.problem().as_str()), (status, code));
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
        assert!(!answer.text().contains("secret-host"));
        if code == "database_schema" {
            assert!(
                answer.text().contains("see the server's log"),
                "the text says where to look"
            );
        }
    }
}

/// A store whose queries never end. Says when one begins and when one is dropped.
struct EndlessStore(Sender<&'static str>);

struct SaysWhenDropped(Sender<&'static str>);

impl Drop for SaysWhenDropped {
    fn drop(&mut self) {
        self.0.send("dropped").ok();
    }
}

#[async_trait]
impl EventStore for EndlessStore {
    fn name(&self) -> &'static str {
        "endless"
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn open_sink(&self) -> Result<Box<dyn EventSink>, StoreError> {
        Err(StoreError::Unavailable(
            "the HTTP layer must not flush".to_owned(),
        ))
    }

    async fn metrics(&self, _: &MetricsQuery) -> Result<MetricsReport, StoreError> {
        let _guard = SaysWhenDropped(self.0.clone());
        self.0.send("began").ok();
        std::future::pending().await
    }
}

#[test]
fn a_query_is_cancelled_when_its_client_goes_away() {
    let (said, says) = crossbeam_channel::unbounded();
    let setup = Setup {
        store: Arc::new(EndlessStore(said)),
        ..Setup::default()
    };
    let (server, _) = TestServer::acknowledging(setup);
    let mut client = server.connect();
    client.send(get(&format!("/metrics?{RANGE}")));
    assert_eq!(says.recv_timeout(PATIENCE), Ok("began"));
    drop(client);
    assert_eq!(says.recv_timeout(PATIENCE), Ok("dropped"));
}
