//! Flushes of several servers, compactions, sums of days and a rebuild, all at once: no query and no snapshot ever sees
//! rollups that disagree with the events, and at the end every answer equals a plain recount.
//!
//! Each actor has a thread of its own, as in the server, because SQLite's calls block. `TEST_SEED` repeats their
//! actions, but not their interleaving.

mod events;
mod recount;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::Day;
use fast_ingest::event::bucket::{DAY_MICROS, HOUR_MICROS};
use fast_ingest::query::MetricsQuery;
use fast_ingest::store::settings::StoreLocation;
use fast_ingest::store::{EventStore, RollupStore, SinkError, StoreError, open};
use fast_ingest::support::shutdown::Shutdown;
use fast_ingest::upkeep::compact::{Limits, compact, sum_up_days};
use fast_ingest::upkeep::keeper::Keeper;
use fast_ingest::upkeep::rebuild::{Rules, days, rebuild_day};
use fast_ingest::upkeep::settings::{RollupCap, RollupSettings};
use fast_ingest::upkeep::verify::verify_day;
use fast_ingest::wal::batch::Batch;
use fast_ingest::wal::id::{Mark, WalId};
use uuid::Uuid;

use self::events::{Draft, POISON, drafts};
use crate::store::contract::contract;
use crate::support::database::{Database, batch_from};
use crate::support::process::stored::block_on;
use crate::support::random::Random;

contract! {
    everything_races_and_the_rollups_agree_with_the_events,
    everything_races_on_days_with_more_pairs_than_the_cap,
}

const FLUSHERS: u128 = 3;
const BATCHES: usize = 50;
const REBUILDS: usize = 3;
/// Later than any event.
const FOREVER: i64 = 4_000_000_000_000_000;

async fn everything_races_and_the_rollups_agree_with_the_events(database: Database) {
    let overflowed = race(database, 10_000).await;
    assert_eq!(overflowed, 0);
}

async fn everything_races_on_days_with_more_pairs_than_the_cap(database: Database) {
    let overflowed = race(database, 5).await;
    assert!(overflowed > 0, "events had to be counted");
}

/// Runs all actors at once, and asks many questions afterwards. Returns how many of them had to count events of
/// overflowed days.
async fn race(database: Database, pairs_max: usize) -> usize {
    database.refuse_events_named(POISON).await;
    let race = tokio::task::spawn_blocking(move || {
        let random = Random::from_environment();
        run(Race::new(database, pairs_max), random)
    });
    race.await.unwrap()
}

/// The state that the actors share.
struct Race {
    database: Database,
    pairs_max: usize,
    /// When the race began: events are placed around this instant.
    now: Timestamp,
    flushed: AtomicUsize,
    is_over: AtomicBool,
    answers: AtomicUsize,
    verified: AtomicUsize,
}

fn run(race: Race, mut random: Random) -> usize {
    let shutdown = Shutdown::new();
    let sent: Vec<Draft> = thread::scope(|scope| {
        let flushers: Vec<_> = (1..=FLUSHERS)
            .map(|number| {
                let (race, random) = (&race, random.fork());
                scope.spawn(move || block_on(race.flush_batches(number, random)))
            })
            .collect();
        let settings = RollupSettings {
            interval: Duration::from_millis(2),
            cap: RollupCap {
                pairs_per_day_max: race.pairs_max,
            },
        };
        let (race, token) = (&race, shutdown.drain_token());
        scope.spawn(move || block_on(Keeper::new(race.store(), settings, token).run()));
        let numbers = random.fork();
        scope.spawn(move || block_on(race.keep_at_any_time(numbers)));
        let rebuilding = scope.spawn(move || block_on(race.rebuild()));
        scope.spawn(move || block_on(race.ask_about_everything()));
        let numbers = random.fork();
        scope.spawn(move || block_on(race.ask_about_a_piece(numbers)));
        let numbers = random.fork();
        scope.spawn(move || block_on(race.verify_days(numbers)));

        let flushed: Vec<_> = flushers.into_iter().map(|flusher| flusher.join()).collect();
        let rebuilt = rebuilding.join();
        // Set before anything that may panic: the other actors would run for ever.
        race.is_over.store(true, Ordering::Relaxed);
        shutdown.drain();
        rebuilt.unwrap();
        flushed.into_iter().flat_map(Result::unwrap).collect()
    });
    let (answers, verified) = (race.answers.into_inner(), race.verified.into_inner());
    assert!(answers >= 10 && verified >= 10, "{answers} {verified}");
    eprintln!("{answers} answers and {verified} days verified meanwhile");
    let (database, pairs_max) = (race.database, race.pairs_max);
    block_on(async {
        events::assert_stored(&database, &sent).await;
        let mut overflowed = 0;
        for is_compacted in [false, true] {
            if is_compacted {
                compact_all(&database, pairs_max).await;
            }
            assert_all_days_are_right(&database).await;
            overflowed += recount::assert_answers(&database, race.now, &mut random).await;
        }
        overflowed
    })
}

impl Race {
    fn new(database: Database, pairs_max: usize) -> Self {
        Self {
            database,
            pairs_max,
            now: Timestamp::now(),
            flushed: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            answers: AtomicUsize::new(0),
            verified: AtomicUsize::new(0),
        }
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// A store of the calling thread's own, like that of another server on the same database.
    fn store(&self) -> Arc<dyn EventStore> {
        open(&self.database.settings()).unwrap()
    }

    async fn rollups(&self) -> Box<dyn RollupStore> {
        self.store().open_rollups().await.unwrap()
    }

    /// The flushes of one server. Returns their events.
    async fn flush_batches(&self, number: u128, mut random: Random) -> Vec<Draft> {
        let wal_id = WalId(Uuid::from_u128(number));
        let store = self.store();
        let mut sink = store.open_sink().await.unwrap();
        sink.create_checkpoint(wal_id, 0, Mark::default()).await.unwrap();
        drop(sink);
        let mut all = Vec::new();
        for batch in 0..BATCHES {
            let prefix = format!("{number}-{batch}");
            let some = drafts(&mut random, self.now, &prefix);
            let events: Vec<_> = some.iter().map(Draft::event).collect();
            flush(&*store, batch_from(wal_id, all.len() as u64, &events)).await;
            all.extend(some);
            self.flushed.fetch_add(1, Ordering::Relaxed);
        }
        all
    }

    /// Compacts in small steps at simulated times up to days ahead, so that minutes age and days end while events still
    /// come in.
    async fn keep_at_any_time(&self, mut random: Random) {
        let mut store = self.rollups().await;
        while self.goes_on() {
            let ahead = random.pick(&[0, HOUR_MICROS, 4 * HOUR_MICROS, DAY_MICROS, 3 * DAY_MICROS]);
            let now = Timestamp::from_micros(Timestamp::now().as_micros() + ahead);
            let mut up_to = |most| 1 + usize::try_from(random.below(most)).unwrap();
            let limits = Limits {
                deltas_max: up_to(300),
                minutes_max: up_to(200),
                days_max: up_to(20),
                day_parts_max: up_to(100),
                ..Limits::new(self.pairs_max)
            };
            compact(&mut *store, now, &limits).await.unwrap();
            sum_up_days(&mut *store, now, &limits).await.unwrap();
            // SQLite's other writers retry once a millisecond.
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Rebuilds the rollups of all days a few times once half of the batches are stored: events flushed and compacted
    /// between two of its statements must not get lost.
    async fn rebuild(&self) {
        let half = FLUSHERS as usize * BATCHES / 2;
        while self.flushed.load(Ordering::Relaxed) < half {
            thread::sleep(Duration::from_millis(1));
        }
        let mut store = self.rollups().await;
        let all = days(&mut *store, None, None).await.unwrap();
        for _ in 0..REBUILDS {
            for day in touched(&all) {
                rebuild_day(&mut *store, day, Rules::new(self.pairs_max), Timestamp::now())
                    .await
                    .unwrap();
            }
        }
    }

    /// The number of all events is the number of rows, and never goes down.
    async fn ask_about_everything(&self) {
        let store = self.store();
        let everything = MetricsQuery::new(None, at(0), at(FOREVER));
        let mut last = 0;
        while self.goes_on() {
            let before = self.database.count("events").await;
            let answer = store.metrics(&everything).await.unwrap();
            let after = self.database.count("events").await;
            let told = i64::try_from(answer.total.total_events).unwrap();
            assert!(
                (before.max(last)..=after).contains(&told),
                "{told} events answered, {before} rows before and {after} after, {last} in the last answer"
            );
            last = told;
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks about one name in a range that cuts rollups, again and again.
    async fn ask_about_a_piece(&self, mut random: Random) {
        let store = self.store();
        while self.goes_on() {
            let name = random.pick(&events::NAMES);
            let range = recount::random_range(&mut random, self.now);
            let rows = format!(
                "events WHERE event_name = '{}' AND ts >= {} AND ts < {}",
                name.replace('\'', "''"),
                self.literal(range.start),
                self.literal(range.end)
            );
            let query = MetricsQuery::new(Some(name.to_owned()), at(range.start), at(range.end));
            let before = self.database.count(&rows).await;
            let answer = store.metrics(&query).await.unwrap();
            let after = self.database.count(&rows).await;
            let told = i64::try_from(answer.total.total_events).unwrap();
            assert!(
                (before..=after).contains(&told),
                "{told} events answered, {before} rows before and {after} after: {query:?}"
            );
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn literal(&self, micros: i64) -> String {
        match self.database.settings().location {
            StoreLocation::Postgres(_) => {
                format!("timestamptz 'epoch' + interval '{micros} microseconds'")
            }
            StoreLocation::Sqlite(_) => micros.to_string(),
        }
    }

    /// Verifies in snapshots that the rollups agree with the rows.
    async fn verify_days(&self, mut random: Random) {
        let mut store = self.rollups().await;
        while self.goes_on() {
            let day = Day::of(at(events::random_micros(&mut random, self.now)));
            let verdict = verify_day(&mut *store, day).await.unwrap();
            assert_eq!(verdict.differences, [], "{day:?}");
            self.verified.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Flushes a batch as the flush thread does: passes over events that are refused, and continues from the checkpoint
/// after any doubt.
async fn flush(store: &dyn EventStore, batch: Batch) {
    let view = batch.view();
    let mut sink = store.open_sink().await.unwrap();
    let mut parts = vec![view];
    while let Some(part) = parts.pop() {
        let outcome = match sink.flush(part).await {
            Err(SinkError::Store(StoreError::Data { code, message })) if part.len() == 1 => {
                sink.quarantine(part, &code, &message).await
            }
            Err(SinkError::Store(StoreError::Data { .. })) => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.extend([right, left]);
                continue;
            }
            outcome => outcome.map(|_| ()),
        };
        match outcome {
            Ok(()) => {}
            // Two flushes with the same event ids may well end in a deadlock.
            Err(SinkError::Store(StoreError::Unavailable(reason))) => {
                eprintln!("again: {reason}");
                sink = store.open_sink().await.unwrap();
                let row = sink.checkpoint(part.wal_id()).await.unwrap().unwrap();
                let checkpoint = row.flushed_through;
                if checkpoint != part.through() {
                    assert_eq!(checkpoint, part.after());
                    parts.push(part);
                }
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Merges everything into quarters, and sums up all days.
async fn compact_all(database: &Database, pairs_max: usize) {
    let now = at(Timestamp::now().as_micros() + 5 * DAY_MICROS);
    let limits = Limits::new(pairs_max);
    let mut store = database.store().open_rollups().await.unwrap();
    while compact(&mut *store, now, &limits).await.unwrap().has_more {}
    while sum_up_days(&mut *store, now, &limits).await.unwrap().has_more {}
    assert_eq!(database.count("rollup_deltas").await, 0);
    assert_eq!(database.count("rollups WHERE minutes = 1").await, 0);
    assert_eq!(database.count("rollup_days WHERE stale").await, 0);
}

async fn assert_all_days_are_right(database: &Database) {
    let mut store = database.store().open_rollups().await.unwrap();
    let all = days(&mut *store, None, None).await.unwrap();
    let mut events = 0;
    for day in touched(&all) {
        let verdict = verify_day(&mut *store, day).await.unwrap();
        assert_eq!(verdict.differences, [], "{day:?}");
        events += verdict.events;
    }
    assert_eq!(i64::try_from(events), Ok(database.count("events").await));
}

/// All given days, after a check that there are not too many to verify.
fn touched(all: &[Day]) -> impl Iterator<Item = Day> {
    assert!((5..200).contains(&all.len()), "{} days", all.len());
    all.iter().copied()
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}
