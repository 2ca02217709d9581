//! What verifying finds, and how it is shown: one line a difference, with both numbers.

use std::fmt;

use crate::event::bucket::{Bucket, Day};
use crate::rollup::SeriesKey;
use crate::support::words::plural;

/// A rollup that differs from the stored events or from its own parts. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The series of the rollup.
    pub series: SeriesKey,
    /// The bucket or day of the rollup.
    pub place: RollupPlace,
    /// What is wrong, with the numbers.
    pub fault: Fault,
}

/// Bucket or day in which a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollupPlace {
    /// The parts and deltas of one bucket.
    Bucket(Bucket),
    /// The sum, the overflow or all rollups of a whole day.
    Day(Day),
}

/// How a rollup is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Parts and deltas have another number of events than the rows.
    Events {
        /// Events by the rollups.
        rollups: u64,
        /// Events by the stored rows.
        rows: u64,
    },
    /// Parts and deltas have other users than the rows; the two numbers may well be equal.
    Users {
        /// Users by the rollups, maybe an estimate.
        rollups: u64,
        /// Users by the stored rows, maybe an estimate.
        rows: u64,
    },
    /// The day's sum has another number of events than its parts.
    SumEvents {
        /// Events by the day's sum.
        sum: u64,
        /// Events by the parts.
        parts: u64,
    },
    /// The day's sum has other users than its parts.
    SumUsers {
        /// Users by the day's sum, maybe an estimate.
        sum: u64,
        /// Users by the parts, maybe an estimate.
        parts: u64,
    },
    /// There are parts, but no row of the day says so, and queries would miss them.
    NoSum,
    /// There are no parts, but there is a row of the day, by which queries assume that the series counts the day.
    NoParts,
    /// Not one event of the day is stored, though the rollups count some.
    EventsGone {
        /// Events by the rollups.
        rollups: u64,
    },
    /// The day's overflow is not the number of its rows without a series.
    Overflow {
        /// Events by the overflow, with those of deltas that will be added to it.
        rollups: u64,
        /// Rows whose pair has no series.
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
            // Clients choose the names, and none may send control characters to the terminal.
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
