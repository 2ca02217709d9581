//! From the log into the store: a thread of its own that tails the log, batches, and flushes, exactly once.
//!
//! The [`worker`] owns the loop: `look` finds out and `checkpoint` judges where it may go on, `bisect` flushes a batch
//! around bad events, `stop` ends it. [`progress`] tells others how far it is, and `lag` since when. What makes it
//! exactly once is not here but in the store's compare-and-set: this side may repeat a flush as often as it likes.

mod bisect;
pub mod checkpoint;
mod lag;
mod look;
pub mod progress;
pub mod settings;
mod stop;
pub mod worker;

pub use lag::Behind;
pub use stop::FlushStop;
pub use worker::{FlushError, Flusher};

#[cfg(test)]
mod tests;
