//! Rollups: counts and sets of users per event name, channel and bucket of time, so that a metrics query reads hundreds of rows where
//! the events are millions.
//!
//! ```text
//!  flush ─ fold ─→ deltas ─ compact ─→ parts ─ sum up ─→ days        (write path; each arrow is a transaction of its own)
//!                     └───────────────┬───┴─────────────┘
//!                                   query                             (reads all three in one snapshot)
//! ```
//!
//! * A **delta** is what one flush adds to one (name, channel, bucket). It is inserted in the transaction that stores the rows, so
//!   rollups and rows can never disagree, and being only inserted it makes no server wait for another.
//! * A **part** is a row of the series that compaction keeps: (name, channel), (name, all), (all, all). Buckets are a minute or a
//!   quarter of an hour wide and never overlap in content: each event is in exactly one delta or, for each of its series, in exactly
//!   one part. Minutes are kept while they are fresh, then merged. A quarter is the coarsest bucket that gives right hours and days in
//!   every time zone in use.
//! * A **day** is the sum of a series' parts over a UTC day. It is a copy: compaction marks it stale in the transaction that
//!   changes a part, and until it is summed up again the query reads the parts.
//!
//! Everything here is pure: it knows no store. What reads and writes the rows is [`crate::store`], what merges and checks them
//! [`crate::upkeep`].

pub mod users;

pub mod fold;

#[cfg(test)]
pub(crate) mod model;

use std::fmt;

use crate::event::Timestamp;
use crate::query::DAY_MICROS;

pub use users::{UserHash, UserKey, UserSet, UserUnion};

/// Microseconds in a minute.
pub const MINUTE_MICROS: i64 = 60_000_000;
/// Microseconds in a quarter of an hour.
pub const QUARTER_MICROS: i64 = 15 * MINUTE_MICROS;

/// Most users that a part or a delta names one by one; beyond that it holds a sketch. 800 bytes, about what a sketch of some hundred
/// users takes.
pub const PART_EXACT_MAX: usize = 100;
/// The same for a day: 4.8 KB, which is what a full sketch takes.
pub const DAY_EXACT_MAX: usize = 600;

/// How wide a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// One minute.
    Minute,
    /// A quarter of an hour.
    Quarter,
}

impl Width {
    /// As the store's column `minutes` holds it.
    pub const fn minutes(self) -> i16 {
        match self {
            Self::Minute => 1,
            Self::Quarter => 15,
        }
    }

    /// The inverse of [`Width::minutes`].
    pub const fn from_minutes(minutes: i64) -> Option<Self> {
        match minutes {
            1 => Some(Self::Minute),
            15 => Some(Self::Quarter),
            _ => None,
        }
    }

    /// In microseconds.
    pub const fn micros(self) -> i64 {
        self.minutes() as i64 * MINUTE_MICROS
    }
}

/// A fixed interval of time, aligned to its own width from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// First instant.
    pub start: Timestamp,
    /// How long it is.
    pub width: Width,
}

impl Bucket {
    /// The bucket of `width` that holds an instant.
    pub fn of(instant: Timestamp, width: Width) -> Self {
        Self {
            start: floor(instant, width.micros()),
            width,
        }
    }

    /// First instant after it.
    pub fn end(self) -> Timestamp {
        Timestamp::from_micros(self.start.as_micros() + self.width.micros())
    }

    /// The quarter that holds it, or itself.
    pub fn quarter(self) -> Self {
        Self::of(self.start, Width::Quarter)
    }

    /// The UTC day that holds it.
    pub fn day(self) -> Day {
        Day::of(self.start)
    }
}

/// A UTC day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Timestamp);

impl Day {
    /// The day before.
    pub fn before(self) -> Self {
        Self::of(Timestamp::from_micros(self.start().as_micros() - 1))
    }

    /// The day that holds an instant.
    pub fn of(instant: Timestamp) -> Self {
        Self(floor(instant, DAY_MICROS))
    }

    /// First instant.
    pub fn start(self) -> Timestamp {
        self.0
    }

    /// First instant after it.
    pub fn end(self) -> Timestamp {
        Timestamp::from_micros(self.0.as_micros() + DAY_MICROS)
    }
}

/// The date: `2026-02-01`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start().to_string();
        f.write_str(start.split('T').next().unwrap_or_default())
    }
}

/// The last multiple of `width_micros` that is not after `instant`.
pub fn floor(instant: Timestamp, width_micros: i64) -> Timestamp {
    let micros = instant.as_micros();
    Timestamp::from_micros(micros - micros.rem_euclid(width_micros))
}

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
    /// When they happened.
    pub bucket: Bucket,
    /// What they come to.
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
    /// Which series.
    pub series: SeriesId,
    /// When.
    pub bucket: Bucket,
    /// What happened in it.
    pub tally: Tally,
}

/// The series that an event counts in: its pair, its name, everything.
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
