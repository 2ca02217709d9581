//! `POST /events` and `POST /events/bulk`: check the head, ask for room, read, parse, submit, wait for the ack.
//!
//! Cheap checks come first: no body is read while there is no room for it, and nothing is stored before the whole body
//! is valid. Once a record is on the ring, the answer waits only for the log, unless the client asked for
//! `wait=applied`.

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, TRANSFER_ENCODING};
use hyper::http::request::Parts;

use super::App;
use super::applied;
use super::body::{RequestBody, Room};
use super::error::ApiError;
use super::response::{self, Response};
use crate::event::parse::{parse_bulk, parse_event};
use crate::event::validate::Window;
use crate::intake::Admission;
use crate::wal::refusal::Refusal;
use crate::wal::submission::EncodedRecord;

/// `POST /events`: stores one event.
pub(super) async fn event(app: &App, head: &Parts, body: &mut RequestBody<'_>) -> Result<Response, ApiError> {
    let is_waiting = applied::is_asked_for(head)?;
    let (bytes, admission) = receive(app, head, body, app.settings.event_bytes_max).await?;
    let mut record = EncodedRecord::with_capacity_for(bytes.len());
    parse_event(&bytes, window(app)?, record.buffer())?;
    record.set_event_count(1);
    // The admission ends with the ack: a request that waits longer must not keep its body.
    drop(bytes);
    submit(app, admission, record, is_waiting).await
}

/// `POST /events/bulk`: stores an array of events, all or none.
pub(super) async fn bulk(app: &App, head: &Parts, body: &mut RequestBody<'_>) -> Result<Response, ApiError> {
    let is_waiting = applied::is_asked_for(head)?;
    let (bytes, admission) = receive(app, head, body, app.settings.body_bytes_max).await?;
    let mut record = EncodedRecord::with_capacity_for(bytes.len());
    let event_count = parse_bulk(&bytes, app.settings.bulk_events_max, window(app)?, record.buffer())?;
    record.set_event_count(event_count);
    drop(bytes);
    submit(app, admission, record, is_waiting).await
}

/// The timestamps that events of this request may have.
fn window(app: &App) -> Result<Window, Refusal> {
    Ok(Window::new(app.clock.now()?, app.settings.event_age_max))
}

async fn receive(
    app: &App,
    head: &Parts,
    body: &mut RequestBody<'_>,
    bytes_max: usize,
) -> Result<(Bytes, Admission), ApiError> {
    check_content_type(&head.headers)?;
    check_encodings(&head.headers)?;
    app.clock.now()?;
    let room = Room::reserve(&app.intake, body, bytes_max)?;
    body.read(room, app.settings.body_timeout).await
}

async fn submit(
    app: &App,
    admission: Admission,
    record: EncodedRecord,
    is_waiting: bool,
) -> Result<Response, ApiError> {
    let event_count = record.event_count();
    let outcome = app.intake.submit(admission, record).await;
    let through = outcome.map_err(|refusal| match refusal {
        // The log had the record when it failed, so the events may be stored or not.
        Refusal::Poisoned => ApiError::OutcomeUnknown,
        refusal => refusal.into(),
    })?;
    let applied = if is_waiting {
        Some(applied::is_applied_soon(app, through).await)
    } else {
        None
    };
    let receipt = app.applied.receipt(through);
    Ok(response::accepted(event_count, receipt, applied))
}

/// Requiring JSON keeps out HTML forms of other sites: a browser sends this type only after a CORS preflight, which the
/// server does not grant.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    match single_value(headers, &CONTENT_TYPE) {
        Some(b"application/json") => Ok(()),
        Some(value) if is_json_in_utf8(value) => Ok(()),
        _ => Err(ApiError::UnsupportedMediaType),
    }
}

/// Refuses bodies that are encoded in any way but chunked. hyper checks only whether `chunked` is the last of the
/// transfer codings, and decodes only that one.
fn check_encodings(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_none_but = |name: &HeaderName, plain: &[u8]| {
        !headers.contains_key(name)
            || single_value(headers, name).is_some_and(|value| value.eq_ignore_ascii_case(plain))
    };
    if is_none_but(&CONTENT_ENCODING, b"identity") && is_none_but(&TRANSFER_ENCODING, b"chunked") {
        Ok(())
    } else {
        Err(ApiError::UnsupportedEncoding)
    }
}

/// The value of a header that occurs exactly once.
fn single_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// `application/json` with any parameters, as long as a `charset` among them is UTF-8.
fn is_json_in_utf8(content_type: &[u8]) -> bool {
    let mut parts = content_type.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let is_json = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case(b"application/json"));
    is_json
        && parts.all(|parameter| {
            let Some(equals) = parameter.iter().position(|&byte| byte == b'=') else {
                return true;
            };
            let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
            let unquoted = value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .unwrap_or(value);
            !name.eq_ignore_ascii_case(b"charset") || unquoted.eq_ignore_ascii_case(b"utf-8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_type_is_json_in_utf8() {
        let good: [&[u8]; 6] = [
            b"application/json",
            b"Application/JSON",
            b"application/json; charset=utf-8",
            b"application/json;charset=\"UTF-8\"",
            b"application/json; profile=x; charset=utf-8",
            b"application/json;",
        ];
        let bad: [&[u8]; 7] = [
            b"",
            b"text/plain",
            b"application/jsonp",
            b"application/x-www-form-urlencoded",
            b"application/json; charset=latin1",
            b"application/json; charset=utf-8; charset=utf-16",
            b"text/plain; application/json",
        ];
        for content_type in good {
            assert!(is_json_in_utf8(content_type), "{}", content_type.escape_ascii());
        }
        for content_type in bad {
            assert!(!is_json_in_utf8(content_type), "{}", content_type.escape_ascii());
        }
    }
}
