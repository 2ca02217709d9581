//! Why a request that waits for a receipt gets no success.

use std::fmt;
use std::time::Duration;

/// Why the server cannot say that the events of a receipt are in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lag {
    /// The flush did not reach the events within this time.
    Behind(Duration),
    /// The database does not know the life of the receipt.
    UnknownLog,
    /// The database has passed the sequences of the events without storing them.
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
                "the database does not know the log of this receipt: the server that gave it uses another database, has not reached this one \
                 yet, or has refused its log (see `/health` of that server)",
            ),
            Self::Passed => f.write_str(
                "the database has gone past the events of this receipt without them: they were skipped (`fast-ingest wal adopt`), or lost \
                 in a power cut (`--sync interval`)",
            ),
            Self::Draining => f.write_str("the server is shutting down"),
        }
    }
}
