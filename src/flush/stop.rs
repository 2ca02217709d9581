//! How the flush is told to end, and work that ends with it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::telemetry::Progress;

/// What the flush is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushStop {
    /// Go on.
    Running,
    /// The log will not grow any more: flush what it holds, but end at this instant.
    Drain(Instant),
    /// End before the next batch.
    Now,
}

/// An idle wait's length, where only an event or a stop matters.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Runs `work`, unless the flush is told to end first: then `None`, and the outcome of the work is unknown. Where nothing is left to be
/// flushed, a drain ends it at once.
pub(super) async fn unless_stopped<T>(
    stop: &mut watch::Receiver<FlushStop>,
    progress: &Progress,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(work);
    loop {
        let told = *stop.borrow_and_update();
        let deadline = match told {
            FlushStop::Now => return None,
            FlushStop::Drain(_) if progress.flush_lag() == 0 => return None,
            FlushStop::Drain(until) => until,
            FlushStop::Running => Instant::now() + MINUTE,
        };
        tokio::select! {
            done = timeout_at(deadline, &mut work) => match (done, told) {
                (Ok(done), _) => return Some(done),
                (Err(_), FlushStop::Running) => {}
                (Err(_), _) => return None,
            },
            changed = stop.changed() => if changed.is_err() { return None },
        }
    }
}
