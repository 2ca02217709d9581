//! How the flush is told to end, and work that ends with it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::flush::progress::Progress;

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

/// How long a drain waits for a database where all is flushed: one that is there and has gone back says so in this
/// time.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Runs `work`, unless the flush is told to end first: then `None`, and the outcome of the work is unknown. Where
/// nothing is left to be flushed, as far as is known, a drain ends it soon.
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
            FlushStop::Drain(until) if progress.flush_lag() == 0 => until.min(Instant::now() + LAST_LOOK),
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
