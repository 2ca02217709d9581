//! A database under measurement, through the store's interface and by SQL past the store.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fast_ingest::event::bucket::DAY_MICROS;
use fast_ingest::store::EventStore;
use fast_ingest::store::settings::StoreLocation;

use crate::postgres;
use crate::support::store;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

impl Kind {
    /// The kind that the environment names so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "postgres" => Some(Self::Postgres),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }

    /// The name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Bytes of tables with their indexes.
pub(crate) struct Size {
    /// Bytes of all rollup tables.
    pub(crate) rollups: i64,
    /// Bytes of the table of events.
    pub(crate) events: i64,
}

/// A database with its schema.
pub(crate) struct Database {
    /// Which store.
    pub(crate) kind: Kind,
    store: Arc<dyn EventStore>,
    past_the_store: Past,
}

/// Access past the store.
enum Past {
    /// A client and the URL.
    Postgres(tokio_postgres::Client, String),
    Sqlite(PathBuf),
}

impl Database {
    /// A PostgreSQL database at a URL.
    pub(crate) async fn postgres(url: String) -> Self {
        let store = store::open(StoreLocation::Postgres(url.clone())).await;
        let client = postgres::connect(&url).await;
        let database = Self {
            kind: Kind::Postgres,
            store,
            past_the_store: Past::Postgres(client, url),
        };
        // A run that was killed may have left the index.
        database.drop_index().await;
        database
    }

    /// An SQLite database in a file.
    pub(crate) async fn sqlite(path: PathBuf) -> Self {
        Self {
            kind: Kind::Sqlite,
            store: store::open(StoreLocation::Sqlite(path.clone())).await,
            past_the_store: Past::Sqlite(path),
        }
    }

    /// The store.
    pub(crate) fn store(&self) -> &dyn EventStore {
        &*self.store
    }

    /// URL of a PostgreSQL database.
    pub(crate) fn url(&self) -> &str {
        match &self.past_the_store {
            Past::Postgres(_, url) => url,
            Past::Sqlite(_) => panic!("SQLite has no URL"),
        }
    }

    /// Another connection to an SQLite file.
    pub(crate) fn file(&self) -> rusqlite::Connection {
        match &self.past_the_store {
            Past::Sqlite(path) => rusqlite::Connection::open(path).expect("the file is there"),
            Past::Postgres(..) => panic!("PostgreSQL is no file"),
        }
    }

    /// Does the maintenance that the database does by itself sooner or later, so that no measurement meets it.
    pub(crate) async fn tidy(&self) {
        match &self.past_the_store {
            Past::Postgres(client, _) => {
                client.batch_execute("VACUUM (ANALYZE)").await.expect("idle");
                client.batch_execute("CHECKPOINT").await.expect("idle");
            }
            Past::Sqlite(_) => {
                let file = self.file();
                file.execute_batch("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)")
                    .expect("idle");
            }
        }
    }

    /// Makes the index that a user would add to ask the events for a name and a time. SQLite's schema has it.
    pub(crate) async fn add_index(&self) {
        if let Past::Postgres(client, _) = &self.past_the_store {
            let create = "CREATE INDEX bench_name_ts ON events (event_name, ts); ANALYZE events";
            client.batch_execute(create).await.expect("idle");
        }
    }

    /// Removes the index.
    pub(crate) async fn drop_index(&self) {
        if let Past::Postgres(client, _) = &self.past_the_store {
            let drop = "DROP INDEX IF EXISTS bench_name_ts";
            client.batch_execute(drop).await.expect("idle");
        }
    }

    /// Counts events and users of a name, by day and in total; returns the events in total.
    pub(crate) async fn days_by_hand(&self, event_name: &str, range: Range<i64>) -> u64 {
        let total: i64 = match &self.past_the_store {
            Past::Postgres(client, _) => {
                let sql = "SELECT day, count(*), count(DISTINCT user_id) FROM (
                               SELECT date_bin('24 hours', ts, timestamptz '1970-01-01 00:00:00+00') AS day, user_id COLLATE \"C\" AS user_id
                               FROM events WHERE event_name = $1 AND ts >= $2 AND ts < $3) e
                           GROUP BY GROUPING SETS ((day), ()) ORDER BY day NULLS FIRST";
                let (from, to) = (time(range.start), time(range.end));
                let rows = client.query(sql, &[&event_name, &from, &to]).await;
                rows.expect("an answer")[0].get(1)
            }
            Past::Sqlite(_) => {
                let file = self.file();
                let days = format!(
                    "SELECT ts / {DAY_MICROS}, count(*), count(DISTINCT user_id) FROM events
                     WHERE event_name = ?1 AND ts >= ?2 AND ts < ?3 GROUP BY 1"
                );
                let mut days = file.prepare(&days).expect("an answer");
                let values = rusqlite::params![event_name, range.start, range.end];
                let count = days.query_map(values, |row| row.get::<_, i64>(1));
                count
                    .expect("an answer")
                    .map(|count| count.expect("a row"))
                    .sum::<i64>();
                let total = "SELECT count(*), count(DISTINCT user_id) FROM events WHERE event_name = ?1 AND ts >= ?2 AND ts < ?3";
                file.query_row(total, values, |row| row.get(0)).expect("an answer")
            }
        };
        total.try_into().expect("a count")
    }

    /// Number of different users, counted.
    pub(crate) async fn unique_users(&self, event_name: &str, range: Range<i64>) -> u64 {
        let users: i64 = match &self.past_the_store {
            Past::Postgres(client, _) => {
                let sql = "SELECT count(DISTINCT user_id COLLATE \"C\") FROM events WHERE event_name = $1 AND ts >= $2 AND ts < $3";
                let (from, to) = (time(range.start), time(range.end));
                let row = client.query_one(sql, &[&event_name, &from, &to]).await;
                row.expect("an answer").get(0)
            }
            Past::Sqlite(_) => {
                let sql = "SELECT count(DISTINCT user_id) FROM events WHERE event_name = ?1 AND ts >= ?2 AND ts < ?3";
                let values = rusqlite::params![event_name, range.start, range.end];
                self.file().query_row(sql, values, |row| row.get(0)).expect("an answer")
            }
        };
        users.try_into().expect("a count")
    }

    /// Bytes on disk.
    pub(crate) async fn size(&self) -> Size {
        match &self.past_the_store {
            Past::Postgres(client, _) => {
                let sql = "SELECT (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
                                   WHERE relkind = 'r' AND relname LIKE 'rollup%'),
                                  (SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('events'))";
                let row = client.query_one(sql, &[]).await.expect("an answer");
                Size {
                    rollups: row.get(0),
                    events: row.get(1),
                }
            }
            Past::Sqlite(_) => {
                let sql = "SELECT coalesce(sum(pgsize), 0) FROM dbstat d JOIN sqlite_schema s ON s.name = d.name
                           WHERE d.aggregate = TRUE AND s.tbl_name LIKE ?1";
                let file = self.file();
                let bytes = |tables: &str| file.query_row(sql, [tables], |row| row.get(0)).expect("an answer");
                Size {
                    rollups: bytes("rollup%"),
                    events: bytes("events"),
                }
            }
        }
    }
}

fn time(micros: i64) -> SystemTime {
    let micros = u64::try_from(micros).expect("after 1970");
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}
