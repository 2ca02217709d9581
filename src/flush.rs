//! From the log into the store: a thread of its own that tails the log, batches, and flushes, exactly once.
//!
//! The [`worker`] owns the loop; [`backoff`] paces its retries. What makes it exactly once is not here but in the store's
//! compare-and-set: this side may repeat a flush as often as it likes.

pub mod backoff;
pub mod worker;

pub use worker::{FlushError, FlushStop, Flusher};

#[cfg(test)]
mod tests;
