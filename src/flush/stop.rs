//! How the flush is told to end, and how its work is cut short.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::flush::progress::Progress;

/// What the composition root tells the flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushStop {
    /// Keep flushing.
    Running,
    /// The log will not grow any more: flush what it holds, but end at this instant.
    Drain(Instant),
    /// End before the next batch.
    Now,
}

/// Length of an idle wait, which only an event or a stop ends early.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// How long a drain waits for the database when everything is flushed: enough to learn from a reachable database that
/// it has gone back.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Runs `work`, unless the flush is told to end first: then returns `None`, and the outcome of the work is unknown. If
/// nothing is left to flush, as far as is known, a drain ends the work after `LAST_LOOK`.
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
