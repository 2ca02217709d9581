//! The answer to `GET /health`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The state of a server. A member that an older server does not send has its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// `ok`, `degraded` (events are accepted, the database is away) or `unavailable`.
    pub status: Cow<'static, str>,
    /// Why it is not `ok`, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Version of the program.
    pub version: Cow<'static, str>,
    /// `postgresql` or `sqlite`.
    pub store: Cow<'static, str>,
    /// Requests on their way into the log.
    pub queue: Queue,
    /// The write-ahead log.
    pub log: Log,
    /// The way from the log into the database.
    pub flush: Flush,
    /// What became of all events of this server's log, over all its starts; absent until the database has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Events>,
    /// Log lines lost since the start, because stderr failed or did not take them in time.
    pub log_lines_dropped: u64,
}

/// Requests on their way into the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Requests that wait now.
    pub depth: usize,
    /// Most requests that may wait.
    pub capacity: usize,
}

/// The write-ahead log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Bytes on disk that are not known to be in the database, and bytes reserved.
    pub bytes: u64,
    /// Sequence of the last event on disk.
    pub durable_through: u64,
}

/// The way from the log into the database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flush {
    /// `starting`, `running`, `retrying` or `stopped`.
    pub state: Cow<'static, str>,
    /// Sequence of the last event that is known to be in the database.
    pub flushed_through: u64,
    /// Events on disk that are not known to be in the database.
    pub lag_events: u64,
    /// Seconds, rounded up to tenths: everything that was accepted longer ago is in the database. Absent while events
    /// wait that were accepted before the server's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
}

/// What became of events. `accepted` is the sum of the others, in which `unaccounted` is 0 unless there is a defect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Events {
    /// Answered with 202, or 200 after waiting.
    pub accepted: u64,
    /// Stored as rows.
    pub applied: u64,
    /// Left out, because their `event_id` was stored before.
    pub duplicates: u64,
    /// Refused by the database, now in `quarantine`.
    pub quarantined: u64,
    /// Not in this database: stored in another one, or given up by a person.
    pub skipped: u64,
    /// Still in the log.
    pub pending: u64,
    /// Events missing from the sum; negative if the sum is too large.
    pub unaccounted: i64,
}
