//! Why the events of a receipt are not told to be in the database.

use std::fmt;
use std::time::Duration;

/// Why the events of a receipt cannot be told to be in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lag {
    /// The flush has not come that far in this time.
    Behind(Duration),
    /// The database does not know the life.
    UnknownLog,
    /// The database has gone on without them.
    Passed,
    /// The server is going down.
    Draining,
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(waited) => write!(
                f,
                "the events of this receipt did not reach the database within {waited:?}; they are safe in their log"
            ),
            Self::UnknownLog => f.write_str(
                "the database does not know the log of this receipt: its server has another database, has not reached this one yet, or has a \
                 log that is refused, as `/health` says there",
            ),
            Self::Passed => f.write_str(
                "the log of this receipt has gone on without its events: they were given up (`fast-ingest wal adopt`), or a power cut took \
                 them (`--sync interval`)",
            ),
            Self::Draining => f.write_str("the server is shutting down"),
        }
    }
}
