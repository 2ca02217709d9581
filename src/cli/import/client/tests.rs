use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use hyper::header::HeaderValue;

use super::*;

fn answer(status: u16, body: &str) -> Attempt {
    interpret(
        StatusCode::from_u16(status).unwrap(),
        &HeaderMap::new(),
        body.as_bytes(),
    )
}

fn retry_after(status: u16, value: &str) -> Option<Duration> {
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
    match interpret(StatusCode::from_u16(status).unwrap(), &headers, b"") {
        Attempt::Retry { after, .. } => after,
        verdict @ Attempt::Verdict(_) => panic!("{verdict:?}"),
    }
}

#[test]
fn a_202_counts_only_with_its_number() {
    assert_eq!(
        answer(202, r#"{"accepted":3,"receipt":"0a0b1"}"#),
        Attempt::Verdict(Verdict::Accepted(3))
    );
    for body in ["", "{}", r#"{"accepted":-1}"#, "OK"] {
        assert!(
            matches!(answer(202, body), Attempt::Verdict(Verdict::NotOurs(_))),
            "{body}"
        );
    }
}

#[test]
fn a_400_lists_events_in_order() {
    let body = r#"{"type":"about:blank","title":"Invalid events","status":400,"code":"invalid_events","invalid_count":2,
        "errors":[{"index":7,"field":"user_id","code":"required","message":"is missing"},
                  {"index":2,"field":"tags","code":"too_long","message":"is long"}]}"#;
    let Attempt::Verdict(Verdict::EventsRefused { reasons, invalid_count }) = answer(400, body) else {
        panic!("{:?}", answer(400, body));
    };
    assert_eq!(invalid_count, 2);
    let texts: Vec<_> = reasons.iter().map(|(index, reason)| (*index, reason.text())).collect();
    assert_eq!(
        texts,
        [(2, "tags: is long".to_owned()), (7, "user_id: is missing".to_owned())]
    );
}

#[test]
fn a_400_without_a_list_and_a_413_refuse_the_request() {
    let unreadable = r#"{"title":"Bad request","code":"bad_json","detail":"lone surrogate"}"#;
    let reason = Reason::of_line("bad_json", "lone surrogate");
    assert_eq!(
        answer(400, unreadable),
        Attempt::Verdict(Verdict::RequestRefused(reason.clone()))
    );
    assert_eq!(answer(413, unreadable), Attempt::Verdict(Verdict::TooLarge(reason)));
    let too_many = answer(400, r#"{"code":"too_many_events","detail":"at most 5"}"#);
    let reason = Reason::of_line("too_many_events", "at most 5");
    assert_eq!(too_many, Attempt::Verdict(Verdict::TooMany(reason)));
    let from_a_proxy = answer(413, "<html>");
    assert!(
        matches!(from_a_proxy, Attempt::Verdict(Verdict::TooLarge(_))),
        "{from_a_proxy:?}"
    );
}

#[test]
fn an_answer_of_another_server_is_strange() {
    for status in [200, 204, 301, 400, 401, 404, 405, 415] {
        let answer = answer(status, "<html>hello</html>");
        assert!(
            matches!(answer, Attempt::Verdict(Verdict::NotOurs(_))),
            "{status}: {answer:?}"
        );
    }
}

#[test]
fn what_passes_is_tried_again_when_the_server_says() {
    for status in [408, 429, 500, 502, 503, 504] {
        assert_eq!(retry_after(status, "7"), Some(Duration::from_secs(7)), "{status}");
    }
    assert_eq!(retry_after(503, "Wed, 21 Oct 2026 07:28:00 GMT"), None);
    let Attempt::Retry { why, .. } = answer(503, r#"{"code":"wal_full","detail":"the log is full"}"#) else {
        panic!("503 must be tried again");
    };
    assert_eq!(why, "503 Service Unavailable: the log is full");
}

#[test]
fn urls_are_checked_before_anything_is_read() {
    let uri = |url| Endpoint::parse(url).map(|endpoint| endpoint.uri.to_string());
    assert_eq!(uri("http://h:8080").unwrap(), "http://h:8080/events/bulk");
    assert_eq!(
        uri("http://h/behind/a/proxy/").unwrap(),
        "http://h/behind/a/proxy/events/bulk"
    );
    assert!(uri("https://h").unwrap_err().to_string().contains("not supported yet"));
    for wrong in [
        "",
        "h:8080",
        "ftp://h",
        "http://",
        "http://u:p@h",
        "http://h?x=1",
        "/events",
    ] {
        assert!(uri(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_answer_that_is_too_long_counts_by_its_status() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    thread::spawn(move || {
        for status in ["400 Bad Request", "502 Bad Gateway"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n[]") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let body = "x".repeat(ANSWER_BYTES_MAX + 1);
            // The client closes the connection in the middle of a long answer.
            write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{body}").ok();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let post = || runtime.block_on(Connection::new(&endpoint).post(Bytes::from_static(b"[]")));
    assert_eq!(post(), Attempt::Verdict(Verdict::NotOurs("400 Bad Request".to_owned())));
    let Attempt::Retry { why, .. } = post() else {
        panic!("a proxy's trouble passes");
    };
    assert_eq!(why, "502 Bad Gateway");
}
