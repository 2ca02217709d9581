//! Problems: what the body of a refusal says, and the one table of its codes.
//!
//! RFC 9457, section 3, with extension members after `detail`. Clients may rely on `type` and `code`; `title` and
//! `detail` are for people.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What is the same for every problem of one code.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The code that this row describes.
    pub code: Code,
    /// The value of the member `code`, and the end of `type`.
    pub name: &'static str,
    /// HTTP status.
    pub status: u16,
    /// A title for people, the same for each occurrence.
    pub title: &'static str,
    /// Seconds after which asking again may help, as in the header `Retry-After`; `None` where the same request gets
    /// the same answer.
    pub retry_after: Option<u16>,
}

/// Declares [`Code`] and its table side by side, so that neither can lack what the other has.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $status:literal, $title:literal, $retry_after:expr;)*) => {
        /// Why a request is not answered as asked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        /// Every code, in the order of [`Code`].
        pub const KINDS: &[Kind] = &[
            $(Kind { code: Code::$code, name: $name, status: $status, title: $title, retry_after: $retry_after },)*
        ];
    };
}

codes! {
    /// No route has this path.
    NotFound = "not_found", 404, "No such path", None;
    /// The path exists for other methods.
    MethodNotAllowed = "method_not_allowed", 405, "Wrong method", None;
    /// No `Host`, or several.
    BadHost = "bad_host", 400, "Bad Host header", None;
    /// A `Host` that is none of this server's names.
    HostNotAllowed = "host_not_allowed", 403, "Not served by that name", None;
    /// An `Origin` that this server does not serve.
    OriginNotAllowed = "origin_not_allowed", 403, "Not served to that site", None;
    /// `Content-Type` is not JSON in UTF-8.
    UnsupportedMediaType = "unsupported_media_type", 415, "Wrong content type", None;
    /// `Content-Encoding` is not identity.
    UnsupportedEncoding = "unsupported_encoding", 415, "Wrong content encoding", None;
    /// The body is longer than the route takes.
    BodyTooLarge = "body_too_large", 413, "Body too large", None;
    /// The body did not arrive in time.
    BodyTimeout = "body_timeout", 408, "Body too slow", None;
    /// The body ended early, or its chunks are malformed.
    BodyBroken = "body_broken", 400, "Broken body", None;
    /// Not the JSON that the route takes.
    InvalidJson = "invalid_json", 400, "Not the JSON that this path takes", None;
    /// An array without events.
    EmptyBulk = "empty_bulk", 400, "No events", None;
    /// More events than one request may have.
    TooManyEvents = "too_many_events", 400, "Too many events", None;
    /// Events that break a rule.
    InvalidEvent = "invalid_event", 400, "Invalid event", None;
    /// Too many bytes in flight.
    BytesInFlightFull = "bytes_in_flight_full", 429, "Slow down", Some(1);
    /// Too many requests wait for the log.
    QueueFull = "queue_full", 429, "Slow down", Some(1);
    /// The log is at its cap, or its disk is full.
    LogFull = "log_full", 503, "Cannot store", Some(5);
    /// Log and database do not belong together. A person has to decide, which takes a while.
    LogMismatch = "log_mismatch", 503, "Cannot store", Some(60);
    /// The log has failed. Nothing of this request is stored.
    LogFailed = "log_failed", 503, "Cannot store", Some(2);
    /// The log failed while it had the request: the only refusal after which sending again may store events twice.
    OutcomeUnknown = "outcome_unknown", 503, "Outcome unknown", Some(2);
    /// The server is shutting down.
    Draining = "draining", 503, "Cannot store", Some(2);
    /// The server's clock is set before its release. After a boot it takes a while until the network sets the clock.
    ClockUnset = "clock_unset", 503, "Cannot store", Some(10);
    /// Parameters that cannot be read, or contradict each other.
    BadQuery = "bad_query", 400, "Bad query parameters", None;
    /// The events of a receipt are not in the database yet. The request has waited already.
    NotAppliedYet = "not_applied_yet", 503, "Not in the database yet", Some(1);
    /// The database does not answer.
    DatabaseUnavailable = "database_unavailable", 503, "Cannot query", Some(5);
    /// The database's schema is not the one that the server needs.
    DatabaseSchema = "database_schema", 503, "Cannot query", Some(5);
    /// Other queries hold all connections.
    QueriesBusy = "queries_busy", 503, "Too many queries at once", Some(5);
    /// The query ran into its time limit.
    QueryTimeout = "query_timeout", 503, "Query too slow", Some(5);
    /// The answer would have too many groups.
    TooManyGroups = "too_many_groups", 400, "Too many groups", None;
    /// The query needs more than any query may have.
    QueryTooLarge = "query_too_large", 400, "Query too large", None;
    /// Other queries hold the memory.
    QueryMemory = "query_memory", 503, "Too many large queries", Some(5);
    /// All connections are taken.
    TooManyConnections = "too_many_connections", 503, "Too many connections", Some(1);
    /// A defect of the server.
    Internal = "internal", 500, "A defect of the server", None;
}

impl Code {
    /// What is the same for every problem of this code.
    pub fn kind(self) -> &'static Kind {
        &KINDS[self as usize]
    }
}

/// The body of a refusal. Read from another program's answer, it has those of these members that the answer has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem<'a> {
    /// `urn:fast-ingest:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    /// [`Kind::title`].
    pub title: Cow<'a, str>,
    /// HTTP status.
    pub status: u16,
    /// What happened and what to do, for people.
    pub detail: Cow<'a, str>,
    /// [`Kind::name`].
    pub code: Cow<'a, str>,
    /// Number of invalid events, where they are the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_count: Option<usize>,
    /// What is wrong with events or parameters, as far as it is listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ListedError<'a>>,
}

/// One fault of an event or a parameter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListedError<'a> {
    /// Place of the event in its array, from 0; absent for parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The field or parameter; empty for the event as a whole.
    pub field: Cow<'a, str>,
    /// Stable name of the rule that is broken.
    pub code: Cow<'a, str>,
    /// What to do, in words. It never echoes a value.
    pub message: Cow<'a, str>,
}

impl<'a> Problem<'a> {
    /// The body for a code, with the detail of this occurrence.
    pub fn new(code: Code, detail: impl Into<Cow<'a, str>>) -> Self {
        let kind = code.kind();
        Self {
            kind: format!("urn:fast-ingest:problem:{}", kind.name).into(),
            title: kind.title.into(),
            status: kind.status,
            detail: detail.into(),
            code: kind.name.into(),
            invalid_count: None,
            errors: Vec::new(),
        }
    }

    /// The detail; the title where there is none.
    pub fn text(&self) -> &str {
        if self.detail.is_empty() {
            &self.title
        } else {
            &self.detail
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_finds_its_own_row_and_has_a_name_of_its_own() {
        for kind in KINDS {
            assert_eq!(kind.code.kind().name, kind.name);
        }
        let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
    }

    #[test]
    fn what_may_be_tried_again_says_when_and_nothing_else_does() {
        for kind in KINDS {
            let is_for_now = matches!(kind.status, 429 | 503);
            assert_eq!(kind.retry_after.is_some(), is_for_now, "{}", kind.name);
        }
    }

    #[test]
    fn a_body_is_read_back() {
        let problem = Problem {
            invalid_count: Some(1),
            errors: vec![ListedError {
                index: Some(3),
                field: "user_id".into(),
                code: "required".into(),
                message: "is required".into(),
            }],
            ..Problem::new(Code::InvalidEvent, "1 event is wrong")
        };
        let text = serde_json::to_string(&problem).unwrap();
        assert!(text.starts_with(r#"{"type":"urn:fast-ingest:problem:invalid_event","#));
        assert_eq!(serde_json::from_str::<Problem<'static>>(&text).unwrap(), problem);
    }
}
