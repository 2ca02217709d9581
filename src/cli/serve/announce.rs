//! Log lines of a server's start and end: what it found, what it still flushes, what it leaves in the log.

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

/// Logs what the start has found, before the server listens. The lag is known if the database has answered.
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
            "cut {tail}; it is kept in {copy}. A crash in the middle of a write leaves such a tail, and its events were never answered. \
             Damage to the newest events looks the same: if they were answered 202, send them again"
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
            "{refusal}: it says {now}, and this program was built after {released}; events are refused (503) until the clock is set"
        );
    }
    if let SyncMode::Interval(interval) = settings.wal.sync {
        tracing::warn!("--sync interval: a 202 does not mean on disk; a power cut may lose the last {interval:?}");
    }
}

/// Logs how many connections the drain had to cut.
pub(super) fn cut(connections: usize) {
    if connections > 0 {
        tracing::warn!(
            connections,
            "cut {} that did not finish in time",
            plural(connections, "connection")
        );
    }
}

/// Logs what is still to be flushed, before the last flush.
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

/// Logs how many events stay in the log, at the end.
pub(super) fn end(progress: &Progress) {
    let lag = progress.flush_lag();
    tracing::info!(
        left_in_log = lag,
        "stopped; {} left in the log for the next start",
        plural(lag, "event")
    );
}
