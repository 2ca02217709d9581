//! The partitions that PostgreSQL gets: one per month, and one per year for the distant past.

use fast_ingest::event::Timestamp;
use fast_ingest::store::{SinkError, StoreError};
use jiff::civil::date;
use jiff::tz::TimeZone;

use crate::support::database::{Database, Event, batch_of, event};

/// The middle of a month.
fn at(year: i16, month: i8) -> i64 {
    let noon = date(year, month, 15).at(12, 0, 0, 0);
    TimeZone::UTC.to_timestamp(noon).unwrap().as_microsecond()
}

fn this_year() -> i16 {
    let now = jiff::Timestamp::from_microsecond(Timestamp::now().as_micros()).unwrap();
    TimeZone::UTC.to_datetime(now).year()
}

async fn partitions(database: &Database) -> Vec<String> {
    let sql = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass ORDER BY 1";
    let rows = database.session().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bulk_with_an_event_a_month_since_1970_makes_few_partitions() {
    let database = Database::postgres().await;
    let this_year = this_year();
    let months = (1970..this_year).flat_map(|year| (1..=12).map(move |month| at(year, month)));
    let events: Vec<Event<'_>> = months.map(|micros| event("view", "ann", micros)).collect();
    database.store_events(&events).await;
    assert_eq!(database.events().await.len(), events.len());
    let partitions = partitions(&database).await;
    // Partitions by the month for five years, whole years before.
    assert_eq!(
        partitions.len(),
        5 * 12 + usize::try_from(this_year - 5 - 1970).unwrap()
    );
    assert!(partitions.contains(&"events_1970".to_owned()), "{partitions:?}");
    assert!(
        partitions.contains(&format!("events_{}_01", this_year - 5)),
        "{partitions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_that_has_months_goes_on_by_the_month() {
    let database = Database::postgres().await;
    database
        .execute(
            "CREATE TABLE events_2001_03 PARTITION OF events FOR VALUES FROM ('2001-03-01Z') TO ('2001-04-01Z');
             CREATE TABLE events_2002_07 (LIKE events)",
        )
        .await;
    let events = [at(2001, 3), at(2001, 4), at(2002, 8), at(2003, 1), at(2003, 2)];
    let events = events.map(|micros| event("view", "ann", micros));
    database.store_events(&events).await;
    let expected = ["events_2001_03", "events_2001_04", "events_2002_08", "events_2003"];
    assert_eq!(partitions(&database).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_year_is_named_and_left_alone() {
    let database = Database::postgres().await;
    database.store_events(&[event("view", "ann", at(2003, 1))]).await;
    database
        .execute("ALTER TABLE events DETACH PARTITION events_2003")
        .await;
    let mut sink = database.store().open_sink().await.unwrap();
    let late = [event("view", "ann", at(2003, 5))];
    match sink.flush(batch_of(1, &late).view()).await {
        Err(SinkError::Store(StoreError::Data { code, message })) => {
            assert_eq!(code, "detached");
            assert!(message.contains("events_2003 exists but is not attached"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(partitions(&database).await, [""; 0]);
}
