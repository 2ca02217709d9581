//! What a snapshot may cost: time, memory, and the plans that keep both small.

use std::time::SystemTime;

use diesel_async::pooled_connection::PoolableConnection as _;

use super::*;
use crate::event::bucket::QUARTER_MICROS;
use crate::query::snapshot::ROW_BYTES;

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_by_the_server() {
    let database = Database::new().await;
    let mut connection = database.connection().await;
    let snapshot = PgSnapshot::begin(&mut connection, Duration::from_millis(20), memory())
        .await
        .unwrap();
    let sleep = sql_query("SELECT pg_sleep(60)");
    let error = sleep.execute(&mut *snapshot.connection).await.unwrap_err();
    assert!(error.to_string().contains("statement timeout"), "{error}");
}

/// Bytes that `rows` rows take if their users take `users_bytes`.
fn cost(rows: usize, users_bytes: usize) -> usize {
    rows * (ROW_BYTES + "view".len() + "web".len()) + users_bytes
}

#[tokio::test]
async fn a_question_that_touches_too_much_fails_and_keeps_its_connection_from_the_pool() {
    let database = Database::with_series().await;
    let filter = series(one("view"), one("web"));
    // Each of them reads three days, six parts and three deltas of 8 bytes; stale days have none.
    for (rows, bytes, fails_at) in [
        (12, cost(12, 88), 3),
        (11, cost(12, 88), 2),
        (12, cost(12, 88) - 1, 2),
        (8, cost(12, 88), 1),
        (12, cost(9, 64) - 1, 1),
        (2, cost(12, 88), 0),
        (12, cost(3, 16) - 1, 0),
    ] {
        let mut connection = database.connection().await;
        let mut snapshot = PgSnapshot::begin(&mut connection, TIMEOUT, memory()).await.unwrap();
        snapshot.allowance = Allowance::new(rows, QueryMemory::new(bytes).question());
        let range = at(0)..at(3 * DAY_MICROS);
        let days = snapshot.days(&filter, range.clone()).await.map(|_| ());
        let parts = async |snapshot: &mut PgSnapshot<'_>| {
            snapshot.parts(&filter, std::slice::from_ref(&range)).await.map(|_| ())
        };
        let deltas = async |snapshot: &mut PgSnapshot<'_>| snapshot.deltas(&filter, range.clone()).await.map(|_| ());
        let mut answers = vec![days];
        if answers[0].is_ok() {
            answers.push(parts(&mut snapshot).await);
        }
        if answers.len() == 2 && answers[1].is_ok() {
            answers.push(deltas(&mut snapshot).await);
        }
        let good = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(good, fails_at, "{rows} rows, {bytes} bytes");
        let last = answers.pop().unwrap();
        assert_eq!(
            last.as_ref().is_err_and(|error| too_large(error).is_some()),
            fails_at < 3
        );
        let answer = snapshot.end(last).await;
        assert_eq!(answer.is_ok(), fails_at == 3);
        assert_eq!(connection.is_broken(), fails_at < 3);
    }
}

/// Tables like those of a server that has run for long, only smaller: reading all of a table must cost more than an
/// index.
#[tokio::test]
async fn ranges_are_walked_in_the_primary_key_and_partitions_are_pruned() {
    let database = Database::new().await;
    database.run(EVENTS).await;
    database.run(
            "INSERT INTO rollup_series (event_name, channel) SELECT 'name ' || n, NULL FROM generate_series(1, 200) n;
             INSERT INTO rollups SELECT s.id, timestamptz '2026-02-01 00:00:00+00' + q * interval '15 minutes', 15, 1, '\\x00'
                 FROM rollup_series s, generate_series(0, 999) q",
        )
        .await;
    let time = |micros: i64| {
        let micros = u64::try_from(FEBRUARY + micros).unwrap();
        SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
    };
    let starts: Vec<_> = (0..5).map(|n| time(n * DAY_MICROS)).collect();
    let ends: Vec<_> = (0..5).map(|n| time(n * DAY_MICROS + QUARTER_MICROS)).collect();
    let filters = [series(one("name 7"), Names::All), series(Names::Each, Names::All)];
    // Without statistics, as on a server that was just set up, and with them.
    for prepare in ["SELECT", "ANALYZE rollups; ANALYZE rollup_series"] {
        database.run(prepare).await;
        for filter in &filters {
            let mut select = Select::new(2);
            let sql = parts_sql(&select.series(filter), 1_000_001);
            let mut values: Vec<&(dyn ToSql + Sync)> = vec![&starts, &ends];
            values.extend(select.texts.iter().map(|text| text as &(dyn ToSql + Sync)));
            let plan = database.plan(&sql, &values).await;
            assert!(plan.contains("rollups_pkey"), "{plan}");
            assert!(!plan.contains("Seq Scan on rollups"), "{plan}");
        }
    }
    let filter = EventFilter {
        event_names: Names::All,
        channels: Names::All,
        campaign_id: None,
    };
    let sql = users_sql(&filter, &[at(0)], &mut Select::new(2));
    let plan = database.plan(&sql, &[&time(0), &time(DAY_MICROS)]).await;
    assert!(plan.contains("events_2026_02"), "{plan}");
    assert!(!plan.contains("events_2026_01"), "{plan}");
}
