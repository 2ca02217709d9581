//! A quarantined event as text, for the person who has to decide what becomes of it.

use serde_json::value::RawValue;

use crate::event::EventRef;

/// The event as JSON text that any database stores, whatever is wrong with the event: U+0000 is replaced by U+FFFD.
///
/// It can be corrected and posted again. Metadata that is not JSON is shown as a string.
pub(super) fn readable(event: &EventRef<'_>) -> String {
    #[derive(serde::Serialize)]
    struct Readable<'a> {
        event_name: &'a str,
        channel: &'a str,
        user_id: &'a str,
        /// In microseconds, which the wire accepts for all but the first days of 1970.
        timestamp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        campaign_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tags: Option<Vec<&'a str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<Metadata<'a>>,
    }

    #[derive(serde::Serialize)]
    #[serde(untagged)]
    enum Metadata<'a> {
        Json(&'a RawValue),
        Text(&'a str),
    }

    let metadata = event.metadata.map(|text| match serde_json::from_str(text) {
        Ok(json) => Metadata::Json(json),
        Err(_) => Metadata::Text(text),
    });
    let readable = Readable {
        event_name: event.event_name,
        channel: event.channel,
        user_id: event.user_id,
        timestamp: event.timestamp.as_micros(),
        event_id: event.event_id,
        campaign_id: event.campaign_id,
        tags: event.tags.map(|tags| tags.iter().collect()),
        metadata,
    };
    let text = serde_json::to_string(&readable).expect("strings and numbers always serialize");
    without_nul(&text)
}

/// Replaces U+0000, which PostgreSQL does not store, by U+FFFD.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
