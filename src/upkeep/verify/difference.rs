//! What verifying finds, and how it is told: one line a difference, with both numbers.

use std::fmt;

use crate::event::bucket::{Bucket, Day};
use crate::rollup::SeriesKey;
use crate::support::words::plural;

/// A rollup that is not what the events make it. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it counts.
    pub series: SeriesKey,
    /// Where it is.
    pub place: RollupPlace,
    /// What is wrong with it.
    pub fault: Fault,
}

/// Where a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollupPlace {
    /// In a bucket.
    Bucket(Bucket),
    /// In what is kept of the day as a whole.
    Day(Day),
}

/// How a rollup is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Parts and deltas have another number of events than the rows.
    Events {
        /// As the rollups have it.
        rollups: u64,
        /// As it is.
        rows: u64,
    },
    /// Parts and deltas have other users than the rows; the two numbers may well be equal.
    Users {
        /// As the rollups have it.
        rollups: u64,
        /// As it is.
        rows: u64,
    },
    /// The day's sum has another number of events than its parts.
    SumEvents {
        /// As the sum has it.
        sum: u64,
        /// As it is.
        parts: u64,
    },
    /// The day's sum has other users than its parts.
    SumUsers {
        /// As the sum has it.
        sum: u64,
        /// As it is.
        parts: u64,
    },
    /// There are parts, but no row of the day says so, and queries would miss them.
    NoSum,
    /// There are no parts, but a row of the day, which queries take to mean that the series counts what happened on it.
    NoParts,
    /// Not one event of the day is stored, though the rollups have some.
    EventsGone {
        /// As the rollups have it.
        rollups: u64,
    },
    /// The day's overflow is not what its rows without a series come to.
    Overflow {
        /// As the rollups have it.
        rollups: u64,
        /// As it is.
        rows: u64,
    },
}

/// `page_view / web, 2026-02-01T09:15:00Z, 15 min: rollups have 361 events, the rows 362`
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series, place, fault } = self;
        if let (RollupPlace::Day(day), Fault::EventsGone { .. }) = (place, fault) {
            return write!(f, "{day}: {fault}");
        }
        write!(f, "{}, {place}: {fault}", describe(series))
    }
}

impl fmt::Display for RollupPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(bucket) => {
                write!(f, "{}, {} min", bucket.start, bucket.width.minutes())
            }
            Self::Day(day) => write!(f, "{}, 1 day", day.start()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events { rollups, rows } => {
                write!(f, "rollups have {}, the rows {rows}", plural(*rollups, "event"))
            }
            Self::Users { rollups, rows } if rollups == rows => {
                write!(f, "rollups have {}, the rows as many others", plural(*rollups, "user"))
            }
            Self::Users { rollups, rows } => {
                write!(f, "rollups have {}, the rows {rows}", plural(*rollups, "user"))
            }
            Self::SumEvents { sum, parts } => {
                write!(f, "the sum has {}, its parts {parts}", plural(*sum, "event"))
            }
            Self::SumUsers { sum, parts } if sum == parts => {
                write!(f, "the sum has {}, its parts as many others", plural(*sum, "user"))
            }
            Self::SumUsers { sum, parts } => {
                write!(f, "the sum has {}, its parts {parts}", plural(*sum, "user"))
            }
            Self::NoSum => f.write_str("there are parts, but neither a sum nor a mark that one is due"),
            Self::NoParts => f.write_str("there are no parts, but a sum or a mark that one is due"),
            Self::EventsGone { rollups } => write!(
                f,
                "rollups have {} and no event is stored: were they removed on purpose? rollup rebuild keeps such days",
                plural(*rollups, "event")
            ),
            Self::Overflow { rollups, rows } => write!(
                f,
                "rollups have {} without a series of their own, the rows {rows}",
                plural(*rollups, "event")
            ),
        }
    }
}

fn describe(series: &SeriesKey) -> String {
    let one_line = |name: &str| {
        if name.contains(char::is_control) {
            // Names are the clients' to choose: none may write to the terminal as it likes.
            name.escape_debug().to_string()
        } else {
            name.to_owned()
        }
    };
    match (&series.event_name, &series.channel) {
        (None, None) => "all events".to_owned(),
        (Some(name), None) => format!("{} / all channels", one_line(name)),
        (Some(name), Some(channel)) => format!("{} / {}", one_line(name), one_line(channel)),
        (None, Some(channel)) => format!("all events / {}", one_line(channel)),
    }
}
