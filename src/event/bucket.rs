//! Time cut into pieces: the buckets that rollups are kept in, days, and the units that a question may group by.

use std::fmt;

use super::Timestamp;

/// Microseconds in a minute.
pub const MINUTE_MICROS: i64 = 60_000_000;
/// Microseconds in a quarter of an hour.
pub const QUARTER_MICROS: i64 = 15 * MINUTE_MICROS;
/// Microseconds in an hour.
pub const HOUR_MICROS: i64 = 3_600_000_000;
/// Microseconds in a day.
pub const DAY_MICROS: i64 = 24 * HOUR_MICROS;

/// Width of a rollup's bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// One minute.
    Minute,
    /// A quarter of an hour.
    Quarter,
}

impl Width {
    /// The width in minutes, as the store's column `minutes` holds it.
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

    /// The width in microseconds.
    pub const fn micros(self) -> i64 {
        self.minutes() as i64 * MINUTE_MICROS
    }
}

/// A fixed interval of time, aligned to its own width from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// First instant of the bucket.
    pub start: Timestamp,
    /// Width of the bucket.
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

    /// First instant after the bucket.
    pub fn end(self) -> Timestamp {
        Timestamp::from_micros(self.start.as_micros() + self.width.micros())
    }

    /// The quarter of an hour that holds the bucket; the bucket itself if it is one.
    pub fn quarter(self) -> Self {
        Self::of(self.start, Width::Quarter)
    }

    /// The UTC day that holds the bucket.
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

    /// First instant of the day.
    pub fn start(self) -> Timestamp {
        self.0
    }

    /// First instant after the day.
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

/// A unit of time that a metrics query may group by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeUnit {
    /// A minute of the clock.
    Minute,
    /// An hour of the clock.
    Hour,
    /// A calendar day.
    Day,
    /// Seven calendar days from a Monday on.
    Week,
    /// A month of the calendar.
    Month,
}

impl TimeUnit {
    /// All units, shortest first.
    pub const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}
