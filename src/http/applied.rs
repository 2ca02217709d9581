//! Waiting until accepted events are *applied*: in the database, where metrics see them.
//!
//! A quarantined event counts as applied: it is in the database, in quarantine, and waiting longer would not bring it
//! into the metrics. A receipt never becomes applied if a power cut lost its acknowledged events (`--sync interval`;
//! events of another life then get their sequences), if a person skipped them, or if it comes from a copy of a log that
//! its server refuses. One case cannot be detected: if a virtual machine is cloned while it runs, both go on in one
//! life, and nothing distinguishes their receipts.
//!
//! The connection's task awaits all of this, so a client that goes away ends its wait. A waiting request holds no
//! database connection, and however many wait for the logs of other servers, only one of them at a time reads the
//! database.

use std::collections::HashMap;
use std::time::Duration;

use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::App;
use super::error::{ApiError, ParameterError};
use super::lag::Lag;
use crate::api::receipt::Receipt;
use crate::store::{EventStore, QueryError, StoreError, Stretch};
use crate::support::shutdown::StopToken;
use crate::wal::id::{LifeId, Sequence};

/// How long a query waits for a receipt: as long as the query itself may take by default. A healthy flush takes a
/// fraction of a second, so a longer wait would only hide that the flush is behind.
const QUERY_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a POST waits for its events. The events are durable already, and the client gets its receipt either way.
/// Many clients give up on a request after 10 s and send everything again, so half of that.
const POST_WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause between reads of the checkpoint of another server's log: half of the interval at which that server flushes by
/// default.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What waiting needs beside the rest of [`App`]; one for each server.
#[derive(Debug)]
pub struct Applied {
    /// The life that this server began in its log.
    life: LifeId,
    /// Ends all waits: a waiting request must not delay the shutdown.
    drain: StopToken,
    /// The last look at each life that the database knows. Locked during a look, so that all waiting requests share one
    /// database connection.
    looks: Mutex<HashMap<LifeId, Look>>,
}

#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    /// What the database has of the life.
    stored: Vec<Stretch>,
}

/// What a look says about one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Stored,
    Missing(Lag),
}

impl Applied {
    /// For the server that began this `life` of its log. All waits end at `drain`.
    pub fn new(life: LifeId, drain: StopToken) -> Self {
        Self {
            life,
            drain,
            looks: Mutex::default(),
        }
    }

    /// The receipt for what this server's log holds up to `through`.
    pub(super) fn receipt(&self, through: Sequence) -> Receipt {
        Receipt {
            life: self.life.0,
            through,
        }
    }

    /// Whether the database has the event of a receipt, or had it at most [`LOOK_INTERVAL`] ago and not before `since`.
    async fn look(
        &self,
        store: &dyn EventStore,
        receipt: Receipt,
        since: Option<Instant>,
    ) -> Result<Found, QueryError> {
        let Receipt { life, through } = receipt;
        let life = LifeId(life);
        let mut looks = self.looks.lock().await;
        if let Some(look) = looks.get(&life)
            && look.at.elapsed() < LOOK_INTERVAL
            && since.is_none_or(|since| look.at >= since)
        {
            return Ok(found(&look.stored, through));
        }
        let at = Instant::now();
        let stored = store.stored_of(life).await?;
        let found = found(&stored, through);
        // Unknown lives are not kept: clients could invent any number of them.
        if !stored.is_empty() {
            looks.insert(life, Look { at, stored });
        }
        Ok(found)
    }
}

fn found(stored: &[Stretch], through: Sequence) -> Found {
    if stored.iter().any(|stretch| stretch.contains(through)) {
        Found::Stored
    } else if stored.iter().any(|stretch| stretch.may_get(through)) {
        Found::Missing(Lag::Behind(QUERY_WAIT_MAX))
    } else if stored.is_empty() {
        Found::Missing(Lag::UnknownLog)
    } else {
        Found::Missing(Lag::Passed)
    }
}

/// Waits until the events of a receipt, from this server or another one, are in this server's database.
///
/// # Errors
///
/// When the events are not there in time, or the database does not answer.
pub(super) async fn wait_for(app: &App, receipt: Receipt) -> Result<(), ApiError> {
    let mut drain = app.applied.drain.clone();
    tokio::select! {
        // First, so that events that are there already are an answer in a drain too.
        biased;
        waited = wait_in_time(app, receipt) => waited,
        () = drain.stopped() => Err(ApiError::NotAppliedYet(Lag::Draining)),
    }
}

/// Whether the events of this server's log up to `through` came into the database within [`POST_WAIT_MAX`].
pub(super) async fn is_applied_soon(app: &App, through: Sequence) -> bool {
    let mut drain = app.applied.drain.clone();
    let (receipt, mut lag) = (app.applied.receipt(through), None);
    tokio::select! {
        biased;
        waited = timeout(POST_WAIT_MAX, wait(app, receipt, &mut lag)) => matches!(waited, Ok(Ok(()))),
        () = drain.stopped() => false,
    }
}

/// Whether a POST asks to wait. Other parameters are ignored: proxies and trackers add their own.
///
/// # Errors
///
/// When `wait` has any other value than `applied`, or occurs twice.
pub(super) fn is_asked_for(head: &Parts) -> Result<bool, ApiError> {
    let mut is_asked = false;
    for pair in head.uri.query().unwrap_or("").split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !percent_decode_str(name).eq(b"wait".iter().copied()) {
            continue;
        }
        let trouble = if !percent_decode_str(value).eq(b"applied".iter().copied()) {
            Some(("unknown_value", "must be `applied`; to not wait, leave it out"))
        } else if is_asked {
            Some(("duplicate", "must be given once"))
        } else {
            None
        };
        if let Some((code, message)) = trouble {
            return Err(ApiError::BadWait(ParameterError {
                field: "wait".to_owned(),
                code,
                message: message.to_owned(),
            }));
        }
        is_asked = true;
    }
    Ok(is_asked)
}

async fn wait_in_time(app: &App, receipt: Receipt) -> Result<(), ApiError> {
    let mut lag = None;
    let waited = timeout(QUERY_WAIT_MAX, wait(app, receipt, &mut lag)).await;
    match (waited, lag) {
        (Ok(Ok(())), _) => Ok(()),
        (Err(_), Some(lag)) => Err(ApiError::NotAppliedYet(lag)),
        (Ok(Err(error)), _) => {
            let life = LifeId(receipt.life);
            tracing::warn!(%error, "cannot read from the database how far life {life} of a log is flushed: {error}");
            Err(error.into())
        }
        (Err(_), None) => {
            let text = format!("no answer within {QUERY_WAIT_MAX:?}");
            Err(QueryError::from(StoreError::Unavailable(text)).into())
        }
    }
}

/// Waits for the event of a receipt. Meanwhile `lag` says why the event is not there, as far as that is known.
async fn wait(app: &App, receipt: Receipt, lag: &mut Option<Lag>) -> Result<(), QueryError> {
    let mut since = None;
    if LifeId(receipt.life) == app.applied.life {
        *lag = Some(Lag::Behind(QUERY_WAIT_MAX));
        app.progress.flushed(receipt.through).await;
        since = Some(Instant::now());
        // If events of this log were ever skipped, this may be one of them; if the flush waits for a person's decision,
        // the database may have lost it.
        if !app.progress.has_skipped() && !app.progress.is_asking() {
            return Ok(());
        }
    }
    loop {
        match app.applied.look(app.store.as_ref(), receipt, since).await? {
            Found::Stored => return Ok(()),
            // Not final: the server of the receipt may have started just now.
            Found::Missing(why) => *lag = Some(why),
        }
        sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
