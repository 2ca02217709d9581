//! What a Rust user has without us: serde_json into borrowed structs with the same fields, no checks, no encoding.

use std::borrow::Cow;
use std::hint::black_box;

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[allow(dead_code, reason = "only parsed")]
struct BorrowedEvent<'a> {
    #[serde(borrow)]
    event_name: Cow<'a, str>,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    timestamp: u64,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// Parses a bulk body.
pub(crate) fn parse_bulk(body: &[u8]) {
    let events: Result<Vec<BorrowedEvent>, _> = serde_json::from_slice(black_box(body));
    black_box(events.expect("a valid body"));
}
