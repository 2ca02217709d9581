//! What the benches share: bodies of distinct events, and a log in a directory of its own.

use std::fmt::Write as _;

use fast_ingest::event::Timestamp;

/// The instant that benches take for now: fixed, so that runs compare.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000)
}

/// A bulk body of `events` distinct events, as a product's backend would send them.
pub(crate) fn bulk_body(events: usize, with_metadata: bool) -> String {
    let mut body = String::from("[");
    for index in 0..events {
        let separator = if index == 0 { "" } else { "," };
        let metadata = if with_metadata {
            format!(
                r#","metadata":{{"page":"/pricing/{index}","referrer":"https://example.com/?q=event","ms":{index},"ok":true}}"#
            )
        } else {
            String::new()
        };
        write!(
            body,
            r#"{separator}{{"event_name":"page_view","channel":"web","user_id":"user-{:06}","timestamp":{}{metadata}}}"#,
            index * 7919 % 1_000_000,
            1_769_938_200_000_u64 + index as u64,
        )
        .expect("a String takes everything");
    }
    body.push(']');
    body
}
