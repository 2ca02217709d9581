//! Every refusal: its status, its `code`, and what the client reads. How that goes over the wire is in `body`.
//!
//! [`ApiError::problem`] is the only place that decides a status and a `Retry-After`. Clients may rely on `type` and `code`; `title`
//! and `detail` are for people.

mod body;

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, ALLOW, HeaderValue, RETRY_AFTER};

use self::body::{ListedError, ProblemBody};
use super::lag::Lag;
use super::response::{self, Response};
use crate::event::parse::ParseError;
use crate::intake::Intake;
use crate::store::StoreError;
use crate::wal::refusal::Refusal;

/// How long a client should wait for a database that does not answer.
const DATABASE_RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a client should wait for a free connection.
const CONNECTION_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a client should wait before it asks again for what is not flushed yet. It has waited already, so this is a formality.
const APPLIED_RETRY_AFTER: Duration = Duration::from_secs(1);

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
    /// A `Host` that this server is not called by.
    HostNotAllowed,
    /// An `Origin` that this server does not serve.
    OriginNotAllowed,
    /// `Content-Type` is not JSON in UTF-8.
    UnsupportedMediaType,
    /// `Content-Encoding` is not identity.
    UnsupportedEncoding,
    /// The body is longer than the route takes.
    BodyTooLarge {
        /// The limit.
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
    /// The log failed while it had the request.
    OutcomeUnknown,
    /// The body arrived and is wrong.
    Parse(ParseError),
    /// Problems with the parameters of `GET /metrics`.
    BadQuery {
        /// What is wrong.
        errors: Vec<ParameterError>,
        /// All parameters that there are.
        known: &'static [&'static str],
    },
    /// A POST asks to wait for something that cannot be waited for. Nothing is stored.
    BadWait(ParameterError),
    /// The events of a receipt are not in the database yet.
    NotAppliedYet(Lag),
    /// The store could not answer.
    Store(StoreError),
    /// All connections are taken.
    TooManyConnections,
}

/// One problem with one query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParameterError {
    /// Name of the parameter, cut to 64 bytes.
    pub(crate) field: String,
    /// Stable machine code.
    pub(crate) code: &'static str,
    /// What to do, in words; never echoes a value.
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

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

const ALLOWED_HOSTS: &str =
    "others, such as that of a proxy in front, must be told to it with --allowed-hosts";

/// What one match decides about a refusal.
struct Problem {
    status: StatusCode,
    code: &'static str,
    /// The same for every occurrence of a code.
    title: &'static str,
    detail: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// The answer that tells the client.
    pub(super) fn into_response(self) -> Response {
        let Problem {
            status,
            code,
            title,
            detail,
            retry_after,
        } = self.problem();
        let body = ProblemBody {
            kind: format!("urn:fast-ingest:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: &detail,
            code,
            invalid_count: self.invalid_count(),
            errors: self.listed_errors(),
        };
        let mut response = response::problem(status, &body);
        let headers = response.headers_mut();
        if let Some(wait) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow))
            }
            Self::UnsupportedEncoding => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            }
            _ => None,
        };
        response
    }

    fn problem(&self) -> Problem {
        let problem = |status, code, title, detail: String| Problem {
            status,
            code,
            title,
            detail,
            retry_after: None,
        };
        match self {
            Self::NotFound => problem(
                StatusCode::NOT_FOUND,
                "not_found",
                "No such path",
                "the API is POST /events, POST /events/bulk, GET /metrics and GET /health"
                    .to_owned(),
            ),
            Self::MethodNotAllowed { allow } => problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Wrong method",
                format!("this path takes {allow}"),
            ),
            Self::BadHost => problem(
                StatusCode::BAD_REQUEST,
                "bad_host",
                "Bad Host header",
                "an HTTP/1.1 request carries exactly one Host header".to_owned(),
            ),
            Self::HostNotAllowed => problem(
                StatusCode::FORBIDDEN,
                "host_not_allowed",
                "Not served by that name",
                format!("this server serves loopback's names; {ALLOWED_HOSTS}"),
            ),
            Self::OriginNotAllowed => problem(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "Not served to that site",
                format!("this server serves pages of loopback's sites; {ALLOWED_HOSTS}"),
            ),
            Self::UnsupportedMediaType => problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Wrong content type",
                "send Content-Type: application/json, in UTF-8".to_owned(),
            ),
            Self::UnsupportedEncoding => problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_encoding",
                "Wrong content encoding",
                "send the body without Content-Encoding, and with no Transfer-Encoding but chunked"
                    .to_owned(),
            ),
            Self::BodyTooLarge { bytes_max } => problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "Body too large",
                format!("the body may have at most {bytes_max} bytes"),
            ),
            Self::BodyTimeout | Self::BodySilent(_) => problem(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                "Body too slow",
                match self {
                    Self::BodySilent(limit) => {
                        format!("no byte of the body arrived for {limit:?}; nothing was stored")
                    }
                    _ => "the body did not arrive in time; nothing was stored".to_owned(),
                },
            ),
            Self::BodyBroken => problem(
                StatusCode::BAD_REQUEST,
                "body_broken",
                "Broken body",
                "the body ended early or its chunks are malformed; nothing was stored".to_owned(),
            ),
            Self::Refused(refusal) => refused(*refusal),
            // A code of its own: of all refusals, this is the one after which sending again may store twice.
            Self::OutcomeUnknown => Problem {
                code: "outcome_unknown",
                title: "Outcome unknown",
                detail: format!(
                    "{}; whether the events of this request survive is unknown: send them again, with an event_id each",
                    Refusal::Poisoned
                ),
                ..refused(Refusal::Poisoned)
            },
            Self::Parse(error) => {
                let (code, title) = match error {
                    ParseError::Json(_) => ("invalid_json", "Not the JSON that this path takes"),
                    ParseError::EmptyBulk => ("empty_bulk", "No events"),
                    ParseError::TooManyEvents { .. } => ("too_many_events", "Too many events"),
                    ParseError::Invalid { .. } => ("invalid_event", "Invalid event"),
                };
                problem(
                    StatusCode::BAD_REQUEST,
                    code,
                    title,
                    format!("{error}; nothing was stored"),
                )
            }
            Self::BadQuery { known, .. } => problem(
                StatusCode::BAD_REQUEST,
                "bad_query",
                "Bad query parameters",
                format!("see `errors`; the parameters are {}", known.join(", ")),
            ),
            Self::BadWait(_) => problem(
                StatusCode::BAD_REQUEST,
                "bad_query",
                "Bad query parameters",
                "see `errors`; the only parameter is wait=applied; nothing was stored".to_owned(),
            ),
            Self::NotAppliedYet(lag) => Problem {
                retry_after: Some(APPLIED_RETRY_AFTER),
                ..problem(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "not_applied_yet",
                    "Not in the database yet",
                    format!("{lag}; ask again with the same receipt"),
                )
            },
            Self::Store(error) => store_failed(error),
            Self::TooManyConnections => Problem {
                retry_after: Some(CONNECTION_RETRY_AFTER),
                ..problem(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too_many_connections",
                    "Too many connections",
                    "all connections are taken; keep connections open and share them".to_owned(),
                )
            },
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
            Self::Parse(ParseError::Invalid { errors, .. }) => {
                errors.iter().map(ListedError::from).collect()
            }
            Self::BadQuery { errors, .. } => errors.iter().map(ListedError::from).collect(),
            Self::BadWait(error) => vec![error.into()],
            _ => Vec::new(),
        }
    }
}

/// 429 says "slow down, it will be better in a moment"; 503 says "this cannot be stored now".
fn refused(refusal: Refusal) -> Problem {
    const SLOW_DOWN: (StatusCode, &str) = (StatusCode::TOO_MANY_REQUESTS, "Slow down");
    const CANNOT_STORE: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "Cannot store");
    let ((status, title), code) = match refusal {
        Refusal::BudgetFull => (SLOW_DOWN, "bytes_in_flight_full"),
        Refusal::RingFull => (SLOW_DOWN, "queue_full"),
        Refusal::LogFull => (CANNOT_STORE, "log_full"),
        Refusal::Mismatch => (CANNOT_STORE, "log_mismatch"),
        Refusal::Poisoned | Refusal::LogEnded => (CANNOT_STORE, "log_failed"),
        Refusal::Draining => (CANNOT_STORE, "draining"),
        Refusal::ClockUnset => (CANNOT_STORE, "clock_unset"),
    };
    Problem {
        status,
        code,
        title,
        detail: format!("{refusal}; nothing was stored"),
        retry_after: Some(Intake::retry_after(refusal)),
    }
}

/// The database's own words stay in the log: they may name hosts and users.
fn store_failed(error: &StoreError) -> Problem {
    let (status, code, title, detail) = match error {
        StoreError::Unavailable(_) | StoreError::Unclear { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            "Cannot query",
            "the database does not answer; events are still accepted and will be counted"
                .to_owned(),
        ),
        StoreError::QueriesBusy(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "queries_busy",
            "Too many queries at once",
            "other queries use all the connections that the server has for them; ask again, or let it have more \
             (--query-connections)"
                .to_owned(),
        ),
        StoreError::QueryTimeout(limit) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "query_timeout",
            "Query too slow",
            format!("the query took longer than {limit:?}; ask for a shorter range"),
        ),
        StoreError::Schema(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "database_schema",
            "Cannot query",
            "the database schema is not the one that this server needs; see the server's log"
                .to_owned(),
        ),
        StoreError::TooManyGroups { max } => (
            StatusCode::BAD_REQUEST,
            "too_many_groups",
            "Too many groups",
            format!(
                "the answer would have more than {max} groups; ask for a shorter range or group in another way"
            ),
        ),
        StoreError::QueryTooLarge(reason) => (
            StatusCode::BAD_REQUEST,
            "query_too_large",
            "Query too large",
            reason.clone(),
        ),
        StoreError::QueryMemory(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "query_memory",
            "Too many large queries",
            reason.clone(),
        ),
        StoreError::Data { .. } | StoreError::CheckpointMoved => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "A defect of the server",
            "the query failed in a way it should not; see the server's log".to_owned(),
        ),
    };
    let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(DATABASE_RETRY_AFTER);
    Problem {
        status,
        code,
        title,
        detail,
        retry_after,
    }
}
