//! Answers whose body is in memory: the cheap 202, JSON, and RFC 9457 problems.

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde::Serialize;

/// An answer whose body is in memory.
pub(super) type Response = hyper::Response<Full<Bytes>>;

/// The 202 of a request whose events are durable.
pub(super) fn accepted(event_count: u32) -> Response {
    let body = match event_count {
        // By far the most frequent answer: it costs no formatting and no allocation.
        1 => Bytes::from_static(b"{\"accepted\":1}"),
        _ => Bytes::from(format!("{{\"accepted\":{event_count}}}")),
    };
    with_body(StatusCode::ACCEPTED, "application/json", body)
}

/// An answer with a JSON body.
///
/// # Panics
///
/// When the value does not serialize. All of ours are plain structs with string keys, which always do.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    with_body(status, "application/json", to_json(value))
}

/// An answer with an RFC 9457 body. For its panics see [`json`].
pub(super) fn problem(status: StatusCode, value: &impl Serialize) -> Response {
    with_body(status, "application/problem+json", to_json(value))
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn to_json(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("plain structs serialize"))
}
