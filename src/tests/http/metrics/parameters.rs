//! How each parameter of `GET /metrics` changes the store's query, and how invalid ones are refused.

use fast_ingest::event::bucket::TimeUnit;
use fast_ingest::query::{Grouping, MetricsQuery, MetricsReport, Order};
use serde_json::json;

use super::{RANGE, instant, plain_query, server_telling, server_with};
use crate::support::http::get;

/// The effect of parameters on a query.
type Change<'a> = &'a dyn Fn(&mut MetricsQuery);

#[test]
fn every_parameter_reaches_the_store() {
    let (server, queries) = server_telling(MetricsReport::default());
    let zone = |name: &str| jiff::tz::TimeZone::get(name).unwrap();
    let by = |time, event_name, channel| Grouping {
        time,
        event_name,
        channel,
    };
    let channels = by(None, false, true);
    let table: [(&str, Change<'_>); 20] = [
        ("", &|_| ()),
        ("tz=UTC", &|_| ()),
        ("exact=false", &|_| ()),
        ("exact=true", &|query| query.exact = true),
        ("tz=Africa/Monrovia", &|query| {
            query.zone = zone("Africa/Monrovia");
        }),
        ("tz=Etc/GMT+5", &|query| query.zone = zone("Etc/GMT+5")),
        ("channel=a+b%26", &|query| {
            query.channel = Some("a b&".to_owned());
        }),
        ("channel=*", &|query| query.channel = Some("*".to_owned())),
        ("campaign_id=spring", &|query| {
            query.campaign_id = Some("spring".to_owned());
        }),
        ("group_by=minute", &|query| {
            query.group_by = by(Some(TimeUnit::Minute), false, false);
        }),
        ("group_by=month,event_name", &|query| {
            query.group_by = by(Some(TimeUnit::Month), true, false);
        }),
        ("group_by=channel,event_name", &|query| {
            query.group_by = by(None, true, true);
        }),
        ("group_by=week&fill=zero", &|query| {
            query.group_by = by(Some(TimeUnit::Week), false, false);
            query.fill = true;
        }),
        ("group_by=channel&order=name", &|query| {
            query.group_by = channels;
        }),
        ("group_by=channel&order=total_events", &|query| {
            query.group_by = channels;
            query.order = Order::TotalEvents;
        }),
        ("group_by=channel&order=unique_users", &|query| {
            query.group_by = channels;
            query.order = Order::UniqueUsers;
        }),
        // A client that asks for a few groups gets the largest.
        ("group_by=channel&limit=1", &|query| {
            query.group_by = channels;
            query.limit = Some(1);
            query.order = Order::TotalEvents;
        }),
        ("group_by=channel&limit=2&order=name", &|query| {
            query.group_by = channels;
            query.limit = Some(2);
        }),
        ("group_by=channel&limit=10000", &|query| {
            query.group_by = channels;
            query.limit = Some(10_000);
            query.order = Order::TotalEvents;
        }),
        ("group_by=hour,channel&limit=5&order=total_events", &|query| {
            query.group_by = by(Some(TimeUnit::Hour), false, true);
            query.limit = Some(5);
            query.order = Order::TotalEvents;
        }),
    ];
    for (parameters, change) in table {
        let answer = server.exchange(get(&format!("/metrics?{RANGE}&{parameters}")));
        assert_eq!(answer.status, 200, "{parameters}: {}", answer.text());
        let mut expected = plain_query();
        change(&mut expected);
        assert_eq!(queries.try_recv().unwrap(), expected, "{parameters}");
    }
    let every_name = format!("/metrics?{}", RANGE.replace("page_view", "*"));
    assert_eq!(server.exchange(get(&every_name)).status, 200);
    assert_eq!(queries.try_recv().unwrap().event_name, None);
}

#[test]
fn an_offset_may_have_a_literal_plus_and_times_may_be_numbers() {
    let server = server_with(|query| {
        assert_eq!(query.from, instant("2026-02-01T00:00:00Z"));
        assert_eq!(
            (query.event_name.as_deref(), query.to),
            (Some("a b&c%é\u{fffd}"), instant("2026-02-01T00:00:01Z"))
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
fn an_empty_range_is_a_query() {
    let server = server_with(|_| Ok(MetricsReport::default()));
    let answer = server.exchange(get("/metrics?event_name=a&from=1&to=1"));
    assert_eq!((answer.status, &answer.json()["total_events"]), (200, &json!(0)));
}

#[test]
fn every_problem_of_a_query_is_listed() {
    let server = server_with(|_| panic!("a bad query must not reach the store"));
    let long = "x".repeat(201);
    let table: [(String, &[(&str, &str)]); 13] = [
        (
            String::new(),
            &[("event_name", "required"), ("from", "required"), ("to", "required")],
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
        (format!("{RANGE}&group_by=fortnight"), &[("group_by", "unknown_value")]),
        (
            format!("{RANGE}&groupBy=day&x"),
            &[("groupBy", "unknown_parameter"), ("x", "unknown_parameter")],
        ),
        (format!("{RANGE}&to=1"), &[("to", "duplicate")]),
        (
            "event_name=a&from=yesterday&to=1.5e9".to_owned(),
            &[("from", "malformed"), ("to", "malformed")],
        ),
        (
            "event_name=a&from=1969-12-31T23:59:59Z&to=1".to_owned(),
            &[("from", "out_of_range")],
        ),
        ("event_name=a&from=2&to=1".to_owned(), &[("from", "out_of_order")]),
        (format!("event_name={long}&from=1&to=2"), &[("event_name", "too_long")]),
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
fn parameters_that_make_no_sense_are_refused_one_by_one() {
    let server = server_with(|_| panic!("a bad query must not reach the store"));
    let long = format!("channel={}", "x".repeat(201));
    let table: [(&str, &[(&str, &str)]); 34] = [
        ("group_by=fortnight", &[("group_by", "unknown_value")]),
        ("group_by=day,", &[("group_by", "unknown_value")]),
        ("group_by=day,,channel", &[("group_by", "unknown_value")]),
        ("group_by=", &[("group_by", "empty")]),
        ("group_by=day,day", &[("group_by", "conflict")]),
        ("group_by=day,hour", &[("group_by", "conflict")]),
        ("group_by=channel,channel", &[("group_by", "conflict")]),
        ("group_by=day,channel,event_name", &[("group_by", "conflict")]),
        ("group_by=day&group_by=channel", &[("group_by", "duplicate")]),
        ("tz=Mars/Olympus", &[("tz", "unknown_value")]),
        ("tz=Etc/Unknown", &[("tz", "unknown_value")]),
        ("tz=%2B02:00", &[("tz", "unknown_value")]),
        ("tz=", &[("tz", "empty")]),
        ("channel=", &[("channel", "empty")]),
        ("channel=a%00", &[("channel", "nul_character")]),
        ("channel=%ff", &[("channel", "malformed")]),
        (&long, &[("channel", "too_long")]),
        ("campaign_id=", &[("campaign_id", "empty")]),
        ("campaign_id=%00", &[("campaign_id", "nul_character")]),
        ("group_by=day&fill=one", &[("fill", "unknown_value")]),
        ("fill=zero", &[("fill", "needs_group_by")]),
        ("group_by=channel&fill=zero", &[("fill", "needs_group_by")]),
        ("group_by=channel&order=size", &[("order", "unknown_value")]),
        ("order=name", &[("order", "needs_group_by")]),
        ("group_by=day&limit=1", &[("limit", "needs_group_by")]),
        ("group_by=channel&limit=0", &[("limit", "out_of_range")]),
        ("group_by=channel&limit=10001", &[("limit", "out_of_range")]),
        ("group_by=channel&limit=%2B1", &[("limit", "out_of_range")]),
        ("group_by=channel&limit=-1", &[("limit", "out_of_range")]),
        ("group_by=channel&limit=ten", &[("limit", "out_of_range")]),
        ("exact=yes", &[("exact", "unknown_value")]),
        ("exact=", &[("exact", "empty")]),
        // An error about the grouping is reported once.
        (
            "group_by=decade&fill=zero&order=name&limit=3",
            &[("group_by", "unknown_value")],
        ),
        (
            "group_by=day,hour&tz=x&channel=&campaign_id=&fill=x&order=x&limit=x&exact=x",
            &[
                ("group_by", "conflict"),
                ("tz", "unknown_value"),
                ("channel", "empty"),
                ("campaign_id", "empty"),
                ("fill", "unknown_value"),
                ("order", "unknown_value"),
                ("limit", "out_of_range"),
                ("exact", "unknown_value"),
            ],
        ),
    ];
    for (parameters, expected) in table {
        let answer = server.exchange(get(&format!("/metrics?{RANGE}&{parameters}")));
        assert_eq!(answer.problem(), "bad_query", "{parameters}");
        let problem = answer.json();
        let errors = problem["errors"].as_array().unwrap().iter();
        let found: Vec<_> = errors
            .map(|error| (error["field"].as_str().unwrap(), error["code"].as_str().unwrap()))
            .collect();
        assert_eq!(found, expected, "{parameters}");
    }
    let answer = server.exchange(get(&format!("/metrics?{RANGE}&timezone=UTC")));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("campaign_id") && detail.contains("tz"), "{detail}");
}
