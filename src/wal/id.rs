//! The names that say where an event stands: in which log, at which place, written by which life of it; and how far a
//! database has it.

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

/// One life of a log: from one start of a server to its end, a random id each. Told in the headers of the segments that
/// it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LifeId(pub Uuid);

impl LifeId {
    /// What wrote the events of a log format that did not tell its lives, and what "wrote" before the first event.
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

/// Who put a checkpoint where it stands: a number alone cannot tell a log from its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// The life that wrote the event at the checkpoint.
    pub life: LifeId,
    /// Random, new for each commit; nil where no release that has tokens has moved the checkpoint yet.
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

/// Where the database's checkpoint of a log stands, and who put it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Every event up to here is in the database.
    pub flushed_through: Sequence,
    /// Who says so.
    pub mark: Mark,
    /// What became of the events up to here.
    pub counts: EventOutcomes,
}

/// What became of a log's events, as the database counts them. Their sum is the sequence of the checkpoint, or
/// something was skipped or stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventOutcomes {
    /// Events that became rows. What a release that did not count duplicates left out as such is among them.
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
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.applied + self.duplicates + self.quarantined + self.skipped
    }
}
