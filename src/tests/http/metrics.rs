//! `GET /metrics` on the wire: parameters in, reports out, errors without secrets.

#![allow(
    clippy::unwrap_used,
    reason = "clippy counts helpers of integration tests as production code"
)]

mod parameters;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use crossbeam_channel::{Receiver, Sender};
use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::TimeUnit;
use fast_ingest::query::{Counts, GroupKey, MetricsQuery, MetricsReport, ReportGroup, Source, TimeBucket};
use fast_ingest::rollup::users::UniqueUsers;
use fast_ingest::store::{QueryError, StoreError};

use crate::support::http::store_stub::Metrics;
use crate::support::http::{PATIENCE, Setup, StoreStub, TestServer, get};

const RANGE: &str = "event_name=page_view&from=2026-02-01T00:00:00Z&to=2026-02-22T09:40:29Z";

fn instant(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

type StoreAnswer = fn(&MetricsQuery) -> Result<MetricsReport, QueryError>;

fn server_with(answer: StoreAnswer) -> TestServer {
    TestServer::acknowledging(Setup {
        store: Arc::new(StoreStub(answer)),
        ..Setup::default()
    })
    .0
}

/// A server whose store hands every query to the test.
fn server_telling(report: MetricsReport) -> (TestServer, Receiver<MetricsQuery>) {
    let (told, queries) = crossbeam_channel::unbounded();
    let answer = move |query: &MetricsQuery| {
        told.send(query.clone()).unwrap();
        Ok(report.clone())
    };
    let setup = Setup {
        store: Arc::new(StoreStub(answer)),
        ..Setup::default()
    };
    (TestServer::acknowledging(setup).0, queries)
}

#[test]
fn an_answer_says_through_when_it_counts_while_events_wait() {
    let server = server_with(|_| Ok(MetricsReport::default()));
    let ask = || server.exchange(get(&format!("/metrics?{RANGE}"))).json();
    let said = ask();
    assert!(said.get("pending_events").is_none() && said.get("counted_until").is_none());

    let before = Timestamp::now();
    server.durable.send_modify(|mark| mark.through = 10);
    server.progress.set_flushed_through(7);
    let said = ask();
    assert_eq!(said["pending_events"], 3);
    // The last time the log was empty, before these events came: the answer claims to count none of them.
    assert!(instant(said["counted_until"].as_str().unwrap()) <= before, "{said}");

    let seen = Timestamp::now();
    server.progress.look();
    server.durable.send_modify(|mark| mark.through = 11);
    server.progress.set_flushed_through(10);
    let said = ask();
    assert_eq!(said["pending_events"], 1);
    assert!(instant(said["counted_until"].as_str().unwrap()) >= seen, "{said}");

    server.progress.set_flushed_through(11);
    assert!(ask().get("pending_events").is_none());
}

/// The query of [`RANGE`] without other parameters.
fn plain_query() -> MetricsQuery {
    MetricsQuery::new(
        Some("page_view".to_owned()),
        instant("2026-02-01T00:00:00Z"),
        instant("2026-02-22T09:40:29Z"),
    )
}

fn report(query: &MetricsQuery) -> Result<MetricsReport, QueryError> {
    assert_eq!(query.event_name.as_deref(), Some("page_view"));
    assert_eq!((query.from, query.to), (plain_query().from, plain_query().to));
    let bucket = TimeBucket {
        start: instant("2026-02-01T00:00:00Z"),
        end: instant("2026-02-02T00:00:00Z"),
    };
    let group_by = query.group_by;
    let key = GroupKey {
        bucket: group_by.time.map(|_| bucket),
        event_name: group_by.event_name.then(|| "page_view".to_owned()),
        channel: group_by.channel.then(|| "web".to_owned()),
        is_other: false,
    };
    let group = ReportGroup {
        key,
        counts: Counts::exactly(12, 9),
    };
    Ok(MetricsReport {
        total: Counts::exactly(1234, 567),
        groups: match group_by.time {
            Some(TimeUnit::Hour) => vec![],
            _ if group_by.is_none() => vec![],
            _ => vec![group],
        },
        ..MetricsReport::default()
    })
}

#[test]
fn the_report_has_the_shape_of_the_contract() {
    let server = server_with(report);
    let ask = |more: &str| {
        let answer = server.exchange(get(&format!("/metrics?{RANGE}{more}")));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.line().to_owned()
    };
    let total = r#""total_events":1234,"unique_users":567,"unique_users_error":0,"source":"rollups""#;
    let counts = r#""total_events":12,"unique_users":9,"unique_users_error":0"#;
    let range = r#""event_name":"page_view","from":"2026-02-01T00:00:00Z","to":"2026-02-22T09:40:29Z""#;
    let day = r#""start":"2026-02-01T00:00:00Z","end":"2026-02-02T00:00:00Z""#;
    assert_eq!(ask(""), format!("{{{range},{total}}}"));
    for (more, group_by, key) in [
        ("&group_by=day", "day", day.to_owned()),
        ("&group_by=channel", "channel", r#""channel":"web""#.to_owned()),
        (
            "&group_by=event_name",
            "event_name",
            r#""event_name":"page_view""#.to_owned(),
        ),
        (
            "&group_by=channel,week",
            "week,channel",
            format!(r#"{day},"channel":"web""#),
        ),
        (
            "&group_by=channel%2Cevent_name",
            "event_name,channel",
            r#""event_name":"page_view","channel":"web""#.to_owned(),
        ),
    ] {
        assert_eq!(
            ask(more),
            format!(r#"{{{range},"group_by":"{group_by}",{total},"groups":[{{{key},{counts}}}]}}"#)
        );
    }
    assert_eq!(
        ask("&group_by=hour&tz=Asia/Kathmandu"),
        format!(r#"{{{range},"tz":"Asia/Kathmandu","group_by":"hour",{total},"groups":[]}}"#)
    );
}

#[test]
fn estimates_say_how_far_off_they_may_be() {
    let users = UniqueUsers {
        count: 1000,
        error: 0.007_612,
        low: 985,
        high: 1016,
    };
    let counts = Counts {
        total_events: 5000,
        users,
    };
    let other = ReportGroup {
        key: GroupKey {
            is_other: true,
            ..GroupKey::default()
        },
        counts,
    };
    let (server, _queries) = server_telling(MetricsReport {
        total: counts,
        source: Source::Events,
        overflowed: true,
        groups: vec![other],
    });
    let answer = server.exchange(get("/metrics?event_name=*&from=0&to=1&group_by=channel&limit=1"));
    let counts =
        r#""total_events":5000,"unique_users":1000,"unique_users_error":0.0077,"unique_users_range":[985,1016]"#;
    assert_eq!(
        answer.line(),
        format!(
            r#"{{"event_name":"*","from":"1970-01-01T00:00:00Z","to":"1970-01-01T00:00:01Z","group_by":"channel",{counts},"source":"events","overflowed":true,"groups":[{{"other":true,{counts}}}]}}"#
        )
    );
}

#[test]
fn what_a_store_cannot_answer_has_its_status_and_its_words_stay_inside() {
    let table: [(StoreAnswer, u16, &str); 7] = [
        (
            |_| {
                Err(QueryError::Store(StoreError::Unavailable(
                    "connect to secret-host failed".to_owned(),
                )))
            },
            503,
            "database_unavailable",
        ),
        (
            |_| Err(QueryError::Busy("no connection to secret-host".to_owned())),
            503,
            "queries_busy",
        ),
        (|_| Err(QueryError::TooManyGroups), 400, "too_many_groups"),
        (
            |_| Err(QueryError::TooLarge("ask for less".to_owned())),
            400,
            "query_too_large",
        ),
        (
            |_| Err(QueryError::Timeout(Duration::from_secs(10))),
            503,
            "query_timeout",
        ),
        (
            |_| {
                Err(QueryError::Store(StoreError::Schema(
                    "relation \"events\" on secret-host does not exist".to_owned(),
                )))
            },
            503,
            "database_schema",
        ),
        (
            |_| {
                Err(QueryError::Store(StoreError::Data {
                    code: "22P02".to_owned(),
                    message: "secret-host".to_owned(),
                }))
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

/// Queries that never end. Reports when one begins and when it is dropped.
struct Endless(Sender<&'static str>);

struct SaysWhenDropped(Sender<&'static str>);

impl Drop for SaysWhenDropped {
    fn drop(&mut self) {
        self.0.send("dropped").ok();
    }
}

#[async_trait]
impl Metrics for Endless {
    async fn answer(&self, _: &MetricsQuery) -> Result<MetricsReport, QueryError> {
        let _guard = SaysWhenDropped(self.0.clone());
        self.0.send("began").ok();
        std::future::pending().await
    }
}

#[test]
fn a_query_is_cancelled_when_its_client_goes_away() {
    let (said, says) = crossbeam_channel::unbounded();
    let setup = Setup {
        store: Arc::new(StoreStub(Endless(said))),
        ..Setup::default()
    };
    let (server, _) = TestServer::acknowledging(setup);
    let mut client = server.connect();
    client.send(get(&format!("/metrics?{RANGE}")));
    assert_eq!(says.recv_timeout(PATIENCE), Ok("began"));
    drop(client);
    assert_eq!(says.recv_timeout(PATIENCE), Ok("dropped"));
}
