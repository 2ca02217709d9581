//! What the flush requires of a PostgreSQL that others use and configure too.

use fast_ingest::rollup::SeriesKey;
use fast_ingest::wal::id::{Mark, WalId};
use uuid::Uuid;

use crate::store::postgres::wait_until;
use crate::support::database::{Database, Event, FEBRUARY, batch_from, batch_of, event, wal_id};

/// Each of two servers has inserted one half of the same events, and then inserts the other half.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_store_the_same_ids_never_wait_for_each_other() {
    const EVENTS: i64 = 20;
    let database = Database::postgres().await;
    // Makes the partition.
    database.store_events(&[event("view", "ann", FEBRUARY)]).await;
    let ids: Vec<String> = (0..EVENTS).map(|number| format!("id-{number}")).collect();
    let mut events: Vec<Event<'_>> = (FEBRUARY..).zip(&ids).map(with_id).collect();
    // The held lock stops both servers in the middle.
    let held = database.session().await;
    let middle = usize::try_from(EVENTS / 2).unwrap();
    held.batch_execute(&format!(
        "BEGIN; INSERT INTO events (ts, event_name, channel, user_id, event_id) \
         SELECT timestamptz '2026-02-01Z' + {middle} * interval '1 microsecond', 'view', 'web', 'bob', '{}'",
        ids[middle]
    ))
    .await
    .unwrap();
    let mut flushes = Vec::new();
    for server in 1..=2_u128 {
        let log = WalId(Uuid::from_u128(server));
        let mut sink = database.store().open_sink().await.unwrap();
        sink.create_checkpoint(log, 0, Mark::default()).await.unwrap();
        let batch = batch_from(log, 0, &events);
        events.reverse();
        flushes.push(tokio::spawn(async move { sink.flush(batch.view()).await }));
    }
    let observer = database.session().await;
    let waiting =
        "(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock') = 2";
    wait_until(&observer, waiting).await;
    held.batch_execute("ROLLBACK").await.unwrap();
    let mut stored = 0;
    for flush in flushes {
        stored += flush.await.unwrap().expect("no deadlock").stored;
    }
    assert_eq!(stored, EVENTS.unsigned_abs());
}

fn with_id<'a>((micros, id): (i64, &'a String)) -> Event<'a> {
    let mut event = event("view", "bob", micros);
    event.event_id = Some(id);
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_as_durable_as_configured_and_never_less_than_on_disk() {
    let database = Database::postgres().await;
    database
        .execute(
            "CREATE TABLE seen (number serial, setting text);
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO seen (setting) VALUES (current_setting('synchronous_commit'));
                 RETURN NEW;
             END $$;
             CREATE TRIGGER look BEFORE UPDATE ON wal_checkpoints FOR EACH ROW EXECUTE FUNCTION look();
             CREATE TRIGGER look BEFORE INSERT ON rollup_series FOR EACH ROW EXECUTE FUNCTION look()",
        )
        .await;
    drop(database.sink_at(0).await);
    let table = [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ];
    let observer = database.session().await;
    let newest = "SELECT setting FROM seen ORDER BY number DESC LIMIT 1";
    for (after, (configured, expected)) in (0..).zip(table) {
        database
            .execute(&format!(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = {configured}', current_database()); END $$"
            ))
            .await;
        let mut sink = database.store().open_sink().await.unwrap();
        let found = sink.checkpoint(wal_id()).await;
        assert_eq!(found.unwrap().unwrap().flushed_through, after);
        let batch = batch_of(after, &[event(configured, "ann", FEBRUARY)]);
        sink.flush(batch.view()).await.unwrap();
        let seen: String = observer.query_one(newest, &[]).await.unwrap().get(0);
        assert_eq!(seen, expected, "a flush where {configured} is configured");
        let mut rollups = database.store().open_rollups().await.unwrap();
        assert!(rollups.begin(true).await.unwrap());
        let series = SeriesKey {
            event_name: Some(configured.to_owned()),
            channel: None,
        };
        rollups.series_ids(&[series]).await.unwrap();
        rollups.commit().await.unwrap();
        let seen: String = observer.query_one(newest, &[]).await.unwrap().get(0);
        assert_eq!(seen, expected, "rollups where {configured} is configured");
    }
}
