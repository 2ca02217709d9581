//! Why a database did not do what it was asked: one error for each port, around one for what the database itself says.
//!
//! [`StoreError`] is enough where only the database can fail: schema, rollups, connections. A flush can also find that
//! the checkpoint has moved ([`SinkError`]), and a query can run into a limit of this server ([`QueryError`]).

use std::time::Duration;

use crate::query::GROUPS_MAX;
use crate::query::error::AnswerError;
use crate::query::memory::OutOfMemory;
use crate::query::snapshot::QueryTooLarge;

/// What is wrong with a database, sorted by what the caller should do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, restarts, is full, read-only or too slow. Retry on a new connection, for ever.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// A value that the database refuses, or that a constraint, trigger or partition of the user's own refuses.
    /// Retrying cannot help: find the event, quarantine it.
    #[error("the database refuses the data ({code}): {message}")]
    Data {
        /// SQLSTATE, SQLite's extended result code by name, or a word of this program for what the database does
        /// without an error.
        code: String,
        /// The database's own words.
        message: String,
    },
    /// A code that does not say whose fault it is, such as one that a trigger made up. Nothing was stored. The data are
    /// at fault if the database takes other events while it refuses one; until that is known, retry.
    #[error("the database fails with an error that does not tell whether the data are at fault ({code}): {message}")]
    Unclear {
        /// As in [`StoreError::Data`].
        code: String,
        /// The database's own words.
        message: String,
    },
    /// Tables are missing or of another shape (class 42, or a schema version that is not ours). A person must act.
    #[error("{0}")]
    Schema(String),
}

/// Why a flush, or a move of the checkpoint, did not take place.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The database failed, or refused the batch.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint did not stand where the batch begins: nothing was stored. Read the checkpoint and go on from
    /// there.
    #[error("another session changed the checkpoint after it was last read, so nothing was stored")]
    CheckpointMoved,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// All connections for queries stayed in use by others. The database itself may be well.
    #[error("{0}")]
    Busy(String),
    /// The query ran into its timeout.
    #[error("the query took longer than {0:?}")]
    Timeout(Duration),
    /// The query has more than [`GROUPS_MAX`] groups.
    #[error("the answer would have more than {GROUPS_MAX} groups")]
    TooManyGroups,
    /// The query alone needs more than may be held in memory. The text says what to ask instead.
    #[error("{0}")]
    TooLarge(String),
    /// Other queries hold the memory. The query may succeed if it is sent again.
    #[error("{0}")]
    Memory(String),
}

impl StoreError {
    /// What a person has to change in the schema before it is of use to ask again.
    pub fn schema(&self) -> Option<&str> {
        match self {
            Self::Schema(reason) => Some(reason),
            Self::Unavailable(_) | Self::Data { .. } | Self::Unclear { .. } => None,
        }
    }
}

impl SinkError {
    /// What a person has to change in the schema before it is of use to ask again.
    pub fn schema(&self) -> Option<&str> {
        match self {
            Self::Store(error) => error.schema(),
            Self::CheckpointMoved => None,
        }
    }
}

impl From<AnswerError<StoreError>> for QueryError {
    fn from(error: AnswerError<StoreError>) -> Self {
        match error {
            AnswerError::Store(error) => error.into(),
            AnswerError::TooManyGroups => Self::TooManyGroups,
            AnswerError::TooLarge(message) => Self::TooLarge(message),
            AnswerError::Memory(error) => error.into(),
            AnswerError::Damaged(error) => {
                let text = format!("{error}; `fast-ingest rollup rebuild` builds the rollups again");
                StoreError::Schema(text).into()
            }
        }
    }
}

impl From<OutOfMemory> for QueryError {
    fn from(error: OutOfMemory) -> Self {
        match error {
            OutOfMemory::Question { .. } => Self::TooLarge(error.to_string()),
            OutOfMemory::Others => Self::Memory(error.to_string()),
        }
    }
}

impl From<QueryTooLarge> for QueryError {
    fn from(error: QueryTooLarge) -> Self {
        match error {
            QueryTooLarge::Rows => Self::TooLarge(error.to_string()),
            QueryTooLarge::Memory(error) => error.into(),
        }
    }
}
