//! `fast-ingest metrics` against a real server, one without its database, and where no server listens.

use std::net::TcpListener;
use std::sync::Arc;

use fast_ingest::query::MetricsQuery;
use fast_ingest::store::StoreError;

use crate::support::http::{EVENT, Setup, StoreStub, TestServer};
use crate::support::process::stored::Database;
use crate::support::process::{Launch, run};

#[test]
fn the_answer_of_a_real_server_comes_in_three_forms() {
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path(), &Database::embedded(dir.path())).start();
    let posted = server.request("POST", "/events/bulk?wait=applied", &format!("[{EVENT},{EVENT}]"));
    assert_eq!(posted.status, 200, "{posted:?}");
    let url = server.url();
    let ask = |more: &[&str]| {
        let question = [
            "metrics",
            "page_view",
            "--from=2026-02-01",
            "--to=2026-02-02",
            "--url",
            &url,
        ];
        run(&[&question, more].concat())
    };

    let table = ask(&["--group-by=channel"]);
    assert_eq!(table.code(), 0, "{table:?}");
    let row = |first: &str| {
        let line = table.stdout.lines().find(|line| line.starts_with(first));
        let line = line.unwrap_or_else(|| panic!("no {first:?} in {table:?}"));
        let words = line.split_whitespace().map(str::to_owned);
        words.collect::<Vec<_>>()
    };
    assert_eq!(row("channel"), ["channel", "events", "users"]);
    assert_eq!(row("web")[..3], ["web", "2", "1"]);
    assert_eq!(row("total"), ["total", "2", "1"]);

    let json = ask(&["--format=json"]);
    assert_eq!(json.code(), 0, "{json:?}");
    assert_eq!(json.stdout.lines().count(), 1);
    let said: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(said["total_events"], 2);

    let csv = ask(&["--format=csv"]);
    assert_eq!(
        csv.stdout,
        "total_events,unique_users,unique_users_error,unique_users_low,unique_users_high\r\n2,1,0,1,1\r\n"
    );

    let wrong = ask(&["--group-by=mood"]);
    assert_eq!(wrong.code(), 2, "{wrong:?}");
    assert!(wrong.stderr.contains("group_by"), "{wrong:?}");
    assert_eq!((wrong.stderr.lines().count(), wrong.stdout.as_str()), (1, ""));
    server.stop();
}

#[test]
fn a_server_that_cannot_answer_is_69_and_says_why() {
    let unavailable = |_: &MetricsQuery| Err(StoreError::Unavailable("secret-host".to_owned()).into());
    let (server, _stored) = TestServer::acknowledging(Setup {
        store: Arc::new(StoreStub(unavailable)),
        ..Setup::default()
    });
    let url = format!("http://{}", server.address);
    let down = run(&["metrics", "a", "--url", &url]);
    down.assert_refusal(69, &["the database does not answer"]);

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}");
    run(&["metrics", "a", "--url", &nobody]).assert_refusal(69, &[&nobody, "cannot connect"]);
    run(&["metrics", "a", "--url", "https://h"]).assert_refusal(78, &["--url", "not supported yet"]);
}
