//! From a request body to encoded events, in one pass.

use super::Timestamp;

/// Most bad events that an answer lists one by one.
pub const ERRORS_LISTED_MAX: usize = 100;

/// Why a body is refused. Nothing of it may be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or not the JSON shape that the route takes.
    #[error("{0}")]
    Json(String),
    /// An empty array.
    #[error("the array holds no event; send at least one")]
    EmptyBulk,
    /// More events than one bulk request may hold.
    #[error("more than {max} events; send them in several requests")]
    TooManyEvents {
        /// The limit.
        max: usize,
    },
    /// Well-formed JSON, but events break the rules.
    #[error("{invalid_count} invalid event(s)")]
    Invalid {
        /// The first [`ERRORS_LISTED_MAX`] problems, in order.
        errors: Vec<EventError>,
        /// Number of events that have at least one problem.
        invalid_count: usize,
    },
}

/// One problem of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventError {
    /// Place in the array, from 0; 0 for a single event.
    pub index: usize,
    /// Name of the field, as sent (cut to 64 bytes) for an unknown one; empty when the event is no object.
    pub field: String,
    /// Stable machine code: `required`, `wrong_type`, `empty`, `too_long`, `unknown_field`, …
    pub code: &'static str,
    /// What to do, in words; never echoes a value.
    pub message: String,
}

/// Parses the body of `POST /events` and appends the event to `out`. On an error `out` holds undefined bytes behind its old end.
pub fn parse_event(_body: &[u8], _now: Timestamp, _out: &mut Vec<u8>) -> Result<(), ParseError> {
    todo!()
}

/// Parses the body of `POST /events/bulk` and appends its events to `out`; returns how many there were.
pub fn parse_bulk(_body: &[u8], _events_max: usize, _now: Timestamp, _out: &mut Vec<u8>) -> Result<u32, ParseError> {
    todo!()
}
