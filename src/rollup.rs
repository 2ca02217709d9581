//! Rollups: counts and sets of users per event name, channel and bucket of time, so that a metrics query reads hundreds
//! of rows where the events are millions.
//!
//! ```text
//!  flush ─ fold ─→ deltas ─ compact ─→ parts ─ sum up ─→ days        (write path; each arrow is a transaction of its own)
//!                     └───────────────┬───┴─────────────┘
//!                                   query                             (reads all three in one snapshot)
//! ```
//!
//! * A **delta** is what one flush adds to one (name, channel, bucket). It is inserted in the transaction that stores
//!   the rows, so rollups and rows can never disagree. As it is only inserted, no server waits for another.
//! * A **part** is a row of the series that compaction keeps: (name, channel), (name, all), (all, all). Buckets are a
//!   minute or a quarter of an hour wide and never overlap in content: each event is in exactly one delta or, for each
//!   of its series, in exactly one part. Minutes are kept while they are fresh, then merged. A quarter is the coarsest
//!   bucket that gives right hours and days in every time zone in use.
//! * A **day** is the sum of a series' parts over a UTC day. It is a copy: compaction marks it stale in the transaction
//!   that changes a part, and until it is summed up again the query reads the parts.
//!
//! Everything here is pure: it knows no store. [`crate::store`] reads and writes the rows, [`crate::upkeep`] merges and
//! checks them.

pub mod users;

pub mod fold;

use crate::event::bucket::Bucket;

pub use users::{UserHash, UserKey, UserSet, UserUnion};

/// Most users that a part or a delta names one by one; beyond that it holds a sketch. 800 bytes, about what a sketch of
/// some hundred users takes.
pub const PART_EXACT_MAX: usize = 100;
/// Most users that a day names one by one: 4.8 KB, which is what a full sketch takes.
pub const DAY_EXACT_MAX: usize = 600;

/// Events and the users among them.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Number of events.
    pub events: u64,
    /// Their users.
    pub users: UserSet,
}

/// What one flush adds to one name, channel and bucket.
#[derive(Debug, Clone)]
pub struct Delta {
    /// Name of the events.
    pub event_name: String,
    /// Channel of the events.
    pub channel: String,
    /// Bucket of time in which they happened.
    pub bucket: Bucket,
    /// Number of the events, and their users.
    pub tally: Tally,
}

/// What a series counts: `None` stands for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// One event name, or all.
    pub event_name: Option<String>,
    /// One channel, or all.
    pub channel: Option<String>,
}

impl SeriesKey {
    /// The series of all events.
    pub const EVERYTHING: Self = Self {
        event_name: None,
        channel: None,
    };
}

/// The store's number for a series.
pub type SeriesId = i64;

/// One row of a series.
#[derive(Debug, Clone)]
pub struct Part {
    /// The series that the row belongs to.
    pub series: SeriesId,
    /// The bucket of time that the row covers.
    pub bucket: Bucket,
    /// Events of the series in this bucket, and their users.
    pub tally: Tally,
}

/// The series that an event counts in: (name, channel), (name, all), (all, all).
pub fn series_of(event_name: &str, channel: &str) -> [SeriesKey; 3] {
    let (name, channel) = (Some(event_name.to_owned()), Some(channel.to_owned()));
    [
        SeriesKey {
            event_name: name.clone(),
            channel,
        },
        SeriesKey {
            event_name: name,
            channel: None,
        },
        SeriesKey::EVERYTHING,
    ]
}
