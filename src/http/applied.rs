//! Waiting until what was accepted is *applied*: in the database, where metrics see it.
//!
//! A quarantined event counts as applied: it is in the database, in quarantine, and waiting longer would not bring it into the metrics.
//! With `--sync interval` a power cut may take acknowledged events along, and their sequences then go to others: a receipt from
//! before it says nothing any more.
//!
//! All of this is awaited in the connection's task, so a client that goes away ends its wait. Nobody waits in a database connection,
//! and however many wait for the logs of other servers, one of them at a time looks.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::App;
use super::error::{ApiError, ParameterError};
use super::receipt::Receipt;
use crate::batch::{CurrentWalId, Sequence, WalId};
use crate::shutdown::StopToken;
use crate::store::{EventStore, StoreError};

/// How long a query waits for a receipt. As long as the query itself may take by default; a flush that is well takes a fraction of a
/// second, so a longer wait would only hide that the database is behind.
const QUERY_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a POST waits for its events. They are safe already, and the client has its receipt either way: half of what many
/// clients give a request before they take it for failed and send everything again.
const POST_WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause between looks at the checkpoint of another server's log: half of the interval at which that server flushes by default.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What waiting needs beside the rest of [`App`]. One for the server.
#[derive(Debug)]
pub struct Applied {
    /// This server's log.
    wal_id: CurrentWalId,
    /// Who waits must not hold up the shutdown.
    drain: StopToken,
    /// The last look at each log that the database knows. Locked while somebody looks, so that a crowd shares one database connection.
    looks: Mutex<HashMap<WalId, Look>>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    flushed_through: Sequence,
}

/// Why the events of a receipt cannot be told to be in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lag {
    /// The flush has not come that far.
    Behind,
    /// The database does not know the log.
    UnknownLog,
    /// The server is going down.
    Draining,
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind => write!(
                f,
                "the events of this receipt did not reach the database within {QUERY_WAIT_MAX:?}; they are safe in their log"
            ),
            Self::UnknownLog => write!(
                f,
                "the database does not know the log of this receipt: its server has another database, or has not reached this one yet"
            ),
            Self::Draining => f.write_str("the server is shutting down"),
        }
    }
}

impl Applied {
    /// For the server with the log `wal_id`. No request waits past `drain`.
    pub fn new(wal_id: impl Into<CurrentWalId>, drain: StopToken) -> Self {
        Self {
            wal_id: wal_id.into(),
            drain,
            looks: Mutex::default(),
        }
    }

    /// The receipt for what this server's log holds up to `through`.
    pub(super) fn receipt(&self, through: Sequence) -> Receipt {
        Receipt {
            wal_id: self.wal_id.get(),
            through,
        }
    }

    /// How far another server's log is flushed, at most [`LOOK_INTERVAL`] ago.
    async fn look(
        &self,
        store: &dyn EventStore,
        wal_id: WalId,
    ) -> Result<Option<Sequence>, StoreError> {
        let mut looks = self.looks.lock().await;
        if let Some(look) = looks.get(&wal_id)
            && look.at.elapsed() < LOOK_INTERVAL
        {
            return Ok(Some(look.flushed_through));
        }
        let at = Instant::now();
        let flushed_through = store.flushed_through(wal_id).await?;
        // What the database does not know is not kept: clients could invent logs without end.
        if let Some(flushed_through) = flushed_through {
            let look = Look {
                at,
                flushed_through,
            };
            looks.insert(wal_id, look);
        }
        Ok(flushed_through)
    }
}

/// Waits until the events of a receipt, from this server or another one, are in this server's database.
///
/// # Errors
///
/// When they are not in time, or the database does not answer.
pub(super) async fn wait_for(app: &App, receipt: Receipt) -> Result<(), ApiError> {
    let mut drain = app.applied.drain.clone();
    tokio::select! {
        // What is there already is an answer, also in a drain.
        biased;
        waited = wait_in_time(app, receipt) => waited,
        () = drain.stopped() => Err(ApiError::NotAppliedYet(Lag::Draining)),
    }
}

/// Whether the events of this server's log up to `through` came into the database while a POST may wait for them.
pub(super) async fn is_applied_soon(app: &App, through: Sequence) -> bool {
    let mut drain = app.applied.drain.clone();
    tokio::select! {
        biased;
        waited = timeout(POST_WAIT_MAX, app.progress.flushed(through)) => waited.is_ok(),
        () = drain.stopped() => false,
    }
}

/// Whether a POST asks to wait. Other parameters are none of ours (see the router).
///
/// # Errors
///
/// When it asks for anything but `wait=applied`, once.
pub(super) fn is_asked_for(head: &Parts) -> Result<bool, ApiError> {
    let mut is_asked = false;
    for pair in head.uri.query().unwrap_or("").split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !percent_decode_str(name).eq(b"wait".iter().copied()) {
            continue;
        }
        let trouble = if !percent_decode_str(value).eq(b"applied".iter().copied()) {
            Some((
                "unknown_value",
                "must be `applied`; leave it out to not wait",
            ))
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
    let Receipt { wal_id, through } = receipt;
    if wal_id == app.applied.wal_id.get() {
        return timeout(QUERY_WAIT_MAX, app.progress.flushed(through))
            .await
            .map_err(|_| ApiError::NotAppliedYet(Lag::Behind));
    }
    // Until the database has answered once, nothing is known of the log.
    let mut lag = None;
    let poll = async {
        loop {
            let flushed_through = app.applied.look(app.store.as_ref(), wal_id).await?;
            match flushed_through {
                Some(flushed_through) if flushed_through >= through => return Ok(()),
                Some(_) => lag = Some(Lag::Behind),
                // Its server may have started just now.
                None => lag = Some(Lag::UnknownLog),
            }
            sleep(LOOK_INTERVAL).await;
        }
    };
    let polled: Result<Result<(), StoreError>, _> = timeout(QUERY_WAIT_MAX, poll).await;
    match (polled, lag) {
        (Ok(Ok(())), _) => Ok(()),
        (Err(_), Some(lag)) => Err(ApiError::NotAppliedYet(lag)),
        (Ok(Err(error)), _) => {
            tracing::warn!(%error, "cannot tell how far log {wal_id} is flushed: {error}");
            Err(error.into())
        }
        (Err(_), None) => {
            Err(StoreError::Unavailable(format!("no answer within {QUERY_WAIT_MAX:?}")).into())
        }
    }
}

#[cfg(test)]
mod tests;
