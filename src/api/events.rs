//! The answer to a POST of events.

use serde::{Deserialize, Serialize};

/// The answer to events that are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// How many events are stored: all of the request.
    pub accepted: u64,
    /// Names them where a question is to wait for them. Opaque to clients.
    #[serde(default)]
    pub receipt: String,
    /// Whether they are in the database as well; only where the request asked to wait for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<bool>,
}
