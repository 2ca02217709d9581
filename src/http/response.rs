//! Answers whose body is in memory: the frequent 202, JSON, and RFC 9457 problems.
//!
//! Each body ends with a line feed, which JSON allows, so that a terminal shows its prompt on a new line.

use std::io::{Cursor, Write as _};

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use serde::Serialize;

use crate::api::problem::Kind;
use crate::api::receipt::Receipt;

/// An answer whose body is in memory.
pub(super) type Response = hyper::Response<Full<Bytes>>;

/// Longest body of [`accepted`]: its fixed text and line feed, the count, the receipt.
const ACCEPTED_BYTES_MAX: usize = 49 + 10 + Receipt::CHARS_MAX;

/// The answer to a request whose events are durable. `applied` says whether they are in the database as well; `None` if
/// the client did not ask. The status is 200 if they are, because nothing is left to be done, and otherwise 202.
pub(super) fn accepted(event_count: u32, receipt: Receipt, applied: Option<bool>) -> Response {
    let status = match applied {
        Some(true) => StatusCode::OK,
        Some(false) | None => StatusCode::ACCEPTED,
    };
    let applied = match applied {
        Some(true) => ",\"applied\":true",
        Some(false) => ",\"applied\":false",
        None => "",
    };
    // By far the most frequent answer, so it is written without serde: on the stack, then into one allocation of its
    // exact size.
    let mut body = Cursor::new([0; ACCEPTED_BYTES_MAX]);
    writeln!(
        body,
        "{{\"accepted\":{event_count},\"receipt\":\"{receipt}\"{applied}}}"
    )
    .expect("the longest answer fits");
    let length = body.position() as usize;
    let body = Bytes::copy_from_slice(&body.get_ref()[..length]);
    with_body(status, "application/json", body)
}

/// An answer with a JSON body.
///
/// # Panics
///
/// When the value does not serialize. All answers are plain structs with string keys, which always do.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    with_body(status, "application/json", to_json(value))
}

/// The answer to OPTIONS: 204 with the methods of a route in `Allow`, and no CORS headers.
pub(super) fn allowed(methods: &'static str) -> Response {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer with an RFC 9457 body. Panics like [`json`].
pub(super) fn problem(status: StatusCode, value: &impl Serialize) -> Response {
    with_body(status, "application/problem+json", to_json(value))
}

/// Adds `Retry-After` for problems where asking again may help.
pub(super) fn add_retry_after(response: &mut Response, kind: &Kind) {
    if let Some(seconds) = kind.retry_after {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
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
    let mut body = serde_json::to_vec(value).expect("plain structs serialize");
    body.push(b'\n');
    Bytes::from(body)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use uuid::Uuid;

    use super::*;
    use crate::api::events::Accepted;

    async fn text(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_longest_and_the_shortest_202_are_whole() {
        let receipt = |life, through| Receipt {
            life: Uuid::from_u128(life),
            through,
        };
        let zeros = "0".repeat(32);
        assert_eq!(
            text(accepted(1, receipt(0, 1), None)).await,
            (202, format!(r#"{{"accepted":1,"receipt":"{zeros}1"}}"#) + "\n")
        );
        let ones = "f".repeat(48);
        assert_eq!(
            text(accepted(u32::MAX, receipt(u128::MAX, u64::MAX), Some(false))).await,
            (
                202,
                format!(r#"{{"accepted":4294967295,"receipt":"{ones}","applied":false}}"#) + "\n"
            )
        );
        assert_eq!(
            text(accepted(2, receipt(0, 2), Some(true))).await,
            (
                200,
                format!(r#"{{"accepted":2,"receipt":"{zeros}2","applied":true}}"#) + "\n"
            )
        );
    }

    #[tokio::test]
    async fn what_is_written_by_hand_is_what_its_readers_take_it_for() {
        let receipt = || Receipt {
            life: Uuid::from_u128(7),
            through: 9,
        };
        for applied in [None, Some(false), Some(true)] {
            let answer = Accepted {
                accepted: 3,
                receipt: receipt().to_string(),
                applied,
            };
            let (_, body) = text(accepted(3, receipt(), applied)).await;
            assert_eq!(body, serde_json::to_string(&answer).unwrap() + "\n");
        }
    }
}
