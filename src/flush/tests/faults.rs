//! Faults of the database, injected between the flush and a real store.

use super::*;
use crate::store::{Adoption, BeforeCommit, QueryError, RollupStore, SinkError, Stretch};
use crate::testing::disk::faulty::Faults;
use crate::wal::id::{CheckpointRow, DatabaseId, LifeId};
use crate::wal::tests::start_on;

/// What happens to one flush, in order; afterwards all go well.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Committed, but the answer is lost.
    LostAnswer,
    /// The connection breaks before anything happens.
    LostRequest,
    /// The schema is not ours for the moment.
    BadSchema,
}

/// A real store whose flushes meet their fates.
struct Fateful {
    inner: Arc<dyn EventStore>,
    fates: Arc<Mutex<Vec<Fate>>>,
    sinks_opened: AtomicUsize,
}

struct FatefulSink {
    inner: Box<dyn EventSink>,
    fates: Arc<Mutex<Vec<Fate>>>,
}

impl Fateful {
    fn over(database: &Database, fates: &Arc<Mutex<Vec<Fate>>>) -> Arc<Self> {
        Arc::new(Self {
            inner: database.store(),
            fates: Arc::clone(fates),
            sinks_opened: AtomicUsize::new(0),
        })
    }
}

/// A runtime with virtual time: waiting costs nothing.
fn on_virtual_time() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap()
}

#[async_trait]
impl EventStore for Fateful {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn check_schema(&self) -> Result<(), StoreError> {
        self.inner.check_schema().await
    }
    async fn open_sink(&self) -> Result<Box<dyn EventSink>, StoreError> {
        self.sinks_opened.fetch_add(1, Ordering::SeqCst);
        let inner = self.inner.open_sink().await?;
        Ok(Box::new(FatefulSink {
            inner,
            fates: Arc::clone(&self.fates),
        }))
    }
    async fn open_rollups(&self) -> Result<Box<dyn RollupStore>, StoreError> {
        self.inner.open_rollups().await
    }
    async fn stored_of(&self, life: LifeId) -> Result<Vec<Stretch>, QueryError> {
        self.inner.stored_of(life).await
    }
    async fn metrics(&self, query: &MetricsQuery) -> Result<MetricsReport, QueryError> {
        self.inner.metrics(query).await
    }
}

#[async_trait]
impl EventSink for FatefulSink {
    async fn checkpoint(&mut self, wal_id: WalId) -> Result<Option<CheckpointRow>, StoreError> {
        self.inner.checkpoint(wal_id).await
    }
    async fn database_id(&mut self) -> Result<DatabaseId, StoreError> {
        self.inner.database_id().await
    }
    async fn adopt(&mut self, adoption: &Adoption) -> Result<(), SinkError> {
        self.inner.adopt(adoption).await
    }
    async fn flush_and_wait(
        &mut self,
        batch: BatchView<'_>,
        before_commit: BeforeCommit<'_>,
    ) -> Result<Flushed, SinkError> {
        let fate = self.fates.lock().unwrap().pop();
        match fate {
            None => self.inner.flush_and_wait(batch, before_commit).await,
            Some(Fate::LostAnswer) => {
                self.inner.flush_and_wait(batch, before_commit).await?;
                Err(SinkError::Store(StoreError::Unavailable(
                    "the answer to COMMIT was lost".to_owned(),
                )))
            }
            Some(Fate::LostRequest) => Err(SinkError::Store(StoreError::Unavailable(
                "the connection broke".to_owned(),
            ))),
            Some(Fate::BadSchema) => Err(SinkError::Store(StoreError::Schema("a column is missing".to_owned()))),
        }
    }
    async fn quarantine(&mut self, batch: BatchView<'_>, code: &str, message: &str) -> Result<(), SinkError> {
        self.inner.quarantine(batch, code, message).await
    }
    async fn rehearse(&mut self, batch: BatchView<'_>) -> Result<Flushed, SinkError> {
        self.inner.rehearse(batch).await
    }
}

#[test]
fn lost_answers_and_lost_requests_store_everything_exactly_once() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&place.settings());
    for chunk in (1..=60).collect::<Vec<u64>>().chunks(6) {
        running.append(chunk).unwrap();
    }
    let fates = vec![
        Fate::LostAnswer,
        Fate::LostRequest,
        Fate::LostAnswer,
        Fate::LostRequest,
        Fate::LostAnswer,
    ];
    let fates = Arc::new(Mutex::new(fates));
    let store = Fateful::over(&database, &fates);
    drain(&running, Arc::clone(&store) as Arc<dyn EventStore>).unwrap();
    assert_eq!(database.users(), (1..=60).collect::<Vec<_>>());
    assert!(fates.lock().unwrap().is_empty(), "every fault fired");
    assert_eq!(
        store.sinks_opened.load(Ordering::SeqCst),
        6,
        "each doubt leads to a fresh connection"
    );
    running.stop().unwrap();
}

#[test]
fn a_schema_that_is_not_ours_stops_the_flush_says_so_and_is_looked_at_again() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&place.settings());
    running.append(&[1]).unwrap();
    let fates = Arc::new(Mutex::new(vec![Fate::BadSchema]));
    let store = Fateful::over(&database, &fates);
    // Virtual time: the wait for a person costs nothing here.
    let runtime = on_virtual_time();
    runtime.block_on(async {
        let (flusher, progress, stop) = flusher(&running, store, FlushStop::Running);
        let flushing = tokio::spawn(flusher.run());
        while !matches!(progress.flush_state(), FlushState::Stopped { .. }) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let FlushState::Stopped { reason } = progress.flush_state() else {
            unreachable!("just seen")
        };
        assert!(reason.contains("a column is missing"));
        while progress.flushed_through() < 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(progress.flush_state(), FlushState::Running);
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    assert_eq!(database.users(), [1]);
    running.stop().unwrap();
}

#[test]
fn a_session_is_given_up_for_a_fresh_one_when_it_is_old_idle_or_not() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&place.settings());
    let store = Fateful::over(&database, &Arc::default());
    let runtime = on_virtual_time();
    runtime.block_on(async {
        let inner = Arc::clone(&store) as Arc<dyn EventStore>;
        let (flusher, progress, stop) = flusher(&running, inner, FlushStop::Running);
        let flushing = tokio::spawn(flusher.run());
        let hour = Duration::from_secs(3600);
        tokio::time::sleep(hour / 2).await;
        assert_eq!(store.sinks_opened.load(Ordering::SeqCst), 1);
        tokio::time::sleep(hour).await;
        assert_eq!(store.sinks_opened.load(Ordering::SeqCst), 2);

        running.submit(&[1]).await.unwrap();
        while progress.flushed_through() < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    assert_eq!(database.users(), [1]);
    running.stop().unwrap();
}

#[test]
fn a_database_that_answers_but_stores_nothing_is_not_back() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let running = start(&place.settings());
    running.append(&[1]).unwrap();
    let fates = Arc::new(Mutex::new(vec![Fate::LostRequest; 4]));
    let store = Fateful::over(&database, &fates);
    let runtime = on_virtual_time();
    runtime.block_on(async {
        let (flusher, progress, stop) = flusher(&running, store, FlushStop::Running);
        let flushing = tokio::spawn(flusher.run());
        let mut failing_since = Vec::new();
        while progress.flushed_through() < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if let FlushState::Retrying { since, .. } = progress.flush_state() {
                failing_since.push(since);
            }
        }
        assert!(failing_since.len() > 100, "the outage was looked at all along");
        failing_since.dedup();
        assert_eq!(
            failing_since.len(),
            1,
            "one outage, however often the connection came up"
        );
        assert_eq!(progress.flush_state(), FlushState::Running);
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    assert!(fates.lock().unwrap().is_empty(), "every fault fired");
    running.stop().unwrap();
}

#[test]
fn an_event_that_is_refused_for_an_unclear_reason_is_quarantined_once_others_would_be_taken() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    database
        .connect()
        .execute_batch(
            "CREATE TRIGGER own BEFORE INSERT ON events WHEN NEW.user_id IN ('1', '2', '9', '20') BEGIN SELECT json('{'); END",
        )
        .unwrap();
    let running = start(&place.settings());
    // The first of a batch, one in its middle, and the last.
    running.append(&(1..=20).collect::<Vec<_>>()).unwrap();
    drain(&running, database.store()).unwrap();
    let others = (3..=19).filter(|user| *user != 9);
    assert_eq!(database.users(), others.collect::<Vec<_>>());
    assert_eq!(database.checkpoint(), 20);
    assert_eq!(quarantined(&database), 4);
    running.stop().unwrap();
}

#[test]
fn while_all_events_are_refused_for_an_unclear_reason_none_is_set_aside() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    database
        .connect()
        .execute_batch("CREATE TRIGGER own BEFORE INSERT ON events BEGIN SELECT json('{'); END")
        .unwrap();
    let running = start(&place.settings());
    running.append(&(1..=20).collect::<Vec<_>>()).unwrap();
    let runtime = on_virtual_time();
    runtime.block_on(async {
        let (flusher, progress, stop) = flusher(&running, database.store(), FlushStop::Running);
        let flushing = tokio::spawn(flusher.run());
        while !matches!(progress.flush_state(), FlushState::Retrying { .. }) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(quarantined(&database), 0);
        database.connect().execute("DROP TRIGGER own", []).unwrap();
        while progress.flushed_through() < 20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop.send_replace(FlushStop::Now);
        flushing.await.unwrap().unwrap();
    });
    assert_eq!(database.users(), (1..=20).collect::<Vec<_>>());
    assert_eq!(quarantined(&database), 0);
    running.stop().unwrap();
}

fn quarantined(database: &Database) -> i64 {
    let count = "SELECT count(*) FROM quarantine";
    let connection = database.connect();
    connection.query_row(count, [], |row| row.get(0)).unwrap()
}

/// The commit must not take place before its note is on disk: after a power cut the log would not know its own commit.
#[test]
fn a_commit_that_cannot_be_noted_does_not_take_place_and_ends_the_flush() {
    let place = LogPlace::new();
    let database = Database::new(&place);
    let faults = Arc::<Faults>::default();
    let running = start_on(faults.disk(), &place.settings()).unwrap();
    let drain = || {
        let settings = FlushSettings {
            rows_max: 10,
            bytes_max: 1 << 20,
            interval: Duration::from_millis(1),
        };
        let until = Instant::now() + Duration::from_secs(30);
        let (_stop, stopped) = watch::channel(FlushStop::Drain(until));
        let progress = Progress::new(running.log.subscribe(), 0);
        let log = Arc::clone(&running.log);
        block_on(Flusher::new(log, database.store(), settings, progress, stopped).run())
    };
    running.append(&[1]).unwrap();
    drain().unwrap();
    running.append(&[2]).unwrap();
    faults.fail_syncs.store(true, Ordering::SeqCst);
    faults.arm();
    let error = drain().unwrap_err().to_string();
    assert!(error.contains("sync") && error.contains("FLUSHED"), "{error}");
    assert_eq!(database.users(), [1]);
    running.stop().unwrap_err();
}
