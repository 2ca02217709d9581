//! A pooler in front of PostgreSQL: used in session mode, refused by name in the modes that share sessions.

use fast_ingest::store::settings::{StoreLocation, StoreSettings};
use fast_ingest::store::{self, StoreError};
use std::time::Duration;

use crate::support::ledger::body_of;
use crate::support::pooler::{Pooler, say_skipped};
use crate::support::postgres::Cluster;
use crate::support::process::stored::{Database, block_on};
use crate::support::process::{Launch, run};

const WORDS: [&str; 3] = ["pooler", "transaction mode", "pool_mode=session"];

#[test]
fn a_pooler_that_takes_sessions_apart_is_refused_with_what_to_do() {
    let database = Database::migrated(Cluster::shared());
    for mode in ["transaction", "statement"] {
        let Some(pooler) = Pooler::before(&database, mode) else {
            say_skipped("pooler");
            return;
        };
        let way = pooler.database();
        let dir = tempfile::tempdir().unwrap();
        let served = Launch::new(dir.path(), way).run_to_end();
        served.assert_refusal(78, &WORDS);
        for command in [&["migrate", "up"][..], &["migrate", "status"]] {
            run(&[command, &way.flags()].concat()).assert_refusal(78, &WORDS);
        }
        // The database may have been down at the start.
        let Database::Postgres(url) = way else {
            unreachable!("a pooler needs PostgreSQL")
        };
        let store = store::open(&StoreSettings {
            location: StoreLocation::Postgres(url.clone()),
            query_connections: 1,
            query_timeout: Duration::from_secs(30),
            query_bytes_max: 64 << 20,
            flush_timeout: Duration::from_secs(30),
        });
        let opened = block_on(store.unwrap().open_sink());
        let error = opened.err().expect("it is refused");
        assert!(
            matches!(&error, StoreError::Schema(text) if text.contains(WORDS[2])),
            "{error}"
        );
    }
}

#[test]
fn a_pooler_in_session_mode_is_served() {
    let database = Database::empty(Cluster::shared());
    let Some(pooler) = Pooler::before(&database, "session") else {
        say_skipped("pooler");
        return;
    };
    let way = pooler.database();
    way.migrate(&["up"]);
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path(), way).start();
    for user in ["ann", "bob"] {
        let answer = server.request("POST", "/events?wait=applied", &body_of(user));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let question = "/metrics?event_name=*&from=2020-01-01T00:00:00Z&to=2030-01-01T00:00:00Z";
    let answer = server.request("GET", question, "");
    assert_eq!(answer.json()["total_events"], 2, "{answer:?}");
    server.stop();
    way.assert_rollups_are_right();
}
