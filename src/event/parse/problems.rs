//! The problems found in one body: a bounded list, and the number of events they are spread over.

use super::{EVENTS_LISTED_MAX, EventError, PROBLEMS_LISTED_MAX, ParseError};
use crate::event::rule::BrokenRule;

/// Problems so far, and the event that new ones belong to.
#[derive(Debug, Default)]
pub(super) struct Problems {
    listed: Vec<EventError>,
    invalid_count: usize,
    /// Place of the current event in the array.
    index: usize,
    /// How many problems the current event has.
    count_of_event: usize,
}

impl Problems {
    /// Makes the event at `index` the current one.
    pub(super) fn begin_event(&mut self, index: usize) {
        self.index = index;
        self.count_of_event = 0;
    }

    /// Whether the current event has a problem.
    pub(super) fn event_is_invalid(&self) -> bool {
        self.count_of_event > 0
    }

    /// Notes a problem of the current event.
    pub(super) fn add(&mut self, field: &str, problem: BrokenRule) {
        if self.count_of_event == 0 {
            self.invalid_count += 1;
        }
        self.count_of_event += 1;
        if self.invalid_count <= EVENTS_LISTED_MAX && self.count_of_event <= PROBLEMS_LISTED_MAX {
            self.listed.push(EventError {
                index: self.index,
                field: field.to_owned(),
                code: problem.code(),
                message: problem.to_string(),
            });
        }
    }

    /// An error with the listed problems, if there are any.
    pub(super) fn into_result(self) -> Result<(), ParseError> {
        if self.invalid_count == 0 {
            return Ok(());
        }
        Err(ParseError::Invalid {
            errors: self.listed,
            invalid_count: self.invalid_count,
        })
    }
}
