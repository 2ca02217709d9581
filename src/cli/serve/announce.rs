//! What a server says of itself between start and end: what it found, what waits, what it leaves.

use std::time::Duration;

use crate::cli::settings::Settings;
use crate::event::Timestamp;
use crate::flush::progress::Progress;
use crate::intake::Clock;
use crate::intake::clock::RELEASED_AFTER;
use crate::store;
use crate::support::words::plural;
use crate::wal::OpenedLog;
use crate::wal::settings::SyncMode;

/// Before it listens. The database has been looked at if it answered.
pub(super) fn start(opened: &OpenedLog, settings: &Settings, progress: &Progress) {
    let (log, dir) = (&opened.log, settings.wal.dir.display());
    if let Some(tail) = &opened.torn_tail {
        let (segment, offset, bytes) = (tail.segment.display(), tail.offset, tail.bytes);
        let copy = tail.copy.as_deref().unwrap_or(&tail.segment).display();
        tracing::warn!(
            %segment,
            offset,
            bytes,
            first_sequence = tail.first_sequence,
            last_sequence = tail.last_sequence,
            %copy,
            "cut {tail}; it is kept in {copy}. A write that a crash cut short leaves such a tail, and was never answered; damage to the \
             newest events cannot be told from it: where they were answered 202, send them again"
        );
    }
    let (through, lag) = (log.recovered_through(), progress.flush_lag());
    tracing::info!(
        wal_id = %log.wal_id(),
        recovered_through = through,
        lag_events = lag,
        "log {dir} recovered through sequence {through}, {} to be flushed; events go to {}",
        plural(lag, "event"),
        store::describe(&settings.store.location)
    );
    if let Err(refusal) = Clock::SYSTEM.now() {
        let (now, released) = (Timestamp::now(), RELEASED_AFTER);
        tracing::warn!(
            "{refusal}: it says {now}, and this program was made after {released}; events are refused (503) until it is right"
        );
    }
    if let SyncMode::Interval(interval) = settings.wal.sync {
        tracing::warn!("--sync interval: a 202 does not mean on disk; a power cut may lose the last {interval:?}");
    }
}

/// After the connections were told to finish.
pub(super) fn cut(connections: usize) {
    if connections > 0 {
        tracing::warn!(
            connections,
            "cut {} that did not finish in time",
            plural(connections, "connection")
        );
    }
}

/// Before the last flush.
pub(super) fn last_flush(progress: &Progress, drain_timeout: Duration) {
    let Some(behind) = progress.behind() else {
        return;
    };
    let late = behind.since.map_or_else(String::new, |(_, age)| {
        format!(", the flush is {} s behind", age.as_secs())
    });
    tracing::info!(
        lag_events = behind.events,
        "flushing what the log holds, for at most {drain_timeout:?}: {}{late}",
        plural(behind.events, "event")
    );
}

/// At the end.
pub(super) fn end(progress: &Progress) {
    let lag = progress.flush_lag();
    tracing::info!(
        left_in_log = lag,
        "stopped; {} left in the log for the next start",
        plural(lag, "event")
    );
}
