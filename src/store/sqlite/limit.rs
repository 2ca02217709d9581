//! When a query has to end, as checked by the thread that works on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A query has to end at `deadline`, or as soon as `cancelled` is set.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) deadline: Instant,
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Limit {
    /// Whether the query has to end now.
    pub(super) fn is_reached(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }
}
