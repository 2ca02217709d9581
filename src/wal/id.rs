//! The ids that give an event's place (log, life of the log, sequence), a database's id, and its checkpoint of a log.

use std::fmt;

use uuid::Uuid;

/// Gap-free number of an event in its log, from 1. As a watermark, 0 means "nothing yet".
pub type Sequence = u64;

/// Identity of a write-ahead log, made once with its directory. Checkpoints are keyed by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WalId(pub Uuid);

impl fmt::Display for WalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for WalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a database, which its schema makes once. A replica or a restored backup has that of its original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub Uuid);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a log, from one start of a server to its end: a random id, in the headers of the life's segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LifeId(pub Uuid);

impl LifeId {
    /// The life of events in a log format without lives, and of the place before the first event.
    pub const UNKNOWN: Self = Self(Uuid::nil());

    /// A new life.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for LifeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies the commit that wrote a checkpoint: a sequence alone cannot tell a log from its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// The life that wrote the event at the checkpoint.
    pub life: LifeId,
    /// Random, new for each commit; nil if only releases without tokens have moved the checkpoint.
    pub token: Uuid,
}

impl Mark {
    /// The mark of a commit to come, which ends with an event of `life`.
    pub fn of_new_commit(life: LifeId) -> Self {
        Self {
            life,
            token: Uuid::new_v4(),
        }
    }
}

/// The database's checkpoint of a log, and the commit that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Every event up to here is in the database.
    pub flushed_through: Sequence,
    /// The commit that wrote the checkpoint.
    pub mark: Mark,
    /// What became of the events up to here.
    pub counts: EventOutcomes,
}

/// What became of a log's events, as the database counts them. Their sum is the sequence of the checkpoint, unless
/// events were left out or stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventOutcomes {
    /// Events that became rows. Includes the duplicates that an old release left out without counting them.
    pub applied: u64,
    /// Events left out because their `event_id` was stored before.
    pub duplicates: u64,
    /// Events that the database refused, now in `quarantine`.
    pub quarantined: u64,
    /// Sequences that this database does not have: stored in another one, or lost with a restore and given up by a
    /// person.
    pub skipped: u64,
}

impl EventOutcomes {
    /// The sum of all outcomes.
    pub fn sum(&self) -> u64 {
        self.applied + self.duplicates + self.quarantined + self.skipped
    }
}
