//! The real content of a database, read without the server.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rusqlite::OpenFlags;
use serde_json::Value;

use crate::support::postgres::{self, Cluster};
use crate::support::process::{LOOK_AGAIN, PATIENCE, run};

/// The database of one test.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// The embedded database, in this file.
    Sqlite(PathBuf),
    /// A database on a test's PostgreSQL, at this URL.
    Postgres(String),
}

/// One row of `events`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredEvent {
    pub(crate) user_id: String,
    pub(crate) event_name: String,
    pub(crate) channel: String,
    pub(crate) ts_micros: i64,
    pub(crate) event_id: Option<String>,
    pub(crate) campaign_id: Option<String>,
    pub(crate) tags: Option<Value>,
    pub(crate) metadata: Option<Value>,
}

/// An open transaction like another program's.
pub(crate) struct Held {
    /// Dropped before the runtime that drives it.
    _client: tokio_postgres::Client,
    _runtime: tokio::runtime::Runtime,
}

impl Database {
    /// The database that a server makes under its data directory.
    pub(crate) fn embedded(data_dir: &Path) -> Self {
        Self::Sqlite(data_dir.join("events.db"))
    }

    /// A fresh database with its schema.
    pub(crate) fn migrated(cluster: &Cluster) -> Self {
        let database = Self::empty(cluster);
        database.migrate(&["up"]);
        database
    }

    /// A fresh database without a schema.
    pub(crate) fn empty(cluster: &Cluster) -> Self {
        Self::Postgres(block_on(cluster.create_database()))
    }

    /// Removes the database from its server, so that many of them do not fill the disk.
    pub(crate) fn discard(self) {
        let Self::Postgres(url) = self else {
            panic!("an embedded database goes with its directory")
        };
        let (server, name) = url.rsplit_once('/').unwrap();
        let admin = Self::Postgres(format!("{server}/postgres"));
        admin.execute(&format!("DROP DATABASE {name} WITH (FORCE)"));
    }

    /// `fast-ingest migrate …`, which must succeed.
    #[track_caller]
    pub(crate) fn migrate(&self, verb: &[&str]) {
        let ended = run(&[&["migrate"], verb, &self.flags()].concat());
        assert_eq!(ended.code(), 0, "{ended:?}");
    }

    /// The flags that make a command use this database.
    pub(crate) fn flags(&self) -> [&str; 2] {
        match self {
            Self::Sqlite(path) => ["--data-dir", path.parent().unwrap().to_str().unwrap()],
            Self::Postgres(url) => ["--database-url", url],
        }
    }

    /// Runs statements.
    pub(crate) fn execute(&self, sql: &str) {
        match self {
            Self::Sqlite(path) => open(path).execute_batch(sql).unwrap(),
            Self::Postgres(url) => block_on(async {
                let client = postgres::connect(url).await;
                client.batch_execute(sql).await.unwrap();
            }),
        }
    }

    /// Every row of a query, with its columns as text joined by `|`.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        match self {
            Self::Sqlite(path) => {
                let connection = open(path);
                let mut statement = connection.prepare(sql).unwrap();
                let columns = statement.column_count();
                let rows = statement.query_map([], |row| {
                    let texts: Result<Vec<_>, _> = (0..columns).map(|column| sqlite_text(row, column)).collect();
                    Ok(texts?.join("|"))
                });
                rows.unwrap().map(Result::unwrap).collect()
            }
            Self::Postgres(url) => block_on(postgres_rows(url, sql)).unwrap(),
        }
    }

    /// Every row of a query; `None` if a PostgreSQL cannot be reached.
    pub(crate) fn try_rows(&self, sql: &str) -> Option<Vec<String>> {
        let Self::Postgres(url) = self else {
            panic!("SQLite is never unreachable")
        };
        block_on(postgres_rows(url, sql)).ok()
    }

    /// Begins a transaction with these statements and leaves it open until the guard is dropped. PostgreSQL only.
    pub(crate) fn hold(&self, sql: &str) -> Held {
        let Self::Postgres(url) = self else {
            panic!("SQLite has no sessions")
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = runtime.block_on(async {
            let client = postgres::connect(url).await;
            client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
            client
        });
        Held {
            _client: client,
            _runtime: runtime,
        }
    }

    /// Polls until nothing is left for compaction.
    #[track_caller]
    pub(crate) fn wait_until_compacted(&self) {
        self.wait_for("compacted", |database| {
            database.rows("SELECT count(*) FROM rollup_deltas") == ["0"]
        });
    }

    /// Polls until the database is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_wanted: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_wanted(self) {
            assert!(Instant::now() < deadline, "never {what}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Asserts that `fast-ingest verify` finds rollups and events in agreement.
    #[track_caller]
    pub(crate) fn assert_rollups_are_right(&self) {
        let ended = run(&[&["verify"][..], &self.flags()].concat());
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.ends_with(": no difference\n"), "{ended:?}");
    }

    /// Every stored event, in any order.
    pub(crate) fn events(&self) -> Vec<StoredEvent> {
        match self {
            Self::Sqlite(path) => sqlite_events(path),
            Self::Postgres(url) => block_on(postgres_events(url)),
        }
    }
}

fn open(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sqlite_text(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<String> {
    use rusqlite::types::Value::{Blob, Integer, Null, Real, Text};
    Ok(match row.get(column)? {
        Null => "NULL".to_owned(),
        Integer(number) => number.to_string(),
        Real(number) => number.to_string(),
        Text(text) => text,
        Blob(bytes) => format!("{bytes:?}"),
    })
}

fn sqlite_events(path: &Path) -> Vec<StoredEvent> {
    let connection = open(path);
    let mut statement = connection
        .prepare("SELECT user_id, event_name, channel, ts, event_id, campaign_id, tags, metadata FROM events")
        .unwrap();
    let rows = statement.query_map([], |row| {
        Ok(StoredEvent {
            user_id: row.get(0)?,
            event_name: row.get(1)?,
            channel: row.get(2)?,
            ts_micros: row.get(3)?,
            event_id: row.get(4)?,
            campaign_id: row.get(5)?,
            tags: json(row.get(6)?),
            metadata: json(row.get(7)?),
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

async fn postgres_rows(url: &str, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let messages = client.simple_query(sql).await?;
    let rows = messages.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let text = |row: &tokio_postgres::SimpleQueryRow| {
        let columns = (0..row.len()).map(|column| row.get(column).unwrap_or("NULL"));
        columns.collect::<Vec<_>>().join("|")
    };
    Ok(rows.map(text).collect())
}

async fn postgres_events(url: &str) -> Vec<StoredEvent> {
    let client = postgres::connect(url).await;
    let rows = client
        .query(
            "SELECT user_id, event_name, channel, (extract(epoch FROM ts) * 1000000)::bigint,
                    event_id, campaign_id, to_json(tags)::text, metadata::text FROM events",
            &[],
        )
        .await
        .unwrap();
    let event = |row: &tokio_postgres::Row| StoredEvent {
        user_id: row.get(0),
        event_name: row.get(1),
        channel: row.get(2),
        ts_micros: row.get(3),
        event_id: row.get(4),
        campaign_id: row.get(5),
        tags: json(row.get(6)),
        metadata: json(row.get(7)),
    };
    rows.iter().map(event).collect()
}

fn json(text: Option<String>) -> Option<Value> {
    text.map(|text| serde_json::from_str(&text).unwrap())
}

/// Runs a future to its end on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}
