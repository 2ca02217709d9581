//! The answer to a POST of events.

use serde::{Deserialize, Serialize};

/// The answer to events that are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// How many events are stored: all of the request.
    pub accepted: u64,
    /// Names the events to a later metrics query that must wait for them. Opaque to clients.
    #[serde(default)]
    pub receipt: String,
    /// Whether the events are in the database too; absent unless the request asked to wait for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<bool>,
}
