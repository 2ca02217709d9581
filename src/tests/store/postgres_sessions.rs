//! Sessions that PostgreSQL or a pooler ends while they are idle, or in the middle of a read. No caller notices.

use fast_ingest::store::QueryError;
use fast_ingest::wal::id::LifeId;
use uuid::Uuid;

use crate::store::postgres::wait_until;
use crate::support::database::{Database, FEBRUARY, event, query};
use crate::support::ledger::body_of;
use crate::support::postgres::{self, Cluster};
use crate::support::process::Launch;
use crate::support::process::stored::Database as ServedDatabase;

/// The store's sessions in the database of the session that asks.
const OURS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fast-ingest'";
/// Appended to the URL of a database: PostgreSQL ends its sessions after this idle time.
const IDLE_MAX: &str = "?options=-c%20idle_session_timeout%3D100ms";
const METRICS: &str = "/metrics?event_name=*&from=2026-02-01T00:00:00Z&to=2026-03-01T00:00:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn a_read_on_a_session_that_has_idled_too_long_is_answered() {
    let cluster = tokio::task::spawn_blocking(Cluster::shared).await.unwrap();
    let url = cluster.create_database().await;
    let observer = postgres::connect(&url).await;
    let database = Database::postgres_at(format!("{url}{IDLE_MAX}")).await;
    let stored = [event("view", "ann", FEBRUARY)];
    database.store_events(&stored).await;
    for _ in 0..3 {
        let asked = query("view", FEBRUARY, FEBRUARY + 1, None);
        let report = database.store().metrics(&asked).await.unwrap();
        assert_eq!(report.total.total_events, 1);
        let life = LifeId(Uuid::nil());
        database.store().stored_of(life).await.unwrap();
        wait_until(&observer, &format!("NOT EXISTS (SELECT {OURS})")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_session_ends_under_it_is_asked_once_more() {
    let database = Database::postgres().await;
    let stored = [event("view", "ann", FEBRUARY)];
    database.store_events(&stored).await;
    let observer = database.session().await;
    let lock = "BEGIN; LOCK TABLE events, rollup_days, rollups, rollup_deltas, wal_lives IN ACCESS EXCLUSIVE MODE";
    let waiting = format!("{OURS} AND wait_event_type = 'Lock'");
    for asks_for_metrics in [true, false] {
        let blocked = database.session().await;
        blocked.batch_execute(lock).await.unwrap();
        let asking = database.clone();
        let asked = tokio::spawn(async move {
            if asks_for_metrics {
                let asked = query("view", FEBRUARY, FEBRUARY + 1, None);
                let report = asking.store().metrics(&asked).await?;
                assert_eq!(report.total.total_events, 1);
            } else {
                asking.store().stored_of(LifeId(Uuid::nil())).await?;
            }
            Ok::<_, QueryError>(())
        });
        wait_until(&observer, &format!("EXISTS (SELECT {waiting})")).await;
        let end = format!("SELECT pg_terminate_backend(pid, 10000) {waiting}");
        let ended = observer.query_one(&end, &[]).await.unwrap();
        assert!(ended.get::<_, bool>(0), "it did not end");
        drop(blocked);
        asked.await.unwrap().unwrap();
    }
}

/// Neither flush, rollups nor dashboard notice. Each finds its session ended when it needs it.
#[test]
fn sessions_that_idle_too_long_are_no_news() {
    let database = ServedDatabase::migrated(Cluster::shared());
    let ServedDatabase::Postgres(url) = &database else {
        unreachable!("the database is PostgreSQL")
    };
    let way = ServedDatabase::Postgres(format!("{url}{IDLE_MAX}"));
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path(), &way).with("--rollup-interval", "2s").start();
    let ours = format!("SELECT count(*) {OURS}");
    for number in 1..=3 {
        database.wait_for("idle", |database| database.rows(&ours) == ["0"]);
        let answer = server.request("GET", METRICS, "");
        assert_eq!(answer.status, 200, "{answer:?}");
        let user = format!("user-{number}");
        let answer = server.request("POST", "/events", &body_of(&user));
        assert_eq!(answer.status, 202, "{answer:?}");
        server.wait_until_flushed();
        database.wait_until_compacted();
    }
    server.terminate();
    let ended = server.wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
    let is_news = |line: &str| line.contains("WARN") && !line.contains("fsync=off");
    assert!(!ended.stderr.lines().any(is_news), "{}", ended.stderr);
}
