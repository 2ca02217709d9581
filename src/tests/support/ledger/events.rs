//! The events that the clients of a ledger send: each is derived from its user, so that nothing has to be remembered.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::json;

use crate::support::process::stored::StoredEvent;

/// 2026-01-29T00:00:00Z: the events spread over six days and two months.
const FIRST_SECOND: i64 = 1_769_644_800;
const SECONDS: u64 = 6 * 86_400;

/// A request's path, body and number of events. One in eight is a single event.
pub(super) fn compose(client: u32, request: u32) -> (&'static str, String, u32) {
    let hash = hash_of(&(client, request));
    if is_single(client, request) {
        return ("/events", body_of(&user_of(client, request, 0)), 1);
    }
    let events = 1 + u32::try_from(hash % 30).unwrap();
    let bodies: Vec<_> = (0..events)
        .map(|index| body_of(&user_of(client, request, index)))
        .collect();
    ("/events/bulk", format!("[{}]", bodies.join(",")), events)
}

/// Whether a request is a single event.
pub(super) fn is_single(client: u32, request: u32) -> bool {
    hash_of(&(client, request)).is_multiple_of(8)
}

pub(super) fn user_of(client: u32, request: u32, index: u32) -> String {
    format!("c{client}-r{request}-e{index}")
}

/// The row that a user's event must become.
pub(crate) fn event_of(user_id: &str) -> StoredEvent {
    let hash = hash_of(&user_id);
    let micros = i64::try_from(hash % (SECONDS * 1_000_000)).unwrap();
    StoredEvent {
        user_id: user_id.to_owned(),
        event_name: format!("name-{}", hash % 3),
        channel: format!("kanal-ü{}", hash % 5),
        ts_micros: FIRST_SECOND * 1_000_000 + micros,
        event_id: None,
        campaign_id: hash.is_multiple_of(7).then(|| format!("campaign {hash}")),
        tags: hash
            .is_multiple_of(5)
            .then(|| json!([format!("{hash:x}"), "ta\"g", "é"])),
        metadata: (!hash.is_multiple_of(4))
            .then(|| json!({"hash": hash.to_string(), "nested": {"n": [hash % 100, null, 1.5]}})),
    }
}

/// A user's event as it is sent.
pub(crate) fn body_of(user_id: &str) -> String {
    let event = event_of(user_id);
    let mut body = format!(
        r#"{{"event_name":"{}","channel":"{}","user_id":"{user_id}","timestamp":{}"#,
        event.event_name, event.channel, event.ts_micros
    );
    if let Some(campaign) = event.campaign_id {
        write!(body, r#","campaign_id":"{campaign}""#).unwrap();
    }
    for (name, value) in [("tags", event.tags), ("metadata", event.metadata)] {
        if let Some(value) = value {
            write!(body, r#","{name}":{value}"#).unwrap();
        }
    }
    body + "}"
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A bulk request of one event for each user.
pub(crate) fn bulk_of(users: &[String]) -> String {
    let bodies: Vec<_> = users.iter().map(|user| body_of(user)).collect();
    format!("[{}]", bodies.join(","))
}
