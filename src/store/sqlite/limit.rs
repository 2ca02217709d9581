//! When a query has to end, as the thread that works on it sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// When a query has to end.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) deadline: Instant,
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Limit {
    /// Whether that is now.
    pub(super) fn is_reached(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }
}
