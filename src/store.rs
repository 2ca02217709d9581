//! What the pipeline needs from a database, and the one place that chooses the database.
//!
//! [`EventStore`] is chosen once, from the URL, by [`open`]. A flush runs on an [`EventSink`]: one connection that is
//! dropped at the first doubt, because only a new connection and the checkpoint's row lock can tell whether a commit
//! happened.

mod error;
pub mod migrations;
pub(crate) mod outage;

pub(crate) mod postgres;
mod quarantine;
pub mod rollups;
mod schema;
pub mod settings;
mod sqlite;

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::error::{QueryError, SinkError, StoreError};
use self::postgres::PostgresStore;
pub use self::rollups::RollupStore;
use self::sqlite::SqliteStore;
use crate::query::{MetricsQuery, MetricsReport};
use crate::store::settings::{StoreLocation, StoreSettings};
use crate::wal::batch::BatchView;
use crate::wal::id::{CheckpointRow, DatabaseId, LifeId, Mark, Sequence, WalId};

/// What must succeed before a transaction may be committed.
pub type BeforeCommit<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// What one flush did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    /// Rows stored.
    pub stored: u64,
    /// Events left out because their `event_id` was stored before.
    pub duplicates: u64,
}

/// Consecutive sequences of one life of a log, as far as they are in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    first: Sequence,
    last: Sequence,
    is_open: bool,
}

impl Stretch {
    /// The sequences from `first` on, as far as `flushed_through`. They end before `next`, where another life begins,
    /// if one does.
    pub fn new(first: Sequence, flushed_through: Sequence, next: Option<Sequence>) -> Self {
        let last = next.map_or(flushed_through, |next| flushed_through.min(next - 1));
        Self {
            first,
            last,
            is_open: next.is_none(),
        }
    }

    /// Whether this sequence is in the database.
    pub fn contains(&self, sequence: Sequence) -> bool {
        self.sequences().contains(&sequence)
    }

    /// All sequences that are in the database; empty if none is there yet.
    pub fn sequences(&self) -> RangeInclusive<Sequence> {
        self.first..=self.last
    }

    /// Whether this sequence is not in the database yet, but may come.
    pub fn may_get(&self, sequence: Sequence) -> bool {
        self.is_open && sequence >= self.first && sequence > self.last
    }
}

/// A person's decision where the flush of a log goes on, whatever the checkpoint says.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// The log.
    pub wal_id: WalId,
    /// The checkpoint that the person saw; `None` if the database has none of this log.
    pub seen: Option<CheckpointRow>,
    /// Where the checkpoint is put: at or after what was seen.
    pub through: Sequence,
    /// The mark that the checkpoint gets.
    pub mark: Mark,
    /// Why, in a few words, for whoever reads `wal_gaps`.
    pub reason: &'static str,
}

impl Adoption {
    /// The checkpoint before the adoption; 0 if there is none.
    pub fn seen_through(&self) -> Sequence {
        self.seen.map_or(0, |row| row.flushed_through)
    }

    /// Which lives wrote the sequences: no known life where they are skipped; after that, until a commit says
    /// otherwise, the life in the mark.
    pub fn lives(&self) -> Vec<(Sequence, LifeId)> {
        let skipped = (self.skipped() > 0).then(|| (self.seen_through() + 1, LifeId::UNKNOWN));
        let next =
            (self.mark.life != LifeId::UNKNOWN || skipped.is_some()).then_some((self.through + 1, self.mark.life));
        skipped.into_iter().chain(next).collect()
    }

    /// How many sequences the adoption skips.
    pub fn skipped(&self) -> u64 {
        self.through - self.seen_through()
    }
}

/// A database that stores events and answers metrics.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Name for logs and `/health`: `postgresql` or `sqlite`.
    fn name(&self) -> &'static str;

    /// Checks that the schema is the one that this binary was built for.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] when it is behind or ahead (the text names the command that helps),
    /// [`StoreError::Unavailable`] when the database does not answer.
    async fn check_schema(&self) -> Result<(), StoreError>;

    /// Checks that the rollups are built. Until then queries count events, which gives right answers slowly.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] when they are not; the text names the command that helps.
    async fn check_rollups(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Opens a connection for flushing.
    async fn open_sink(&self) -> Result<Box<dyn EventSink>, StoreError>;

    /// Answers a metrics query from one consistent snapshot. Dropping the future cancels the query in the database.
    ///
    /// # Errors
    ///
    /// [`QueryError::TooManyGroups`], [`QueryError::TooLarge`], [`QueryError::Busy`], [`QueryError::Timeout`],
    /// [`QueryError::Memory`], or an error of the database.
    async fn metrics(&self, query: &MetricsQuery) -> Result<MetricsReport, QueryError>;

    /// Opens a connection for keeping the rollups.
    async fn open_rollups(&self) -> Result<Box<dyn RollupStore>, StoreError>;

    /// The sequences of a life of a log, this server's or another's, that are in the database; empty if the database
    /// does not know that life. Takes no lock, so the answer may lag behind a commit that is under way.
    ///
    /// Releases that knew no lives gave out receipts with the log's identity in place of the life: such an id gets the
    /// answer for the whole log.
    async fn stored_of(&self, life: LifeId) -> Result<Vec<Stretch>, QueryError>;
}

/// One connection that flushes. After any error but [`StoreError::Data`], [`StoreError::Unclear`] and
/// [`SinkError::CheckpointMoved`] it must be dropped.
#[async_trait]
pub trait EventSink: Send {
    /// Whether the database has closed the connection while nobody used it, as far as that is known without asking.
    fn is_closed(&self) -> bool {
        false
    }

    /// Reads the checkpoint of a log under its row lock, so that the transaction of a lost connection has ended,
    /// committed or not.
    ///
    /// `None` if the database does not know this log.
    async fn checkpoint(&mut self, wal_id: WalId) -> Result<Option<CheckpointRow>, StoreError>;

    /// The database's random identity.
    async fn database_id(&mut self) -> Result<DatabaseId, StoreError>;

    /// Moves or creates the checkpoint of a log on a person's decision, without storing anything. Skipped sequences are
    /// counted as skipped, and recorded in `wal_gaps`, in the same transaction.
    ///
    /// # Errors
    ///
    /// [`SinkError::CheckpointMoved`] when the checkpoint is no longer what the person saw; nothing was changed then.
    async fn adopt(&mut self, adoption: &Adoption) -> Result<(), SinkError>;

    /// Stores a batch and moves the checkpoint, which must be at the batch's beginning and have the mark
    /// [`BatchView::from`], to the batch's end and the mark [`BatchView::to`], in one transaction. On return the commit
    /// is confirmed. The whole batch is of the life in the mark `to`.
    ///
    /// # Errors
    ///
    /// On [`StoreError::Data`], [`StoreError::Unclear`] and [`SinkError::CheckpointMoved`] nothing was stored. On every other error the outcome
    /// is unknown until the checkpoint is read on a new connection.
    async fn flush(&mut self, batch: BatchView<'_>) -> Result<Flushed, SinkError> {
        self.flush_and_wait(batch, Box::pin(async { Ok(()) })).await
    }

    /// Like [`EventSink::flush`], but commits only after `before_commit`, which may run while the events are being
    /// stored. If `before_commit` fails, nothing is committed, and its error is returned.
    async fn flush_and_wait(
        &mut self,
        batch: BatchView<'_>,
        before_commit: BeforeCommit<'_>,
    ) -> Result<Flushed, SinkError>;

    /// Puts one event that the database refuses into quarantine and moves the checkpoint past it, in one transaction.
    ///
    /// # Panics
    ///
    /// When the batch is not exactly one event long.
    async fn quarantine(&mut self, batch: BatchView<'_>, code: &str, message: &str) -> Result<(), SinkError>;

    /// Creates the checkpoint of a log that has none. The events up to `flushed_through` count as skipped.
    ///
    /// # Errors
    ///
    /// [`SinkError::CheckpointMoved`] when another process has created it in the meantime.
    async fn create_checkpoint(
        &mut self,
        wal_id: WalId,
        flushed_through: Sequence,
        mark: Mark,
    ) -> Result<(), SinkError> {
        let adoption = Adoption {
            wal_id,
            seen: None,
            through: flushed_through,
            mark,
            reason: "the log began after them",
        };
        self.adopt(&adoption).await
    }

    /// Does what [`EventSink::flush`] does, and rolls it back: tells whether the database would take a batch. A sink
    /// that cannot do so fails, so that nothing is concluded from its answer.
    async fn rehearse(&mut self, _batch: BatchView<'_>) -> Result<Flushed, SinkError> {
        let text = "this store cannot try a batch without storing it";
        Err(StoreError::Unavailable(text.to_owned()).into())
    }
}

/// Opens the store that the settings name. Connects lazily: that a database is down is not noticed here.
///
/// # Errors
///
/// [`StoreError::Schema`] when the URL cannot be used as it is: a person must act.
pub fn open(settings: &StoreSettings) -> Result<Arc<dyn EventStore>, StoreError> {
    match &settings.location {
        StoreLocation::Postgres(url) => match PostgresStore::new(url, settings) {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(StoreError::Schema(error.to_string())),
        },
        StoreLocation::Sqlite(path) => Ok(Arc::new(SqliteStore::new(path, settings))),
    }
}

/// Describes the database for people, without a password.
pub fn describe(location: &StoreLocation) -> String {
    match location {
        StoreLocation::Postgres(url) => PostgresStore::describe(url),
        StoreLocation::Sqlite(path) => format!("SQLite {}", path.display()),
    }
}
