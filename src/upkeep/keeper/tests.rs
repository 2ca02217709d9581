//! The loop on a store in memory, in virtual time, so that waiting costs nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::*;
use crate::event::bucket::DAY_MICROS;
use crate::query::{MetricsQuery, MetricsReport};
use crate::store::{EventSink, QueryError, Stretch};
use crate::support::shutdown::Shutdown;
use crate::testing::rollup_model::{Fault, Model};
use crate::upkeep::settings::RollupCap;
use crate::wal::id::LifeId;

const SETTINGS: RollupSettings = RollupSettings {
    interval: Duration::from_secs(5),
    cap: RollupCap { pairs_per_day_max: 100 },
};

/// A store that only keeps rollups, and may refuse connections at first.
#[derive(Default)]
struct Store {
    model: Model,
    opened: AtomicUsize,
    refusals: Mutex<Vec<StoreError>>,
}

#[async_trait]
impl EventStore for Store {
    fn name(&self) -> &'static str {
        "model"
    }
    async fn check_schema(&self) -> Result<(), StoreError> {
        unreachable!("not the keeper's business")
    }
    async fn open_sink(&self) -> Result<Box<dyn EventSink>, StoreError> {
        unreachable!("not the keeper's business")
    }
    async fn stored_of(&self, _: LifeId) -> Result<Vec<Stretch>, QueryError> {
        unreachable!("not the keeper's business")
    }
    async fn metrics(&self, _query: &MetricsQuery) -> Result<MetricsReport, QueryError> {
        unreachable!("not the keeper's business")
    }
    async fn open_rollups(&self) -> Result<Box<dyn RollupStore>, StoreError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        match self.refusals.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(Box::new(self.model.connect())),
        }
    }
}

impl Store {
    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    fn flush(&self, event_name: &str, timestamp: Timestamp) {
        let event = (event_name, "web", "ann", timestamp);
        self.model.flush(Timestamp::now(), &[event]);
    }

    async fn wait_until_compacted(&self) {
        while !self.model.tables().deltas.is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn stale_days(&self) -> usize {
        let days = self.model.tables().days;
        days.values().filter(|sum| sum.is_none()).count()
    }
}

fn keeper(store: &Arc<Store>, shutdown: &Shutdown) -> Keeper {
    let store = Arc::clone(store) as Arc<dyn EventStore>;
    Keeper::new(store, SETTINGS, shutdown.drain_token())
}

fn start(store: &Arc<Store>, shutdown: &Shutdown) -> JoinHandle<()> {
    tokio::spawn(keeper(store, shutdown).run())
}

fn days_ago(days: i64) -> Timestamp {
    Timestamp::from_micros(Timestamp::now().as_micros() - days * DAY_MICROS)
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("not now".to_owned())
}

#[tokio::test(start_paused = true)]
async fn compacts_what_comes_in_until_it_is_told_to_stop() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    let running = start(&store, &shutdown);
    for name in ["a", "b", "c"] {
        store.flush(name, Timestamp::now());
        store.wait_until_compacted().await;
    }
    shutdown.drain();
    running.await.unwrap();
    assert_eq!(store.opened(), 1);
    assert_eq!(store.model.tables().series.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn goes_on_at_once_while_there_is_more_and_sums_up_when_there_is_not() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    for name in ["a", "b", "c", "d", "e"] {
        store.flush(name, days_ago(2));
    }
    let mut keeper = keeper(&store, &shutdown);
    keeper.outage = Outage::new(1, 2, SCHEMA_RECHECK);
    keeper.limits.deltas_max = 2;
    keeper.limits.days_max = 3;
    let began_at = Instant::now();
    let running = tokio::spawn(keeper.run());
    store.wait_until_compacted().await;
    while store.stale_days() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(began_at.elapsed() < SETTINGS.interval, "virtual time");
    shutdown.drain();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_day_that_changes_again_is_not_summed_up_again_at_once() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    let timestamp = days_ago(2);
    store.flush("view", timestamp);
    let running = start(&store, &shutdown);
    store.wait_until_compacted().await;
    while store.stale_days() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let summed_up_at = Instant::now();
    let mut late_events = 0;
    while late_events < 5 {
        store.flush("view", timestamp);
        store.wait_until_compacted().await;
        late_events += 1;
        assert_eq!(store.stale_days(), 3);
    }
    while store.stale_days() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(summed_up_at.elapsed() >= SUMS_INTERVAL_MIN - SETTINGS.interval);
    shutdown.drain();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_failure_leads_to_a_fresh_connection_and_nothing_is_lost() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    let running = start(&store, &shutdown);
    store.flush("view", Timestamp::now());
    store.wait_until_compacted().await;
    for n in 0..12 {
        let opened = store.opened();
        store
            .model
            .fail(if n % 2 == 0 { Fault::Before(n) } else { Fault::After(n) });
        store.flush("view", Timestamp::now());
        while store.opened() == opened {
            sleep(Duration::from_millis(1)).await;
        }
        store.wait_until_compacted().await;
        assert_eq!(store.opened(), opened + 1);
    }
    shutdown.drain();
    running.await.unwrap();
    let events = store.model.tables().parts;
    let events: u64 = events.values().map(|tally| tally.events).sum();
    assert_eq!(events, 3 * 13);
}

#[tokio::test(start_paused = true)]
async fn compactions_become_smaller_by_failures() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    *store.refusals.lock().unwrap() = vec![unavailable(), unavailable()];
    store.model.fail(Fault::Hang(0));
    let mut keeper = keeper(&store, &shutdown);
    let hangs = tokio::time::timeout(Duration::from_secs(60), keeper.keep()).await;
    assert!(hangs.is_err());
    assert_eq!(store.opened(), 3);
    assert_eq!(keeper.outage.rows(), keeper.limits.deltas_max / 4);
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_is_not_ours_is_looked_at_again_slowly() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    let behind = StoreError::Schema("a table is missing".to_owned());
    *store.refusals.lock().unwrap() = vec![behind];
    store.flush("view", Timestamp::now());
    let began_at = Instant::now();
    let running = start(&store, &shutdown);
    store.wait_until_compacted().await;
    assert!(began_at.elapsed() >= SCHEMA_RECHECK, "virtual time");
    assert_eq!(store.opened(), 2);
    shutdown.drain();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_given_up_for_a_fresh_one() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    let running = start(&store, &shutdown);
    sleep(SESSION_AGE_MAX / 2).await;
    assert_eq!(store.opened(), 1);
    sleep(SESSION_AGE_MAX).await;
    assert_eq!(store.opened(), 2);
    shutdown.drain();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_database_that_hangs_does_not_hold_up_the_stop() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    store.flush("view", Timestamp::now());
    store.model.fail(Fault::Hang(4));
    let running = start(&store, &shutdown);
    while store.model.calls() < 5 {
        sleep(Duration::from_millis(1)).await;
    }
    shutdown.drain();
    running.await.unwrap();
    // The transaction that hung is rolled back.
    assert_eq!(store.model.tables().deltas.len(), 1);
    assert!(store.model.connect().begin(false).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn summing_up_pauses_for_many_times_what_it_took() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    let sums = &mut keeper(&store, &shutdown).sums;
    let took = Duration::from_secs(7);
    sums.note(took, true);
    assert!(sums.due_at <= Instant::now(), "there is more");
    sums.note(took, false);
    assert_eq!(sums.due_at - Instant::now(), 2 * took * SUMS_PAUSE_FACTOR);
    sums.note(took / 70, false);
    assert_eq!(sums.due_at - Instant::now(), SUMS_INTERVAL_MIN);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_busy_delays_what_is_left_only_shortly() {
    let (store, shutdown) = (Arc::<Store>::default(), Shutdown::new());
    let mut keeper = keeper(&store, &shutdown);
    (keeper.outage, keeper.limits.deltas_max) = (Outage::new(1, 2, SCHEMA_RECHECK), 2);
    let mut connection = store.model.connect();
    let mut other = store.model.connect();
    other.begin(true).await.unwrap();
    let next = keeper.step(&mut connection).await.unwrap();
    assert_eq!(next, Next::AfterInterval, "nothing is known to be left");
    other.commit().await.unwrap();
    for name in ["a", "b", "c"] {
        store.flush(name, Timestamp::now());
    }
    let next = keeper.step(&mut connection).await.unwrap();
    assert_eq!(next, Next::AtOnce);
    other.begin(true).await.unwrap();
    for _ in 0..2 {
        let next = keeper.step(&mut connection).await.unwrap();
        assert_eq!(next, Next::Soon);
    }
    other.commit().await.unwrap();
    let next = keeper.step(&mut connection).await.unwrap();
    assert_eq!(next, Next::AfterInterval);
    assert!(store.model.tables().deltas.is_empty());
    other.begin(true).await.unwrap();
    let next = keeper.step(&mut connection).await.unwrap();
    assert_eq!(next, Next::AfterInterval, "all was compacted");
}
