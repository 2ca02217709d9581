//! `GET /health`: whether events can be accepted, and how far log and flush are.
//!
//! The question is "can a client send?". So a database that is down is `degraded` with 200: orchestrators restart a
//! server on any other status, which would not help here and would only lose the connections.

use std::time::Duration;

use hyper::StatusCode;

use super::App;
use super::error::code_of_refusal;
use super::response::{self, Response};
use crate::api::health::{Events, Flush, Health, Log, Queue};
use crate::flush::checkpoint::WHAT_TO_DO;
use crate::flush::progress::FlushState;
use crate::telemetry::log_lines_dropped;
use crate::wal::refusal::Refusal;

/// Answers from memory, without taking a lock that is held during disk or database work.
pub(super) fn health(app: &App) -> Response {
    let behind = app.progress.behind();
    let (flush_state, flush_trouble) = describe_flush(&app.progress.flush_state());
    let refusal = app.intake.check_open().and(app.clock.now().map(drop)).err();
    let events = app.progress.balance().map(|balance| Events {
        accepted: balance.accepted,
        applied: balance.counts.applied,
        duplicates: balance.counts.duplicates,
        quarantined: balance.counts.quarantined,
        skipped: balance.counts.skipped,
        pending: balance.pending,
        unaccounted: balance.unaccounted(),
    });
    let (http_status, status, reason) = match (refusal, flush_trouble) {
        (Some(refusal), _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            Some(describe_refusal(refusal, &app.progress.flush_state())),
        ),
        (None, Some(trouble)) => (StatusCode::OK, "degraded", Some(trouble)),
        (None, None) => (StatusCode::OK, "ok", None),
    };
    let body = Health {
        status: status.into(),
        reason,
        version: env!("CARGO_PKG_VERSION").into(),
        store: app.store.name().into(),
        queue: Queue {
            depth: app.intake.queue_depth(),
            capacity: app.intake.queue_capacity(),
        },
        log: Log {
            bytes: app.gate.bytes_used(),
            durable_through: app.progress.durable_through(),
        },
        flush: Flush {
            state: flush_state.into(),
            flushed_through: app.progress.flushed_through(),
            lag_events: behind.map_or(0, |behind| behind.events),
            lag_seconds: match behind {
                None => Some(0.0),
                Some(behind) => behind.since.map(|(_, age)| in_tenths(age)),
            },
        },
        events,
        log_lines_dropped: log_lines_dropped(),
    };
    let mut response = response::json(http_status, &body);
    if let Some(refusal) = refusal {
        response::add_retry_after(&mut response, code_of_refusal(refusal).kind());
    }
    response
}

/// Why events are refused. For a mismatch the full reason: the server wrote that text itself, not the database.
fn describe_refusal(refusal: Refusal, flush: &FlushState) -> String {
    match (refusal, flush) {
        (Refusal::Mismatch, FlushState::Asking { reason }) => {
            format!("{refusal}: {reason}. {WHAT_TO_DO}")
        }
        _ => refusal.to_string(),
    }
}

/// The name of the state, and what is wrong. The database's messages are only logged: they may name hosts and users.
fn describe_flush(state: &FlushState) -> (&'static str, Option<String>) {
    match state {
        FlushState::Running => ("running", None),
        FlushState::Starting => (
            "starting",
            Some("the database has not answered yet; events wait in the log".to_owned()),
        ),
        FlushState::Retrying { since, .. } => {
            let seconds = since.elapsed().as_secs();
            (
                "retrying",
                Some(format!(
                    "the database has been unavailable for {seconds} s; events wait in the log"
                )),
            )
        }
        FlushState::Asking { reason } => ("stopped", Some(format!("flushing has stopped: {reason}"))),
        FlushState::Stopped { .. } => (
            "stopped",
            Some("flushing has stopped and needs a person, see the server's log; events wait in the log".to_owned()),
        ),
    }
}

/// Seconds, rounded up to tenths.
fn in_tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).ceil() / 10.0
}
