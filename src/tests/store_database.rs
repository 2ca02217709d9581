//! A fresh database for one test of the store, and the ways to look into it past the store.

use std::sync::Arc;
use std::time::Duration;

use fast_ingest::config::{StoreLocation, StoreSettings};
use fast_ingest::store::{self, EventSink, EventStore, StoreError, migrations};
use tempfile::TempDir;

use crate::postgres::{self, Cluster};
use crate::store_contract::{Event, wal_id};

/// A migrated database of either kind.
#[derive(Clone)]
pub(crate) struct Database {
    location: StoreLocation,
    store: Arc<dyn EventStore>,
    /// Removed with the last clone.
    _directory: Option<Arc<TempDir>>,
}

/// A row of `events`.
#[derive(Debug, PartialEq)]
pub(crate) struct Stored {
    event_name: String,
    channel: String,
    user_id: String,
    micros: i64,
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
            metadata: event
                .metadata
                .map(|json| serde_json::from_str(json).unwrap()),
        }
    }
}

impl Database {
    /// On the server that the tests share.
    pub(crate) async fn postgres() -> Self {
        let cluster = tokio::task::spawn_blocking(Cluster::shared).await.unwrap();
        Self::postgres_on(cluster).await
    }

    /// On a server of its own.
    pub(crate) async fn postgres_on(cluster: &Cluster) -> Self {
        Self::postgres_at(cluster.create_database().await).await
    }

    /// At a URL.
    pub(crate) async fn postgres_at(url: String) -> Self {
        Self::migrated(StoreLocation::Postgres(url), None).await
    }

    /// In a file of its own.
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
        database.migrate(migrations::up).await.unwrap();
        database
    }

    /// Runs a migration command, which blocks.
    pub(crate) async fn migrate<T: Send + 'static>(
        &self,
        act: impl FnOnce(&StoreLocation) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let location = self.location.clone();
        tokio::task::spawn_blocking(move || act(&location))
            .await
            .unwrap()
    }

    pub(crate) fn store(&self) -> &dyn EventStore {
        &*self.store
    }

    /// Settings with short but generous times.
    pub(crate) fn settings(&self) -> StoreSettings {
        settings(&self.location)
    }

    /// A sink whose checkpoint stands at `flushed_through`.
    pub(crate) async fn sink_at(&self, flushed_through: u64) -> Box<dyn EventSink> {
        let mut sink = self.store.open_sink().await.unwrap();
        sink.create_checkpoint(wal_id(), flushed_through)
            .await
            .unwrap();
        sink
    }

    /// A session of another program on the same PostgreSQL.
    pub(crate) async fn session(&self) -> tokio_postgres::Client {
        match &self.location {
            StoreLocation::Postgres(url) => postgres::connect(url).await,
            StoreLocation::Sqlite(_) => panic!("SQLite has no sessions"),
        }
    }

    /// A connection of another program on the same file.
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

    /// Makes the database refuse events of one name, as a person's own constraint could.
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

    /// Keeps PostgreSQL's queries of `events` waiting while the returned session lives. SQLite's readers never wait.
    pub(crate) async fn block_queries(&self) -> Option<tokio_postgres::Client> {
        match &self.location {
            StoreLocation::Postgres(_) => {
                let session = self.session().await;
                session
                    .batch_execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
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
            StoreLocation::Postgres(_) => self
                .session()
                .await
                .query_one(&sql, &[])
                .await
                .unwrap()
                .get(0),
            StoreLocation::Sqlite(_) => self.file().query_row(&sql, [], |row| row.get(0)).unwrap(),
        }
    }

    /// The users of all events, in order.
    pub(crate) async fn users(&self) -> Vec<String> {
        self.events()
            .await
            .into_iter()
            .map(|event| event.user_id)
            .collect()
    }

    /// All events in order of their users.
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

    /// Sequence, code, readable form and bytes of what is in quarantine.
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
                let rows = statement.query_map([], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                });
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
        flush_timeout: Duration::from_secs(30),
    }
}
