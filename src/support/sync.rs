//! The primitives that threads share on an event's way into the log, under one name each: atomics, locks, channels for
//! acks and watermarks, and the ring.
//!
//! In every build but one they are plain re-exports of std, tokio and crossbeam. Unit tests with the feature `shuttle`
//! get versions whose every step waits for a scheduler, so that `schedules` can run the same code in thousands of
//! orders. Such a build runs no other test of code that uses them: outside the scheduler they panic.

#[cfg(not(all(test, feature = "shuttle")))]
pub(crate) use {
    crossbeam_channel as ring,
    std::sync::{Mutex, MutexGuard, atomic},
    tokio::sync::{oneshot, watch},
};

#[cfg(all(test, feature = "shuttle"))]
pub(crate) use {
    shuttle::sync::{Mutex, MutexGuard, atomic},
    shuttle_tokio::sync::{oneshot, watch},
};

#[cfg(test)]
#[cfg(feature = "shuttle")]
pub(crate) mod ring;
