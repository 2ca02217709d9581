//! Waiting for receipts, in virtual time.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hyper::Request;
use uuid::Uuid;

use super::*;
use crate::flush::progress::Progress;
use crate::http::hosts::Hosts;
use crate::http::settings::HttpSettings;
use crate::intake::{Clock, Intake};
use crate::query::{MetricsQuery, MetricsReport};
use crate::store::{EventSink, RollupStore, Stretch};
use crate::support::budget::Budget;
use crate::support::shutdown::Shutdown;
use crate::support::sync::watch;
use crate::wal::gate::Gate;
use crate::wal::id;
use crate::wal::id::{CheckpointRow, EventOutcomes};
use crate::wal::log::DurableMark;

const OWN: LifeId = LifeId(Uuid::from_u128(1));
const OTHER: LifeId = LifeId(Uuid::from_u128(2));

/// The last sequence that a test's database has, by the time since the test began.
type Mark = fn(Duration) -> Result<Option<Sequence>, StoreError>;

struct Marks {
    born: Instant,
    mark: Mark,
    /// The life of the events.
    life: LifeId,
    /// The first sequence of that life.
    first: Sequence,
    /// The first sequence of the next life, if there is one.
    next: Option<Sequence>,
    looks: AtomicUsize,
    hangs: bool,
}

#[async_trait]
impl EventStore for Marks {
    fn name(&self) -> &'static str {
        "marks"
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn open_sink(&self) -> Result<Box<dyn EventSink>, StoreError> {
        Err(StoreError::Unavailable("not to be asked".to_owned()))
    }

    async fn open_rollups(&self) -> Result<Box<dyn RollupStore>, StoreError> {
        Err(StoreError::Unavailable("not to be asked".to_owned()))
    }

    async fn metrics(&self, _: &MetricsQuery) -> Result<MetricsReport, QueryError> {
        Ok(MetricsReport::default())
    }

    async fn stored_of(&self, life: LifeId) -> Result<Vec<Stretch>, QueryError> {
        assert_eq!(life, self.life);
        self.looks.fetch_add(1, Ordering::Relaxed);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let through = (self.mark)(self.born.elapsed())?;
        let stored = through.map(|through| Stretch::new(self.first, through, self.next));
        Ok(stored.into_iter().collect())
    }
}

fn app_on(store: Arc<dyn EventStore>, shutdown: &Shutdown) -> App {
    let gate = Gate::new(1 << 20, 0);
    let (intake, _) = Intake::new(1, Budget::new(1 << 20), Arc::clone(&gate));
    let nothing = DurableMark {
        through: 0,
        active_first: 1,
        active_end: 0,
    };
    let (_, durable) = watch::channel(nothing);
    let second = Duration::from_secs(1);
    App {
        hosts: Hosts::Any,
        settings: HttpSettings {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            allowed_hosts: Vec::new(),
            connections_max: 1,
            bulk_events_max: 1,
            event_age_max: Duration::MAX,
            event_bytes_max: 1024,
            body_bytes_max: 1024,
            inflight_bytes_max: 4096,
            header_timeout: second,
            body_timeout: second,
            idle_timeout: second,
            write_timeout: second,
        },
        intake,
        clock: Clock::SYSTEM,
        gate,
        store,
        progress: Progress::new(durable, 0),
        applied: Applied::new(OWN, shutdown.drain_token()),
    }
}

fn marks(mark: Mark) -> Arc<Marks> {
    Arc::new(Marks {
        born: Instant::now(),
        mark,
        life: OTHER,
        first: 1,
        next: None,
        looks: AtomicUsize::new(0),
        hangs: false,
    })
}

fn receipt(life: LifeId, through: Sequence) -> Receipt {
    Receipt { life: life.0, through }
}

/// Sets the checkpoint to `flushed_through`, with `skipped` of the events before it skipped by a person.
fn note_skipped(app: &App, flushed_through: Sequence, skipped: u64) {
    app.progress.set_checkpoint(CheckpointRow {
        flushed_through,
        mark: id::Mark::default(),
        counts: EventOutcomes {
            skipped,
            ..EventOutcomes::default()
        },
    });
}

/// How a wait for the seventh event of the other life ends, and after how long.
async fn wait_for_other(store: Arc<Marks>) -> (Result<(), ApiError>, Duration) {
    let shutdown = Shutdown::new();
    let app = app_on(store, &shutdown);
    let begin = Instant::now();
    let waited = wait_for(&app, receipt(OTHER, 7)).await;
    (waited, begin.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_own_log_is_waited_for_without_asking_the_database() {
    let (store, shutdown) = (marks(|_| Ok(None)), Shutdown::new());
    let app = app_on(Arc::clone(&store) as _, &shutdown);
    let begin = Instant::now();
    let flush = async {
        sleep(Duration::from_millis(1234)).await;
        app.progress.set_flushed_through(7);
    };
    let (waited, ()) = tokio::join!(wait_for(&app, receipt(OWN, 7)), flush);
    waited.unwrap();
    assert_eq!(begin.elapsed().as_millis(), 1234, "woken, not polled");

    let begin = Instant::now();
    let waited = wait_for(&app, receipt(OWN, 8)).await;
    assert!(
        matches!(waited, Err(ApiError::NotAppliedYet(Lag::Behind(_)))),
        "{waited:?}"
    );
    assert_eq!(begin.elapsed().as_secs(), QUERY_WAIT_MAX.as_secs());
    assert_eq!(store.looks.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_post_waits_for_less_and_nobody_waits_past_the_drain() {
    let shutdown = Shutdown::new();
    let app = app_on(marks(|_| Ok(Some(1))), &shutdown);
    app.progress.set_flushed_through(3);
    assert!(is_applied_soon(&app, 3).await);
    let begin = Instant::now();
    assert!(!is_applied_soon(&app, 4).await);
    assert_eq!(begin.elapsed().as_secs(), POST_WAIT_MAX.as_secs());

    shutdown.drain();
    let begin = Instant::now();
    assert!(!is_applied_soon(&app, 4).await);
    for life in [OWN, OTHER] {
        let waited = wait_for(&app, receipt(life, 4)).await;
        assert!(
            matches!(waited, Err(ApiError::NotAppliedYet(Lag::Draining))),
            "{waited:?}"
        );
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert!(is_applied_soon(&app, 3).await, "what is there is there");
    wait_for(&app, receipt(OWN, 3)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_log_is_looked_at_until_it_is_there() {
    let (waited, after) = wait_for_other(marks(|age| {
        Ok(match age.as_millis() {
            0..1000 => None,
            1000..2000 => Some(6),
            _ => Some(7),
        })
    }))
    .await;
    waited.unwrap();
    assert_eq!(after.as_secs(), 2);

    let lag = |(waited, after): (Result<(), ApiError>, Duration)| {
        assert_eq!(after.as_secs(), QUERY_WAIT_MAX.as_secs());
        match waited {
            Err(ApiError::NotAppliedYet(lag)) => lag,
            other => panic!("{other:?}"),
        }
    };
    let behind = wait_for_other(marks(|_| Ok(Some(6)))).await;
    assert_eq!(lag(behind), Lag::Behind(QUERY_WAIT_MAX));
    let unknown = wait_for_other(marks(|_| Ok(None))).await;
    assert_eq!(lag(unknown), Lag::UnknownLog);
    let passed = Marks {
        next: Some(7),
        ..Arc::into_inner(marks(|_| Ok(Some(9)))).unwrap()
    };
    assert_eq!(lag(wait_for_other(Arc::new(passed)).await), Lag::Passed);
}

#[tokio::test(start_paused = true)]
async fn events_of_the_own_log_that_were_given_up_are_not_there() {
    let store = Marks {
        life: OWN,
        first: 8,
        ..Arc::into_inner(marks(|_| Ok(Some(9)))).unwrap()
    };
    let (store, shutdown) = (Arc::new(store), Shutdown::new());
    let app = app_on(Arc::clone(&store) as _, &shutdown);
    app.progress.set_flushed_through(9);
    wait_for(&app, receipt(OWN, 7)).await.unwrap();
    assert_eq!(store.looks.load(Ordering::Relaxed), 0);

    note_skipped(&app, 9, 7);
    let waited = wait_for(&app, receipt(OWN, 7)).await;
    assert!(
        matches!(waited, Err(ApiError::NotAppliedYet(Lag::Passed))),
        "{waited:?}"
    );
    assert!(!is_applied_soon(&app, 7).await);
    assert!(is_applied_soon(&app, 8).await);
    wait_for(&app, receipt(OWN, 8)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_memory_knows_does_not_count_while_a_person_is_asked() {
    let (store, shutdown) = (marks(|_| Ok(Some(3))), Shutdown::new());
    let store = Marks {
        life: OWN,
        ..Arc::into_inner(store).unwrap()
    };
    let app = app_on(Arc::new(store), &shutdown);
    app.progress.set_flushed_through(9);
    wait_for(&app, receipt(OWN, 7)).await.unwrap();
    app.progress.set_asking("the database has lost the checkpoint");
    let waited = wait_for(&app, receipt(OWN, 7)).await;
    assert!(
        matches!(waited, Err(ApiError::NotAppliedYet(Lag::Behind(_)))),
        "{waited:?}"
    );
    wait_for(&app, receipt(OWN, 3)).await.unwrap();
}

/// A look from before the flush of an event must not be used as an answer after it.
#[tokio::test(start_paused = true)]
async fn after_the_own_flush_the_database_is_looked_at_afresh() {
    let store = marks(|age| Ok(Some(if age.as_millis() < 10 { 7 } else { 8 })));
    let store = Marks {
        life: OWN,
        ..Arc::into_inner(store).unwrap()
    };
    let shutdown = Shutdown::new();
    let app = app_on(Arc::new(store), &shutdown);
    note_skipped(&app, 8, 1);
    app.progress.set_flushed_through(7);
    wait_for(&app, receipt(OWN, 7)).await.unwrap();
    sleep(Duration::from_millis(10)).await;
    let begin = Instant::now();
    app.progress.set_flushed_through(8);
    wait_for(&app, receipt(OWN, 8)).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_down_is_told_at_once_and_a_frozen_one_in_the_end() {
    let (waited, after) = wait_for_other(marks(|_| Err(StoreError::Unavailable("gone".to_owned())))).await;
    assert!(matches!(
        waited,
        Err(ApiError::Query(QueryError::Store(StoreError::Unavailable(_))))
    ));
    assert_eq!(after, Duration::ZERO);

    let frozen = Marks {
        hangs: true,
        ..Arc::into_inner(marks(|_| Ok(None))).unwrap()
    };
    let (waited, after) = wait_for_other(Arc::new(frozen)).await;
    assert!(matches!(
        waited,
        Err(ApiError::Query(QueryError::Store(StoreError::Unavailable(_))))
    ));
    assert_eq!(after.as_secs(), QUERY_WAIT_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_waits_for_one_log_looks_as_often_as_one() {
    let store = marks(|age| Ok(Some(if age.as_secs() < 2 { 6 } else { 7 })));
    let shutdown = Shutdown::new();
    let app = Arc::new(app_on(Arc::clone(&store) as _, &shutdown));
    let mut crowd = tokio::task::JoinSet::new();
    for n in 0..500 {
        let app = Arc::clone(&app);
        crowd.spawn(async move {
            sleep(Duration::from_millis(n)).await;
            wait_for(&app, receipt(OTHER, 7)).await.is_ok()
        });
    }
    while let Some(is_applied) = crowd.join_next().await {
        assert!(is_applied.unwrap());
    }
    let looks = store.looks.load(Ordering::Relaxed);
    assert!((10..=21).contains(&looks), "{looks}");
}

fn ask(target: &str) -> Result<bool, &'static str> {
    let (head, ()) = Request::post(target).body(()).unwrap().into_parts();
    is_asked_for(&head).map_err(|error| match error {
        ApiError::BadWait(error) => {
            assert_eq!(error.field, "wait");
            error.code
        }
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_post_waits_only_when_it_is_asked_for_in_so_many_words() {
    for target in ["/events", "/events?", "/events?waits=no&x=wait", "/events?a&&=b"] {
        assert_eq!(ask(target), Ok(false), "{target}");
    }
    for target in ["/events?wait=applied", "/events?utm=1&%77ait=%61pplied&x"] {
        assert_eq!(ask(target), Ok(true), "{target}");
    }
    for target in [
        "/events?wait",
        "/events?wait=",
        "/events?wait=true",
        "/events?wait=Applied",
        "/events?wait=applied&wait=flushed",
    ] {
        assert_eq!(ask(target), Err("unknown_value"), "{target}");
    }
    assert_eq!(ask("/events?wait=applied&wait=applied"), Err("duplicate"));
}
