//! The wire contract: every status, every code, and what never changes about an answer.

use fast_ingest::wal::refusal::Refusal;
use serde_json::json;

use crate::support::http::{EVENT, Setup, TestServer, bodyless, get, post, post_head};

#[test]
fn a_stored_event_is_202_with_its_count_and_its_receipt() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let answer = client.exchange(post("/events", EVENT));
    let log = server.life.0.simple();
    let body = format!(r#"{{"accepted":1,"receipt":"{log}1"}}"#);
    assert_eq!((answer.status, answer.line()), (202, body.as_str()));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    let answer = client.exchange(post("/events/bulk", format!("[{EVENT},{EVENT},{EVENT}]")));
    let body = format!(r#"{{"accepted":3,"receipt":"{log}4"}}"#);
    assert_eq!((answer.status, answer.line()), (202, body.as_str()));
    assert_eq!(
        stored.iter().take(2).collect::<Vec<_>>(),
        [1, 3],
        "one record a request"
    );
}

#[test]
fn a_202_waits_for_the_ack() {
    let (server, submissions) = TestServer::start(Setup::default());
    let mut client = server.connect();
    client.send(post("/events", EVENT));
    let submission = submissions.recv().unwrap();
    assert_eq!(submission.event_count, 1);
    // The log refuses after all: a 202 sent before the ack would have arrived by now.
    submission.ack.send(Err(Refusal::Poisoned)).unwrap();
    assert_eq!(client.answer().status, 503);
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405_with_allow() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    for path in [
        "/",
        "/event",
        "/events/",
        "/Events",
        "/events/bulk/x",
        "//events",
        "/metrics/",
        "*",
    ] {
        let answer = client.exchange(bodyless("OPTIONS", path));
        assert_eq!((answer.status, answer.problem().as_str()), (404, "not_found"), "{path}");
    }
    for (method, path, allow) in [
        ("GET", "/events", "POST, OPTIONS"),
        ("HEAD", "/events", "POST, OPTIONS"),
        ("PUT", "/events/bulk", "POST, OPTIONS"),
        ("POST", "/metrics", "GET, HEAD, OPTIONS"),
        ("DELETE", "/health", "GET, HEAD, OPTIONS"),
        ("FROBNICATE", "/health", "GET, HEAD, OPTIONS"),
    ] {
        client.send(bodyless(method, path));
        let answer = if method == "HEAD" {
            client.answer_head()
        } else {
            client.answer()
        };
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allow)),
            "{method} {path}"
        );
        if method != "HEAD" {
            assert_eq!(answer.problem(), "method_not_allowed");
        }
    }
}

#[test]
fn a_query_string_on_a_post_and_an_absolute_target_change_nothing() {
    let (server, _stored) = TestServer::acknowledging(Setup::default());
    assert_eq!(server.exchange(post("/events?from=here", EVENT)).status, 202);
    assert_eq!(server.exchange(post("http://localhost/events", EVENT)).status, 202);
}

#[test]
fn head_answers_like_get_without_the_body() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let length = client.exchange(get("/health")).text().len();
    client.send(bodyless("HEAD", "/health"));
    let head = client.answer_head();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some(length.to_string().as_str()))
    );
    assert_eq!(
        client.exchange(get("/health")).status,
        200,
        "nothing of a body in between"
    );
}

#[test]
fn a_request_names_exactly_one_host() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    for hosts in ["", "Host: a\r\nHost: b\r\n"] {
        let answer = server.exchange(format!("GET /health HTTP/1.1\r\n{hosts}\r\n"));
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "bad_host"),
            "{hosts:?}"
        );
    }
    assert_eq!(server.exchange("GET /health HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn a_page_that_calls_the_server_by_its_own_name_or_from_its_own_site_is_refused() {
    let ask = |server: &TestServer, method: &str, lines: &str| {
        let answer = server.exchange(format!("{method} /health HTTP/1.1\r\n{lines}\r\n"));
        let code = (answer.status == 403).then(|| answer.problem());
        (answer.status, code.unwrap_or_default())
    };
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let refused = |code: &str| (403, code.to_owned());
    let host = refused("host_not_allowed");
    let origin = refused("origin_not_allowed");
    assert_eq!(ask(&server, "GET", "Host: rebind.example\r\n"), host);
    assert_eq!(ask(&server, "OPTIONS", "Host: rebind.example\r\n"), host);
    let from = |site: &str| format!("Host: localhost:8080\r\nOrigin: {site}\r\n");
    for site in ["https://evil.example", "null"] {
        assert_eq!(ask(&server, "GET", &from(site)), origin);
    }
    assert_eq!(ask(&server, "GET", &from("http://localhost:3000")).0, 200);
    let post = format!(
        "POST /events HTTP/1.1\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{EVENT}",
        from("https://evil.example"),
        EVENT.len()
    );
    assert_eq!(server.exchange(post).problem(), "origin_not_allowed");
    assert!(stored.is_empty(), "nothing was stored");

    let mut setup = Setup::default();
    setup.settings.allowed_hosts = vec!["stats.example".to_owned()];
    let (server, _) = TestServer::acknowledging(setup);
    let proxied = "Host: stats.example\r\nOrigin: https://stats.example\r\n";
    assert_eq!(ask(&server, "GET", proxied).0, 200);
    assert_eq!(ask(&server, "GET", "Host: rebind.example\r\n"), host);
}

#[test]
fn an_event_that_lies_too_far_back_is_refused() {
    let mut setup = Setup::default();
    setup.settings.event_age_max = std::time::Duration::from_secs(86_400);
    let (server, stored) = TestServer::acknowledging(setup);
    let old = EVENT.replace("1769938200", "1453000000");
    assert_ne!(old, EVENT);
    let answer = server.exchange(post("/events", &old));
    assert_eq!(answer.status, 400);
    let error = &answer.json()["errors"][0];
    assert_eq!(
        (&error["field"], &error["code"]),
        (&json!("timestamp"), &json!("out_of_range"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("--event-age-max"), "{message}");
    assert!(stored.is_empty());
}

#[test]
fn other_content_types_and_encodings_are_415() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let mut status = |lines: &str| {
        let answer = client.exchange(format!(
            "POST /events HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {}\r\n\r\n{EVENT}",
            EVENT.len()
        ));
        (answer.status, (answer.status == 415).then(|| answer.problem()))
    };
    let wrong_type = (415, Some("unsupported_media_type".to_owned()));
    let wrong_encoding = (415, Some("unsupported_encoding".to_owned()));
    assert_eq!(status(""), wrong_type);
    assert_eq!(status("Content-Type: text/plain\r\n"), wrong_type);
    assert_eq!(status("Content-Type: application/json; charset=utf-16\r\n"), wrong_type);
    assert_eq!(
        status("Content-Type: application/json\r\nContent-Type: text/plain\r\n"),
        wrong_type
    );
    assert_eq!(
        status("Content-Type: application/json\r\nContent-Encoding: gzip\r\n"),
        wrong_encoding
    );
    assert_eq!(
        status("Content-Type: application/json\r\nContent-Encoding: identity, gzip\r\n"),
        wrong_encoding
    );
    assert!(stored.is_empty());
    assert_eq!(
        status("Content-Type: application/json;charset=UTF-8\r\nContent-Encoding: Identity\r\n"),
        (202, None)
    );
}

#[test]
fn options_says_what_a_route_takes_and_gives_no_other_site_leave() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    for (path, allow) in [
        ("/health", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/events?x", "POST, OPTIONS"),
    ] {
        client.send(bodyless("OPTIONS", path));
        let answer = client.answer_head();
        assert_eq!((answer.status, answer.header("allow")), (204, Some(allow)), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert!(stored.is_empty());
}

#[test]
fn a_byte_order_mark_before_a_body_is_ignored() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let single = format!("\u{feff}{EVENT}");
    assert_eq!(server.exchange(post("/events", single)).status, 202);
    let bulk = format!("\u{feff} [{EVENT},{EVENT}]");
    assert_eq!(server.exchange(post("/events/bulk", bulk)).status, 202);
    assert_eq!(stored.iter().take(2).collect::<Vec<_>>(), [1, 2]);
    for body in [format!(" \u{feff}{EVENT}"), format!("\u{feff}\u{feff}{EVENT}")] {
        assert_eq!(server.exchange(post("/events", body)).status, 400);
    }
}

#[test]
fn every_validation_rule_reaches_the_wire() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let long = "x".repeat(201);
    let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
    let table = [
        ("event_name", json!(null), "required"),
        ("event_name", json!(""), "empty"),
        ("event_name", json!("*"), "reserved"),
        ("event_name", json!(7), "wrong_type"),
        ("channel", json!(long), "too_long"),
        ("user_id", json!("a\u{0}b"), "nul_character"),
        ("timestamp", json!("yesterday"), "malformed"),
        ("timestamp", json!(-1), "out_of_range"),
        ("timestamp", json!("2999-01-01T00:00:00Z"), "out_of_range"),
        ("timestamp", json!([1.5]), "wrong_type"),
        ("event_id", json!("x".repeat(129)), "too_long"),
        ("campaign_id", json!([]), "wrong_type"),
        ("tags", json!("a"), "wrong_type"),
        ("tags", json!(vec!["t"; 65]), "too_many"),
        ("metadata", json!([]), "wrong_type"),
        ("metadata", serde_json::from_str(&deep).unwrap(), "too_deep"),
        ("metadata", json!({ "a": "x".repeat(64 * 1024) }), "too_long"),
        ("userId", json!("u"), "unknown_field"),
    ];
    for (field, value, code) in table {
        let mut event: serde_json::Value = serde_json::from_str(EVENT).unwrap();
        event[field] = value;
        let answer = client.exchange(post("/events", event.to_string()));
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "invalid_event"),
            "{field} {code}"
        );
        let problem = answer.json();
        assert_eq!(problem["invalid_count"], 1);
        let error = &problem["errors"][0];
        assert_eq!(
            (&error["index"], &error["field"], &error["code"]),
            (&json!(0), &json!(field), &json!(code))
        );
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    assert!(stored.is_empty());
}

#[test]
fn what_is_not_the_right_json_is_400() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    for (path, body, code) in [
        ("/events", String::new(), "invalid_json"),
        ("/events", "{".to_owned(), "invalid_json"),
        ("/events", format!("[{EVENT}]"), "invalid_json"),
        ("/events", format!("{EVENT} x"), "invalid_json"),
        ("/events/bulk", EVENT.to_owned(), "invalid_json"),
        ("/events/bulk", "[]".to_owned(), "empty_bulk"),
    ] {
        let answer = client.exchange(post(path, &body));
        assert_eq!((answer.status, answer.problem().as_str()), (400, code), "{path} {body}");
        assert_eq!(answer.json().get("errors"), None);
    }
    let answer = client.exchange(post("/events", b"\"\xff\""));
    assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid_json"));
    // By RFC 9112 a POST without a length has an empty body.
    assert_eq!(client.exchange(post_head("/events", "")).problem(), "invalid_json");
    assert!(stored.is_empty());
}

#[test]
fn a_bulk_is_stored_whole_or_not_at_all_and_every_bad_event_is_named() {
    let (server, stored) = TestServer::acknowledging(Setup::default());
    let mut client = server.connect();
    let answer = client.exchange(post("/events/bulk", format!("[{EVENT},{{}},{EVENT},7]")));
    assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid_event"));
    let problem = answer.json();
    assert_eq!(problem["invalid_count"], 2);
    let indexes: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["index"].as_u64())
        .collect();
    assert_eq!(
        indexes,
        [Some(1), Some(1), Some(1), Some(1), Some(3)],
        "four missing fields, then no object"
    );

    let answer = client.exchange(post("/events/bulk", format!("[{}7]", "7,".repeat(150))));
    let problem = answer.json();
    assert_eq!(
        (problem["errors"].as_array().unwrap().len(), &problem["invalid_count"]),
        (100, &json!(151))
    );
    assert!(stored.is_empty());
}

#[test]
fn input_is_not_echoed() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    let secret = "hunter2-hunter2";
    let mut event: serde_json::Value = serde_json::from_str(EVENT).unwrap();
    event["timestamp"] = json!(secret);
    event["metadata"] = json!([secret]);
    for (path, body) in [
        ("/events", event.to_string()),
        ("/events", format!("\"{secret}\"")),
        ("/events/bulk", format!("[\"{secret}\",{{\"tags\":\"{secret}\"")),
        ("/nowhere?secret=hunter2-hunter2", secret.to_owned()),
    ] {
        let answer = server.exchange(post(path, body));
        assert!(answer.status >= 400);
        assert!(!answer.text().contains(secret), "{}", answer.text());
    }
}
