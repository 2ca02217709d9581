//! The secret that a database hashes user ids with: new databases have one, old ones get one when all rollups are
//! rebuilt.

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::DAY_MICROS;
use fast_ingest::event::bucket::Day;
use fast_ingest::query::{MetricsQuery, Source};
use fast_ingest::rollup::PART_EXACT_MAX;
use fast_ingest::rollup::users::NewKey;
use fast_ingest::store::settings::StoreLocation;
use fast_ingest::upkeep::rebuild::{self, Rules, rebuild_day};
use tokio::sync::watch;

use crate::rollup::verify::{assert_says, command};
use crate::store::contract::contract;
use crate::support::database::{Database, Event, FEBRUARY, batch_of, event};

contract! {
    a_new_database_has_a_secret,
    a_rebuild_gives_an_old_database_its_secret,
    days_without_events_keep_the_old_hash,
    flushes_go_on_while_the_secret_is_made,
}

const HAS_KEY: &str = "rollup_state WHERE user_key IS NOT NULL";

/// As many users as a set names one by one: their number is exact, and twice as large where two sets do not merge.
fn users() -> Vec<String> {
    (0..PART_EXACT_MAX).map(|n| format!("user-{n}")).collect()
}

fn on_day(users: &[String], day: i64) -> Vec<Event<'_>> {
    let of_user = |user| event("view", user, FEBRUARY + day * DAY_MICROS);
    users.iter().map(|user| of_user(user)).collect()
}

/// Unique users of the days from `FEBRUARY` on, by the rollups.
async fn unique_users(database: &Database, days: i64) -> u64 {
    let at = |day: i64| Timestamp::from_micros(FEBRUARY + day * DAY_MICROS);
    let query = MetricsQuery::new(Some("view".to_owned()), at(0), at(days));
    let report = database.store().metrics(&query).await.unwrap();
    assert_eq!(report.source, Source::Rollups);
    report.total.users.count
}

async fn a_new_database_has_a_secret(database: Database) {
    assert_eq!(database.count(HAS_KEY).await, 1);
    let users = users();
    database.store_events(&on_day(&users, 0)).await;
    let rebuilt = command(&database, &["rollup", "rebuild"]).await;
    assert_says(&rebuilt, "rebuilt 1 day, 100 events\n");
    let right = "verified 100 events in 1 day: no difference\n";
    assert_says(&command(&database, &["verify"]).await, right);
    assert_eq!(unique_users(&database, 1).await, 100);
}

async fn a_rebuild_gives_an_old_database_its_secret(database: Database) {
    let database = database.without_user_key().await;
    let users = users();
    let mut sink = database.sink_at(0).await;
    sink.flush(batch_of(0, &on_day(&users, 0)).view()).await.unwrap();
    let some = command(&database, &["rollup", "rebuild", "--from", "2026-02-01"]).await;
    assert_says(&some, "rebuilt 1 day, 100 events\n");
    assert_eq!(database.count(HAS_KEY).await, 0, "not all days were rebuilt");
    let all = command(&database, &["rollup", "rebuild"]).await;
    assert_says(
        &all,
        "user ids are hashed with a secret of this database from now on\nrebuilt 1 day, 100 events\n",
    );
    assert_eq!(database.count(HAS_KEY).await, 1);
    // The same sink: it must not use what it read of the database before.
    sink.flush(batch_of(100, &on_day(&users, 1)).view()).await.unwrap();
    assert_eq!(unique_users(&database, 2).await, 100);
    let right = "verified 200 events in 2 days: no difference\n";
    assert_says(&command(&database, &["verify"]).await, right);
}

async fn days_without_events_keep_the_old_hash(database: Database) {
    let database = database.without_user_key().await;
    let users = users();
    let events = [on_day(&users, 0), on_day(&users, 1)].concat();
    database.store_events(&events).await;
    command(&database, &["rollup", "rebuild", "--from", "2026-02-01"]).await;
    let first_day = match database.settings().location {
        StoreLocation::Postgres(_) => "ts < '2026-02-02Z'",
        StoreLocation::Sqlite(_) => "ts < 1769990400000000",
    };
    database.execute(&format!("DELETE FROM events WHERE {first_day}")).await;
    let kept = command(&database, &["rollup", "rebuild"]).await;
    assert!(kept.stdout.contains("stay hashed without a secret"), "{kept:?}");
    assert_eq!((kept.code(), database.count(HAS_KEY).await), (0, 0));
    assert_eq!(unique_users(&database, 2).await, 100);
    let forgotten = command(&database, &["rollup", "rebuild", "--forget"]).await;
    assert!(
        forgotten.stdout.contains("removed the rollups of 1 day"),
        "{forgotten:?}"
    );
    let made = command(&database, &["rollup", "rebuild"]).await;
    assert!(made.stdout.contains("hashed with a secret"), "{made:?}");
    assert_eq!(database.count(HAS_KEY).await, 1);
}

async fn flushes_go_on_while_the_secret_is_made(database: Database) {
    const FLUSHES: u64 = 40;
    let database = database.without_user_key().await;
    let (flushed, mut flushes) = watch::channel(0);
    let mut sink = database.sink_at(0).await;
    let flusher = tokio::spawn(async move {
        let users = users();
        for number in 0..FLUSHES {
            let events = on_day(&users, (number % 3) as i64);
            sink.flush(batch_of(number * 100, &events).view()).await.unwrap();
            flushed.send(number + 1).unwrap();
        }
    });
    flushes.wait_for(|flushed| *flushed >= 3).await.unwrap();
    let mut rollups = database.store().open_rollups().await.unwrap();
    let made = rebuild::make_user_key(&mut *rollups).await.unwrap();
    assert_eq!(made, NewKey::Made);
    let error = database.store().check_rollups().await.unwrap_err();
    assert!(error.to_string().contains("not built yet"), "{error}");
    let again = rebuild::make_user_key(&mut *rollups).await.unwrap();
    assert_eq!(again, NewKey::NotNeeded);
    for day in 0..3 {
        let day = Day::of(Timestamp::from_micros(FEBRUARY + day * DAY_MICROS));
        rebuild_day(&mut *rollups, day, Rules::new(1_000), Timestamp::now())
            .await
            .unwrap();
    }
    rebuild::set_rebuilt(&mut *rollups).await.unwrap();
    flusher.await.unwrap();
    assert_eq!(unique_users(&database, 3).await, 100);
    let right = format!("verified {} events in 3 days: no difference\n", FLUSHES * 100);
    assert_says(&command(&database, &["verify"]).await, &right);
}
