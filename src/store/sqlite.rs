//! Events in the embedded SQLite: the default, for one machine without other software.
//!
//! It follows the same rules as PostgreSQL: one transaction a batch, the checkpoint first, the same answers. Rows and
//! queries go through rusqlite rather than diesel, because diesel's `SqliteConnection` offers neither interrupt nor
//! progress handler: a query could be neither cancelled nor timed out. Migrations do use diesel.

mod busy;
mod connection;
mod deltas;
mod error;
mod limit;
mod lineage;
mod metrics;
pub(super) mod migrate;
mod readers;
mod rollups;
mod rows;
mod side_file;
mod sink;
mod snapshot;
#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use self::readers::Readers;
use self::rollups::SqliteRollups;
use self::sink::SqliteSink;
use super::{EventSink, EventStore, QueryError, RollupStore, StoreError, Stretch, schema};
use crate::query::memory::QueryMemory;
use crate::query::{MetricsQuery, MetricsReport};
use crate::store::settings::StoreSettings;
use crate::wal::id::LifeId;

/// A SQLite database.
pub(super) struct SqliteStore {
    path: PathBuf,
    readers: Readers,
    memory: QueryMemory,
}

impl SqliteStore {
    /// Opens nothing yet.
    pub(super) fn new(path: &Path, settings: &StoreSettings) -> Self {
        let readers = Readers::new(path, settings.query_connections, settings.query_timeout);
        Self {
            path: path.to_owned(),
            readers,
            memory: QueryMemory::new(settings.query_bytes_max),
        }
    }
}

#[async_trait]
impl EventStore for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        if !migrate::is_there(&self.path)? {
            return Err(StoreError::Unavailable(format!(
                "{} does not exist, so nothing is stored there; choose the database with --data-dir or DATABASE_URL",
                self.path.display()
            )));
        }
        // A short read at start-up, so blocking here does no harm.
        let applied = migrate::applied(&self.path)?;
        schema::check(&schema::known_sqlite()?, &applied)
    }

    async fn check_rollups(&self) -> Result<(), StoreError> {
        let rebuild_needed = connection::open_reader(&self.path)?
            .query_row("SELECT rebuild_needed FROM rollup_state", [], |row| row.get(0))
            .map_err(|error| error::store_error(&error))?;
        schema::check_rollups(rebuild_needed)
    }

    async fn open_sink(&self) -> Result<Box<dyn EventSink>, StoreError> {
        Ok(Box::new(SqliteSink::open(&self.path)?))
    }

    async fn metrics(&self, query: &MetricsQuery) -> Result<MetricsReport, QueryError> {
        metrics::answer(&self.readers, self.memory.question(), query).await
    }

    async fn open_rollups(&self) -> Result<Box<dyn RollupStore>, StoreError> {
        Ok(Box::new(SqliteRollups::open(&self.path)?))
    }

    async fn stored_of(&self, life: LifeId) -> Result<Vec<Stretch>, QueryError> {
        self.readers.read(move |reader| lineage::stored_of(reader, life)).await
    }
}
