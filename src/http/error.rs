//! Every refusal of a request: its code, and the text for the client. Status, title and `Retry-After` are in the table
//! of codes ([`crate::api::problem`]).

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, ALLOW, HeaderValue};

use super::lag::Lag;
use super::response::{self, Response};
use crate::api::problem::{Code, Kind, ListedError, Problem};
use crate::api::routes;
use crate::event::parse::ParseError;
use crate::query::GROUPS_MAX;
use crate::store::{QueryError, StoreError};
use crate::wal::refusal::Refusal;

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(super) enum ApiError {
    /// No route has this path.
    NotFound,
    /// The path exists for other methods.
    MethodNotAllowed {
        /// Value of the `Allow` header.
        allow: &'static str,
    },
    /// No `Host`, or several.
    BadHost,
    /// A `Host` that this server does not serve.
    HostNotAllowed,
    /// An `Origin` that this server does not serve.
    OriginNotAllowed,
    /// `Content-Type` is not JSON in UTF-8.
    UnsupportedMediaType,
    /// `Content-Encoding` is not identity.
    UnsupportedEncoding,
    /// The body is longer than the route takes.
    BodyTooLarge {
        /// The route's limit.
        bytes_max: usize,
    },
    /// The body did not arrive in time.
    BodyTimeout,
    /// Nothing of the body arrived for this long.
    BodySilent(Duration),
    /// The body ended early, or its chunks are malformed.
    BodyBroken,
    /// The intake refuses for now. Nothing is stored.
    Refused(Refusal),
    /// The log failed while it had the request, whose events may or may not survive.
    OutcomeUnknown,
    /// The body is not the expected JSON, or its events break rules.
    Parse(ParseError),
    /// Problems with the parameters of `GET /metrics`.
    BadQuery {
        /// One entry for each problem, at most 100.
        errors: Vec<ParameterError>,
        /// Names of all parameters of the route.
        known: &'static [&'static str],
    },
    /// The `wait` parameter of a POST is bad. Nothing is stored.
    BadWait(ParameterError),
    /// The events of a receipt are not in the database yet.
    NotAppliedYet(Lag),
    /// The store could not answer.
    Query(QueryError),
    /// `connections_max` connections are open.
    TooManyConnections,
}

/// One problem with one query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParameterError {
    /// Name of the parameter; an unknown one is cut to 64 characters.
    pub(crate) field: String,
    /// Name of the broken rule, which clients may rely on.
    pub(crate) code: &'static str,
    /// What the value must be, for people; never repeats the value.
    pub(crate) message: String,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ParseError> for ApiError {
    fn from(error: ParseError) -> Self {
        Self::Parse(error)
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

const ALLOWED_HOSTS: &str = "and those of --allowed-hosts: add the name of a proxy in front there";

impl ApiError {
    /// The problem answer for the client.
    pub(super) fn into_response(self) -> Response {
        let code = self.code();
        let body = Problem {
            invalid_count: self.invalid_count(),
            errors: self.listed_errors(),
            ..Problem::new(code, self.detail())
        };
        let mut response = response::problem(status(code.kind()), &body);
        response::add_retry_after(&mut response, code.kind());
        let headers = response.headers_mut();
        match self {
            Self::MethodNotAllowed { allow } => headers.insert(ALLOW, HeaderValue::from_static(allow)),
            Self::UnsupportedEncoding => headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            _ => None,
        };
        response
    }

    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::NotFound,
            Self::MethodNotAllowed { .. } => Code::MethodNotAllowed,
            Self::BadHost => Code::BadHost,
            Self::HostNotAllowed => Code::HostNotAllowed,
            Self::OriginNotAllowed => Code::OriginNotAllowed,
            Self::UnsupportedMediaType => Code::UnsupportedMediaType,
            Self::UnsupportedEncoding => Code::UnsupportedEncoding,
            Self::BodyTooLarge { .. } => Code::BodyTooLarge,
            Self::BodyTimeout | Self::BodySilent(_) => Code::BodyTimeout,
            Self::BodyBroken => Code::BodyBroken,
            Self::Refused(refusal) => code_of_refusal(*refusal),
            Self::OutcomeUnknown => Code::OutcomeUnknown,
            Self::Parse(ParseError::Json(_)) => Code::InvalidJson,
            Self::Parse(ParseError::EmptyBulk) => Code::EmptyBulk,
            Self::Parse(ParseError::TooManyEvents { .. }) => Code::TooManyEvents,
            Self::Parse(ParseError::Invalid { .. }) => Code::InvalidEvent,
            Self::BadQuery { .. } | Self::BadWait(_) => Code::BadQuery,
            Self::NotAppliedYet(_) => Code::NotAppliedYet,
            Self::Query(error) => code_of_query(error),
            Self::TooManyConnections => Code::TooManyConnections,
        }
    }

    /// What happened and what to do.
    fn detail(&self) -> String {
        match self {
            Self::NotFound => format!("there is no such path; the API is {}", routes::listed()),
            Self::MethodNotAllowed { allow } => format!("this path takes only {allow}"),
            Self::BadHost => "an HTTP/1.1 request must have exactly one Host header".to_owned(),
            Self::HostNotAllowed => {
                format!("this server serves the names of loopback, such as localhost, {ALLOWED_HOSTS}")
            }
            Self::OriginNotAllowed => {
                format!(
                    "this server serves pages from the sites of loopback, such as http://localhost, {ALLOWED_HOSTS}"
                )
            }
            Self::UnsupportedMediaType => "send Content-Type: application/json, in UTF-8".to_owned(),
            Self::UnsupportedEncoding => {
                "send the body without Content-Encoding, and with no Transfer-Encoding but chunked".to_owned()
            }
            Self::BodyTooLarge { bytes_max } => {
                format!("the body may have at most {bytes_max} bytes")
            }
            Self::BodySilent(limit) => {
                format!("no byte of the body arrived for {limit:?}; nothing was stored")
            }
            Self::BodyTimeout => "the body did not arrive in time; nothing was stored".to_owned(),
            Self::BodyBroken => "the body ended early or its chunks are malformed; nothing was stored".to_owned(),
            Self::Refused(refusal) => format!("{refusal}; nothing was stored"),
            Self::OutcomeUnknown => format!(
                "{}; whether the events of this request survive is unknown: send them again, with an event_id each",
                Refusal::Poisoned
            ),
            Self::Parse(error) => format!("{error}; nothing was stored"),
            Self::BadQuery { known, .. } => {
                format!("see `errors`; the parameters are {}", known.join(", "))
            }
            Self::BadWait(_) => "see `errors`; the only parameter is wait=applied; nothing was stored".to_owned(),
            Self::NotAppliedYet(lag) => format!("{lag}; ask again with the same receipt"),
            Self::Query(error) => detail_of_query(error),
            Self::TooManyConnections => "all connections are in use; keep connections open and share them".to_owned(),
        }
    }

    fn invalid_count(&self) -> Option<usize> {
        match self {
            Self::Parse(ParseError::Invalid { invalid_count, .. }) => Some(*invalid_count),
            _ => None,
        }
    }

    fn listed_errors(&self) -> Vec<ListedError<'_>> {
        match self {
            Self::Parse(ParseError::Invalid { errors, .. }) => errors
                .iter()
                .map(|error| listed(Some(error.index), &error.field, error.code, &error.message))
                .collect(),
            Self::BadQuery { errors, .. } => errors.iter().map(listed_parameter).collect(),
            Self::BadWait(error) => vec![listed_parameter(error)],
            _ => Vec::new(),
        }
    }
}

fn listed_parameter(error: &ParameterError) -> ListedError<'_> {
    listed(None, &error.field, error.code, &error.message)
}

fn listed<'a>(index: Option<usize>, field: &'a str, code: &'static str, message: &'a str) -> ListedError<'a> {
    ListedError {
        index,
        field: field.into(),
        code: code.into(),
        message: message.into(),
    }
}

/// # Panics
///
/// When the table of codes has a number that is not an HTTP status.
fn status(kind: &Kind) -> StatusCode {
    StatusCode::from_u16(kind.status).expect("the table of codes has HTTP statuses")
}

/// Codes with status 429 mean "slow down, there will be room in a moment", those with 503 "this cannot be stored now".
pub(super) fn code_of_refusal(refusal: Refusal) -> Code {
    match refusal {
        Refusal::BudgetFull => Code::BytesInFlightFull,
        Refusal::RingFull => Code::QueueFull,
        Refusal::LogFull => Code::LogFull,
        Refusal::Mismatch => Code::LogMismatch,
        Refusal::Poisoned | Refusal::LogEnded => Code::LogFailed,
        Refusal::Draining => Code::Draining,
        Refusal::ClockUnset => Code::ClockUnset,
    }
}

fn code_of_query(error: &QueryError) -> Code {
    match error {
        QueryError::Store(StoreError::Unavailable(_) | StoreError::Unclear { .. }) => Code::DatabaseUnavailable,
        QueryError::Busy(_) => Code::QueriesBusy,
        QueryError::Timeout(_) => Code::QueryTimeout,
        QueryError::Store(StoreError::Schema(_)) => Code::DatabaseSchema,
        QueryError::TooManyGroups => Code::TooManyGroups,
        QueryError::TooLarge(_) => Code::QueryTooLarge,
        QueryError::Memory(_) => Code::QueryMemory,
        QueryError::Store(StoreError::Data { .. }) => Code::Internal,
    }
}

/// The database's messages are only logged: they may name hosts and users.
fn detail_of_query(error: &QueryError) -> String {
    match error {
        QueryError::Store(StoreError::Unavailable(_) | StoreError::Unclear { .. }) => {
            "the database does not answer; events are still accepted and will be counted".to_owned()
        }
        QueryError::Busy(_) => {
            "other queries use all the connections that the server has for them; ask again, or let it have more \
             (--query-connections)"
                .to_owned()
        }
        QueryError::Timeout(limit) => {
            format!("the query took longer than {limit:?}; ask for a shorter range")
        }
        QueryError::Store(StoreError::Schema(_)) => {
            "the database schema is not the one that this server needs; see the server's log".to_owned()
        }
        QueryError::TooManyGroups => {
            format!(
                "the answer would have more than {GROUPS_MAX} groups; ask for a shorter range or group in another way"
            )
        }
        QueryError::TooLarge(reason) | QueryError::Memory(reason) => reason.clone(),
        QueryError::Store(StoreError::Data { .. }) => {
            "the query failed because of a defect of the server; see the server's log".to_owned()
        }
    }
}
