//! Instants to the microsecond: reading them from the wire, and writing them back.

use std::fmt;

/// An instant, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text or number is not a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Neither a Unix time nor an RFC 3339 date and time with an offset.
    #[error("must be an integer Unix time or an RFC 3339 date and time with an offset, such as 2026-02-01T09:30:00Z")]
    Malformed,
    /// Before 1970.
    #[error("must not be before 1970-01-01T00:00:00Z")]
    BeforeEpoch,
    /// Beyond what can be stored.
    #[error("is too far in the future")]
    TooLarge,
}

impl Timestamp {
    /// An instant from microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The wall clock's time.
    pub fn now() -> Self {
        todo!()
    }

    /// An integer Unix time; its magnitude tells the unit: below 5e9 seconds, 5e12 milliseconds, 5e15 microseconds, else
    /// nanoseconds (cut to the microsecond).
    pub fn from_unix(_number: u64) -> Result<Self, TimestampError> {
        todo!()
    }

    /// An RFC 3339 date and time with an offset.
    pub fn parse_rfc3339(_text: &str) -> Result<Self, TimestampError> {
        todo!()
    }

    /// Either form, from a query string.
    pub fn parse(_text: &str) -> Result<Self, TimestampError> {
        todo!()
    }
}

/// RFC 3339 in UTC with `Z`; a fraction only where there is one.
impl fmt::Display for Timestamp {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
