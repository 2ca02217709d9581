//! From a request body to encoded events, in one pass.
//!
//! Nothing is owned on the way: texts are slices of the body (copied only where an escape forces it), and each event is
//! encoded straight into the record as soon as its object ends. Two kinds of fault are kept apart: broken JSON ends the
//! parse; a broken rule is noted and the parse goes on, so that one answer names every bad event. Two things that JSON
//! allows end the parse too, because serde_json reads no further: half of a surrogate pair and a number beyond 64-bit
//! floats, both outside `metadata`.

mod object;
mod problems;

use serde::de::{DeserializeSeed, Error, IgnoredAny, SeqAccess};

use super::validate::Window;
use super::value::{Any, Nested};
use object::EventReader;

/// Most bad events whose problems an answer lists.
pub const EVENTS_LISTED_MAX: usize = 100;
/// Most problems that an answer lists for one event: as many as an event has fields. With more, all of it is wrong.
pub const PROBLEMS_LISTED_MAX: usize = 8;

/// Why a body is refused. Nothing of it may be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, not JSON that can be read, or not the JSON shape that the route takes.
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
        /// The first [`PROBLEMS_LISTED_MAX`] problems of each of the first [`EVENTS_LISTED_MAX`] bad events, in order.
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
    /// Name of the field; `tags[3]` for a single tag; for an unknown field the name as sent, cut to 64 bytes; empty
    /// when the event is not an object.
    pub field: String,
    /// Stable machine code: `required`, `wrong_type`, `empty`, `too_long`, `unknown_field`, …
    pub code: &'static str,
    /// What to do, in words; never echoes a value.
    pub message: String,
}

/// Parses the body of `POST /events` and appends the event to `out`. On an error `out` holds undefined bytes after its
/// old end.
pub fn parse_event(body: &[u8], window: impl Into<Window>, out: &mut Vec<u8>) -> Result<(), ParseError> {
    let text = check_text(body)?;
    match first_byte(text) {
        Some(b'{') => {}
        Some(b'[') => {
            return Err(json(
                "POST /events takes one event, a JSON object; send an array to POST /events/bulk",
            ));
        }
        _ => return Err(json("the body must be a JSON object: one event")),
    }
    let mut reader = EventReader::new(window.into(), out);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    reader
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| unreadable(&error, None))?;
    reader.problems.into_result()
}

/// Parses the body of `POST /events/bulk` and appends its events to `out`; returns how many there were.
///
/// It stops at the first event beyond `events_max`, so that an overlong array costs no more than a full one. On an
/// error `out` holds undefined bytes after its old end.
pub fn parse_bulk(
    body: &[u8],
    events_max: usize,
    window: impl Into<Window>,
    out: &mut Vec<u8>,
) -> Result<u32, ParseError> {
    let text = check_text(body)?;
    match first_byte(text) {
        Some(b'[') => {}
        Some(b'{') => {
            return Err(json(
                "POST /events/bulk takes a JSON array of events; send a single event to POST /events",
            ));
        }
        _ => return Err(json("the body must be a JSON array of events")),
    }
    let mut reader = EventReader::new(window.into(), out);
    let mut is_too_many = false;
    let array = EventArray {
        reader: &mut reader,
        events_max,
        is_too_many: &mut is_too_many,
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let outcome = Any(array)
        .deserialize(&mut deserializer)
        .and_then(|_| deserializer.end());
    if is_too_many {
        return Err(ParseError::TooManyEvents { max: events_max });
    }
    outcome.map_err(|error| unreadable(&error, reader.unfinished()))?;
    if reader.count == 0 {
        return Err(ParseError::EmptyBulk);
    }
    reader.problems.into_result()?;
    Ok(u32::try_from(reader.count).expect("a body holds fewer than 4 billion events"))
}

/// The array of a bulk body.
struct EventArray<'r, 'out> {
    reader: &'r mut EventReader<'out>,
    events_max: usize,
    /// Set when the limit ended the parse, not broken JSON; serde's error does not tell the two apart.
    is_too_many: &'r mut bool,
}

impl<'de> Nested<'de> for EventArray<'_, '_> {
    fn array<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        for _ in 0..self.events_max {
            if elements.next_element_seed(&mut *self.reader)?.is_none() {
                return Ok(());
            }
        }
        if elements.next_element::<IgnoredAny>()?.is_some() {
            *self.is_too_many = true;
            return Err(A::Error::custom("too many events"));
        }
        Ok(())
    }
}

/// The body as text. UTF-8 is checked once for the whole body, so that serde_json need not check each string. Skips the
/// byte order mark that some editors and libraries put in front: RFC 8259, section 8.1, lets a reader ignore it.
fn check_text(body: &[u8]) -> Result<&str, ParseError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| json(&format!("the body is not UTF-8 from byte {} on", error.valid_up_to())))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn first_byte(text: &str) -> Option<u8> {
    text.bytes().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

fn json(what_to_do: &str) -> ParseError {
    ParseError::Json(what_to_do.to_owned())
}

/// Says what ended the parse, in which event of an array, and at which line and column; never echoes the input.
/// (serde_json's errors about types do echo values, but the visitors here take every type.)
fn unreadable(error: &serde_json::Error, event: Option<usize>) -> ParseError {
    let what = error.to_string();
    let place = format!("at line {} column {}", error.line(), error.column());
    // Only the wording tells serde_json's errors apart. If it changes, the first two cases get the text of the last
    // one, and a test fails.
    let what = if what.starts_with("lone leading surrogate") || what.starts_with("unexpected end of hex escape") {
        format!("a text holds half of a surrogate pair, such as \\ud83d alone, {place}")
    } else if what.starts_with("number out of range") {
        format!("a number is too large to be read, {place}")
    } else {
        format!("the body is not valid JSON: {what}")
    };
    ParseError::Json(match event {
        Some(index) => format!("in event {index} (counted from 0): {what}"),
        None => what,
    })
}

#[cfg(test)]
mod tests;
