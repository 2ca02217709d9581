//! One connection to the server, and what its answers mean.

use std::time::Duration;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::refused::Reason;
use crate::api::events::Accepted;
use crate::api::problem::{Code, ListedError, Problem};
use crate::api::routes::BULK;
use crate::cli::request;
use crate::cli::text::printable;

/// Time for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a request and its answer. A frozen server keeps its connections open for ever; a live one answers much
/// faster than this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for which an unused connection is kept: less than the server's 75 s, so that the server does not close it
/// during a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is read. The longest of a server lists 100 events with 8 problems each, of some 600 bytes at
/// most: a name of up to 64 bytes, escaped, and a sentence.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Where batches go.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    uri: Uri,
}

impl Endpoint {
    /// The bulk route of the server at `url`.
    ///
    /// # Errors
    ///
    /// A text for the user if the URL cannot be used.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let uri = request::uri(url, BULK)?;
        Ok(Self { uri })
    }
}

/// The outcome of one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The server has accepted or refused the request.
    Verdict(Verdict),
    /// The server did neither, or its answer got lost: send the same request again.
    Retry {
        /// What happened, for the user.
        why: String,
        /// The server's `Retry-After`.
        after: Option<Duration>,
    },
}

/// The server's verdict on a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This number of events is stored.
    Accepted(usize),
    /// Nothing is stored, because these events are refused.
    EventsRefused {
        /// Index in the array and reason, sorted by index. An index occurs once for each reason; if very many events
        /// are refused, only the first ones are here.
        reasons: Vec<(usize, Reason)>,
        /// Number of all refused events.
        invalid_count: usize,
    },
    /// Nothing is stored, because the request as a whole cannot be read.
    RequestRefused(Reason),
    /// Nothing is stored: the request has more bytes than the server takes.
    TooLarge(Reason),
    /// Nothing is stored: the request has more events than the server takes.
    TooMany(Reason),
    /// The answer is not one of a fast-ingest server; its text is for the user.
    NotOurs(String),
}

/// A keep-alive connection, opened on first use and reopened after it broke.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: Endpoint,
}

impl Connection {
    /// A connection to `endpoint`.
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .build(connector);
        Self {
            client,
            endpoint: endpoint.clone(),
        }
    }

    /// Sends one bulk request and reads the answer.
    pub(super) async fn post(&self, body: Bytes) -> Attempt {
        match tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Attempt::Retry {
                why: error.to_string(),
                after: None,
            },
            Err(_) => {
                let why = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
                Attempt::Retry { why, after: None }
            }
        }
    }

    async fn exchange(&self, body: Bytes) -> anyhow::Result<Attempt> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.endpoint.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, request::AGENT)
            .body(Full::new(body))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| anyhow!(root_cause(&error)))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = match body {
            Ok(body) => body.to_bytes(),
            // No fast-ingest server answers at such length: only the status counts, and a retry would change nothing.
            Err(error) if error.is::<LengthLimitError>() => Bytes::new(),
            Err(error) => bail!("the answer broke off: {error}"),
        };
        Ok(interpret(head.status, &head.headers, &body))
    }
}

/// The text of the innermost error: "Connection refused" says more than "client error (Connect)".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The reason for one line, from an error in the server's list.
fn reason(error: ListedError<'_>) -> Reason {
    Reason {
        field: error.field.into_owned(),
        code: error.code.into_owned(),
        message: error.message.into_owned(),
    }
}

/// The reason from a problem with the request as a whole.
fn reason_of_line(problem: &Problem<'_>) -> Reason {
    Reason::of_line(problem.code.as_ref(), problem.text())
}

fn interpret(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Attempt {
    let problem = serde_json::from_slice::<Problem<'static>>(body).ok();
    // JSON without a code is from another program.
    let problem = problem.filter(|problem| !problem.code.is_empty());
    if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
        let detail = problem
            .map(|problem| format!(": {}", printable(problem.text())))
            .unwrap_or_default();
        let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        return Attempt::Retry {
            why: format!("{status}{detail}"),
            after,
        };
    }
    Attempt::Verdict(match (status, problem) {
        (StatusCode::ACCEPTED, _) => match serde_json::from_slice::<Accepted>(body) {
            Ok(stored) => Verdict::Accepted(stored.accepted as usize),
            Err(_) => Verdict::NotOurs(format!("{status} without a number of events")),
        },
        (StatusCode::BAD_REQUEST, Some(problem)) if problem.code == Code::TooManyEvents.kind().name => {
            Verdict::TooMany(reason_of_line(&problem))
        }
        (StatusCode::BAD_REQUEST, Some(problem)) if problem.errors.is_empty() => {
            Verdict::RequestRefused(reason_of_line(&problem))
        }
        (StatusCode::BAD_REQUEST, Some(problem)) => {
            let invalid_count = problem.invalid_count.unwrap_or_default();
            let mut reasons: Vec<_> = problem
                .errors
                .into_iter()
                .filter_map(|error| Some((error.index?, reason(error))))
                .collect();
            reasons.sort_by_key(|(index, _)| *index);
            Verdict::EventsRefused { reasons, invalid_count }
        }
        (StatusCode::PAYLOAD_TOO_LARGE, Some(problem)) => Verdict::TooLarge(reason_of_line(&problem)),
        // A proxy in front of the server has its own limits and answers in its own form.
        (StatusCode::PAYLOAD_TOO_LARGE, None) => {
            let message = "is larger than the server takes";
            Verdict::TooLarge(Reason::of_line("too_large", message))
        }
        (_, Some(problem)) => Verdict::NotOurs(format!("{status}: {}", printable(problem.text()))),
        (_, None) => Verdict::NotOurs(status.to_string()),
    })
}

#[cfg(test)]
mod tests;
