//! From the log into the store: a thread of its own that tails the log, batches, and flushes, exactly once.
//!
//! The [`worker`] owns the loop: `look` reads the checkpoint and `checkpoint` judges whether the flush may go on from
//! there, `bisect` flushes a batch around bad events, `stop` ends the loop. [`progress`] publishes how far the flush
//! has come, and `lag` since when it is behind. Exactly-once comes from the store's compare-and-set, not from this
//! module: this side may repeat a flush as often as it likes.

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
