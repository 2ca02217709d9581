//! Pairs that clients invent must not cost a product's real pairs their rollups.

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::DAY_MICROS;
use fast_ingest::event::bucket::Day;
use fast_ingest::query::{MetricsQuery, MetricsReport};
use fast_ingest::upkeep::compact::{Limits, compact, sum_up_days};
use fast_ingest::upkeep::rebuild::{Settled, settle_one_day};
use fast_ingest::upkeep::verify::verify_day;

use crate::store::contract::contract;
use crate::support::database::{Database, Event, FEBRUARY, batch_of, event};

contract! {
    invented_pairs_of_tomorrow_leave_room_for_the_real_ones,
    a_day_that_overflowed_is_rebuilt_once_it_is_over,
}

const PAIRS_MAX: usize = 20;
/// Names that the product sends every day.
const REAL: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

fn at(day: i64) -> Timestamp {
    Timestamp::from_micros(FEBRUARY + day * DAY_MICROS)
}

fn invented() -> Vec<String> {
    (0..3 * PAIRS_MAX).map(|n| format!("0-invented-{n}")).collect()
}

fn on_day<'n>(names: &'n [impl AsRef<str>], day: i64) -> Vec<Event<'n>> {
    let at = FEBRUARY + day * DAY_MICROS;
    names.iter().map(|name| event(name.as_ref(), "ann", at)).collect()
}

/// Flushes and compacts as a server does on a day of February.
async fn take_in(database: &Database, today: i64, after: u64, events: &[Event<'_>]) -> u64 {
    let mut sink = match after {
        0 => database.sink_at(0).await,
        _ => database.store().open_sink().await.unwrap(),
    };
    sink.flush(batch_of(after, events).view()).await.unwrap();
    let mut rollups = database.store().open_rollups().await.unwrap();
    let limits = Limits::new(PAIRS_MAX);
    compact(&mut *rollups, at(today), &limits).await.unwrap();
    after + events.len() as u64
}

async fn asked(database: &Database, name: &str, day: i64) -> MetricsReport {
    let query = MetricsQuery::new(Some(name.to_owned()), at(day), at(day + 1));
    database.store().metrics(&query).await.unwrap()
}

async fn assert_right(database: &Database, day: i64) {
    let mut rollups = database.store().open_rollups().await.unwrap();
    let verdict = verify_day(&mut *rollups, Day::of(at(day))).await.unwrap();
    assert_eq!(verdict.differences, []);
}

async fn invented_pairs_of_tomorrow_leave_room_for_the_real_ones(database: Database) {
    let mut flushed = take_in(&database, 0, 0, &on_day(&REAL, 0)).await;
    let invented = invented();
    // Invented pairs sort before the real ones, and come first.
    flushed = take_in(&database, 0, flushed, &on_day(&invented, 1)).await;
    assert_right(&database, 1).await;
    flushed = take_in(&database, 1, flushed, &on_day(&invented, 1)).await;
    take_in(&database, 1, flushed, &on_day(&REAL, 1)).await;
    for name in REAL {
        let report = asked(&database, name, 1).await;
        assert_eq!((report.total.total_events, report.overflowed), (1, false), "{name}");
    }
    let mut overflowed = 0;
    for name in &invented {
        let report = asked(&database, name, 1).await;
        assert_eq!(report.total.total_events, 2, "right, if slow");
        overflowed += usize::from(report.overflowed);
    }
    // A tenth of the cap is kept for pairs that no earlier day had.
    assert_eq!(invented.len() - overflowed, PAIRS_MAX / 10);
    assert_right(&database, 1).await;
}

async fn a_day_that_overflowed_is_rebuilt_once_it_is_over(database: Database) {
    // No earlier day is known, so the invented pairs take all series.
    let invented = invented();
    let mut flushed = take_in(&database, 0, 0, &on_day(&invented, 0)).await;
    for _ in 0..3 {
        flushed = take_in(&database, 0, flushed, &on_day(&REAL, 0)).await;
    }
    assert!(asked(&database, "a", 0).await.overflowed);
    let mut rollups = database.store().open_rollups().await.unwrap();
    let settled = settle_one_day(&mut *rollups, PAIRS_MAX, at(1)).await.unwrap();
    assert_eq!(settled, None, "late events of the day still come");
    let settled = settle_one_day(&mut *rollups, PAIRS_MAX, at(2)).await.unwrap();
    assert_eq!(settled, Some(Settled::Rebuilt(Day::of(at(0)))));
    for name in REAL {
        let report = asked(&database, name, 0).await;
        assert_eq!((report.total.total_events, report.overflowed), (3, false), "{name}");
    }
    let settled = settle_one_day(&mut *rollups, PAIRS_MAX, at(2)).await.unwrap();
    assert_eq!(settled, None, "once is enough");
    // First some late events of pairs that were not chosen, then as many as the day had.
    flushed = take_in(&database, 2, flushed, &on_day(&invented[50..], 0)).await;
    let settled = settle_one_day(&mut *rollups, PAIRS_MAX, at(2)).await.unwrap();
    assert_eq!(settled, None);
    take_in(&database, 2, flushed, &on_day(&invented, 0)).await;
    let settled = settle_one_day(&mut *rollups, PAIRS_MAX, at(2)).await.unwrap();
    assert_eq!(settled, Some(Settled::Rebuilt(Day::of(at(0)))));
    sum_up_days(&mut *rollups, at(2), &Limits::new(PAIRS_MAX))
        .await
        .unwrap();
    assert_right(&database, 0).await;
}
