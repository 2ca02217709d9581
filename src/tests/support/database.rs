//! A fresh database for one test of the store, events to put into it, and access to it past the store.

use fast_ingest::upkeep::upgrade;
use std::sync::Arc;
use std::time::Duration;

use fast_ingest::event::{EventRef, TagsBuf, Timestamp, codec};
use fast_ingest::query::{Grouping, MetricsQuery};
use fast_ingest::store::settings::{StoreLocation, StoreSettings};
use fast_ingest::store::{self, EventSink, EventStore, QueryError, StoreError};
use fast_ingest::wal::batch::Batch;
use fast_ingest::wal::id::{LifeId, Mark, WalId};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::postgres::{self, Cluster};

/// 2026-02-01T00:00:00Z, the start of a month.
pub(crate) const FEBRUARY: i64 = 1_769_904_000_000_000;

/// An event to be stored; tests set its optional fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    pub(crate) event_name: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) micros: i64,
    pub(crate) event_id: Option<&'a str>,
    pub(crate) campaign_id: Option<&'a str>,
    pub(crate) tags: Option<&'a [&'a str]>,
    pub(crate) metadata: Option<&'a str>,
}

/// An event with the required fields only.
pub(crate) fn event<'a>(event_name: &'a str, user_id: &'a str, micros: i64) -> Event<'a> {
    Event {
        event_name,
        channel: "web",
        user_id,
        micros,
        event_id: None,
        campaign_id: None,
        tags: None,
        metadata: None,
    }
}

/// The log that the batches of [`batch_of`] come from.
pub(crate) fn wal_id() -> WalId {
    WalId(Uuid::from_u128(0x1234_5678))
}

/// A batch that begins after the sequence `after`.
pub(crate) fn batch_of(after: u64, events: &[Event<'_>]) -> Batch {
    batch_from(wal_id(), after, events)
}

/// A batch of any log that begins after the sequence `after`.
pub(crate) fn batch_from(wal_id: WalId, after: u64, events: &[Event<'_>]) -> Batch {
    let mut batch = Batch::new(wal_id, after);
    for event in events {
        let tags: Option<TagsBuf> = event.tags.map(|tags| tags.iter().copied().collect());
        let event = EventRef {
            event_name: event.event_name,
            channel: event.channel,
            user_id: event.user_id,
            timestamp: Timestamp::from_micros(event.micros),
            event_id: event.event_id,
            campaign_id: event.campaign_id,
            tags: tags.as_ref().map(TagsBuf::as_tags),
            metadata: event.metadata,
        };
        let mut encoded = Vec::new();
        codec::encode(&event, &mut encoded);
        batch.push(&encoded);
    }
    batch
}

/// A metrics query over `[from, to)`.
pub(crate) fn query(event_name: &str, from: i64, to: i64, group_by: Option<Grouping>) -> MetricsQuery {
    let (from, to) = (Timestamp::from_micros(from), Timestamp::from_micros(to));
    MetricsQuery {
        group_by: group_by.unwrap_or_default(),
        ..MetricsQuery::new(Some(event_name.to_owned()), from, to)
    }
}

/// A migrated database of either kind.
#[derive(Clone)]
pub(crate) struct Database {
    location: StoreLocation,
    store: Arc<dyn EventStore>,
    /// Removed when the last clone is dropped.
    _directory: Option<Arc<TempDir>>,
}

/// A row of `events`.
#[derive(Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) event_name: String,
    pub(crate) channel: String,
    pub(crate) user_id: String,
    pub(crate) micros: i64,
    event_id: Option<String>,
    campaign_id: Option<String>,
    tags: Option<Vec<String>>,
    metadata: Option<serde_json::Value>,
}

impl From<&Event<'_>> for Stored {
    fn from(event: &Event<'_>) -> Self {
        Self {
            event_name: event.event_name.to_owned(),
            channel: event.channel.to_owned(),
            user_id: event.user_id.to_owned(),
            micros: event.micros,
            event_id: event.event_id.map(str::to_owned),
            campaign_id: event.campaign_id.map(str::to_owned),
            tags: event
                .tags
                .map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect()),
            metadata: event.metadata.map(|json| serde_json::from_str(json).unwrap()),
        }
    }
}

impl Database {
    /// A database on the server that the tests share.
    pub(crate) async fn postgres() -> Self {
        let cluster = tokio::task::spawn_blocking(Cluster::shared).await.unwrap();
        Self::postgres_on(cluster).await
    }

    /// A database on another server.
    pub(crate) async fn postgres_on(cluster: &Cluster) -> Self {
        Self::postgres_at(cluster.create_database().await).await
    }

    /// A migrated database at a URL.
    pub(crate) async fn postgres_at(url: String) -> Self {
        Self::migrated(StoreLocation::Postgres(url), None).await
    }

    /// A database in a file of its own.
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data").join("events.db");
        Self::migrated(StoreLocation::Sqlite(path), Some(Arc::new(directory))).await
    }

    async fn migrated(location: StoreLocation, directory: Option<Arc<TempDir>>) -> Self {
        let store = store::open(&settings(&location)).unwrap();
        let database = Self {
            location,
            store,
            _directory: directory,
        };
        database.migrate(upgrade::up).await.unwrap();
        database
    }

    /// Removes the secret that user ids are hashed with, so that tests know the sets, as older releases made them.
    pub(crate) async fn without_user_key(self) -> Self {
        self.execute("UPDATE rollup_state SET user_key = NULL").await;
        self
    }

    /// Runs a migration command, which blocks.
    pub(crate) async fn migrate<T: Send + 'static>(
        &self,
        act: impl FnOnce(&StoreLocation) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let location = self.location.clone();
        tokio::task::spawn_blocking(move || act(&location)).await.unwrap()
    }

    pub(crate) fn store(&self) -> &dyn EventStore {
        &*self.store
    }

    /// How far a log is flushed; asks as an old receipt does, by log id in place of a life.
    pub(crate) async fn flushed_through(&self, wal_id: WalId) -> Result<Option<u64>, QueryError> {
        let stored = self.store.stored_of(LifeId(wal_id.0)).await?;
        Ok(stored.first().map(|stored| *stored.sequences().end()))
    }

    /// Settings with short time limits that a busy machine can keep.
    pub(crate) fn settings(&self) -> StoreSettings {
        settings(&self.location)
    }

    /// A sink whose checkpoint stands at `flushed_through`.
    pub(crate) async fn sink_at(&self, flushed_through: u64) -> Box<dyn EventSink> {
        let mut sink = self.store.open_sink().await.unwrap();
        sink.create_checkpoint(wal_id(), flushed_through, Mark::default())
            .await
            .unwrap();
        sink
    }

    /// Stores events as the first ones of the log.
    pub(crate) async fn store_events(&self, events: &[Event<'_>]) {
        let mut sink = self.sink_at(0).await;
        sink.flush(batch_of(0, events).view()).await.unwrap();
    }

    /// URL of a PostgreSQL database.
    pub(crate) fn url(&self) -> &str {
        match &self.location {
            StoreLocation::Postgres(url) => url,
            StoreLocation::Sqlite(_) => panic!("SQLite has no URL"),
        }
    }

    /// A session like another program's on the same PostgreSQL.
    pub(crate) async fn session(&self) -> tokio_postgres::Client {
        match &self.location {
            StoreLocation::Postgres(url) => postgres::connect(url).await,
            StoreLocation::Sqlite(_) => panic!("SQLite has no sessions"),
        }
    }

    /// A connection like another program's to the same file.
    fn file(&self) -> rusqlite::Connection {
        match &self.location {
            StoreLocation::Sqlite(path) => rusqlite::Connection::open(path).unwrap(),
            StoreLocation::Postgres(_) => panic!("PostgreSQL is no file"),
        }
    }

    /// Runs SQL past the store.
    pub(crate) async fn execute(&self, sql: &str) {
        match &self.location {
            StoreLocation::Postgres(_) => self.session().await.batch_execute(sql).await.unwrap(),
            StoreLocation::Sqlite(_) => self.file().execute_batch(sql).unwrap(),
        }
    }

    /// Runs statements that may fail; returns the database's error.
    pub(crate) async fn try_execute(&self, sql: &str) -> Result<(), String> {
        match &self.location {
            StoreLocation::Postgres(_) => {
                let done = self.session().await.batch_execute(sql).await;
                done.map_err(|error| error.as_db_error().unwrap().message().to_owned())
            }
            StoreLocation::Sqlite(_) => {
                let done = self.file().execute_batch(sql);
                done.map_err(|error| error.to_string())
            }
        }
    }

    /// Makes the database refuse events of one name, as a user's own constraint could.
    pub(crate) async fn refuse_events_named(&self, name: &str) {
        match &self.location {
            StoreLocation::Postgres(_) => {
                self.execute(&format!(
                    "ALTER TABLE events ADD CONSTRAINT no_{name} CHECK (event_name <> '{name}')"
                ))
                .await;
            }
            StoreLocation::Sqlite(_) => {
                self.execute(&format!(
                    "CREATE TRIGGER no_{name} BEFORE INSERT ON events WHEN NEW.event_name = '{name}'
                     BEGIN SELECT RAISE(ABORT, 'refused'); END"
                ))
                .await;
            }
        }
    }

    /// Keeps PostgreSQL's queries of `events` and of rollups waiting while the returned session lives. SQLite's readers
    /// never wait.
    pub(crate) async fn block_queries(&self) -> Option<tokio_postgres::Client> {
        match &self.location {
            StoreLocation::Postgres(_) => {
                let session = self.session().await;
                session
                    .batch_execute(
                        "BEGIN; LOCK TABLE events, rollup_days, rollups, rollup_deltas IN ACCESS EXCLUSIVE MODE",
                    )
                    .await
                    .unwrap();
                Some(session)
            }
            StoreLocation::Sqlite(_) => None,
        }
    }

    /// Number of rows of a table.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        match &self.location {
            StoreLocation::Postgres(_) => self.session().await.query_one(&sql, &[]).await.unwrap().get(0),
            StoreLocation::Sqlite(_) => self.file().query_row(&sql, [], |row| row.get(0)).unwrap(),
        }
    }

    /// The users of all events, sorted.
    pub(crate) async fn users(&self) -> Vec<String> {
        self.events().await.into_iter().map(|event| event.user_id).collect()
    }

    /// All events, sorted by user.
    pub(crate) async fn events(&self) -> Vec<Stored> {
        let mut events: Vec<Stored> = match &self.location {
            StoreLocation::Postgres(_) => {
                let sql = "SELECT event_name, channel, user_id, (extract(epoch FROM ts) * 1000000)::bigint, event_id, campaign_id, \
                           tags, metadata::text FROM events";
                let rows = self.session().await.query(sql, &[]).await.unwrap();
                let stored = |row: &tokio_postgres::Row| Stored {
                    event_name: row.get(0),
                    channel: row.get(1),
                    user_id: row.get(2),
                    micros: row.get(3),
                    event_id: row.get(4),
                    campaign_id: row.get(5),
                    tags: row.get(6),
                    metadata: row
                        .get::<_, Option<&str>>(7)
                        .map(|json| serde_json::from_str(json).unwrap()),
                };
                rows.iter().map(stored).collect()
            }
            StoreLocation::Sqlite(_) => {
                let file = self.file();
                let sql = "SELECT event_name, channel, user_id, ts, event_id, campaign_id, tags, metadata FROM events";
                let mut statement = file.prepare(sql).unwrap();
                let rows = statement.query_map([], |row| {
                    Ok(Stored {
                        event_name: row.get(0)?,
                        channel: row.get(1)?,
                        user_id: row.get(2)?,
                        micros: row.get(3)?,
                        event_id: row.get(4)?,
                        campaign_id: row.get(5)?,
                        tags: row
                            .get::<_, Option<String>>(6)?
                            .map(|json| serde_json::from_str(&json).unwrap()),
                        metadata: row
                            .get::<_, Option<String>>(7)?
                            .map(|json| serde_json::from_str(&json).unwrap()),
                    })
                });
                rows.unwrap().map(Result::unwrap).collect()
            }
        };
        events.sort_by(|a, b| a.user_id.cmp(&b.user_id));
        events
    }

    /// Sequence, code, readable form and bytes of each quarantined event.
    pub(crate) async fn quarantined(&self) -> Vec<(i64, String, String, Vec<u8>)> {
        let sql = "SELECT sequence, code, readable, encoded FROM quarantine ORDER BY sequence";
        match &self.location {
            StoreLocation::Postgres(_) => {
                let rows = self.session().await.query(sql, &[]).await.unwrap();
                rows.iter()
                    .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
                    .collect()
            }
            StoreLocation::Sqlite(_) => {
                let file = self.file();
                let mut statement = file.prepare(sql).unwrap();
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
                rows.unwrap().map(Result::unwrap).collect()
            }
        }
    }
}

fn settings(location: &StoreLocation) -> StoreSettings {
    StoreSettings {
        location: location.clone(),
        query_connections: 2,
        query_timeout: Duration::from_secs(30),
        query_bytes_max: 64 << 20,
        flush_timeout: Duration::from_secs(30),
    }
}
