//! HTTP/1.1 by hand on hyper: connections, routes, answers.
//!
//! `server` accepts, `connection` drives one client under the time limits of `watchdog`, `router` holds the whole API
//! in one table behind the names of `hosts`, and `ingest`, `query` and `health` answer; `applied` lets a client wait
//! for what it wrote. Every refusal of a request is an `error::ApiError`, which alone decides its status. One
//! exception: a malformed head never reaches this module. hyper answers it with 400, or 431 if it is too long, without
//! a body, and closes the connection.

pub mod applied;
mod body;
mod connection;
pub(crate) mod error;
mod health;
pub mod hosts;
mod ingest;
mod lag;
pub(crate) mod query;
mod response;
mod router;
pub mod server;
pub mod settings;
mod watchdog;

use std::fmt;
use std::sync::Arc;

use self::applied::Applied;
use self::hosts::Hosts;
use crate::flush::progress::Progress;
use crate::http::settings::HttpSettings;
use crate::intake::{Clock, Intake};
use crate::store::EventStore;
use crate::wal::gate::Gate;

/// What all handlers share.
pub struct App {
    /// Limits and timeouts of requests and connections.
    pub settings: HttpSettings,
    /// Which `Host` and `Origin` headers are served.
    pub hosts: Hosts,
    /// The way into the log.
    pub intake: Intake,
    /// Tells which events are from the future.
    pub clock: Clock,
    /// Whether the log may take more, which `intake` checks; here only to report the size of the log.
    pub gate: Arc<Gate>,
    /// Answers queries for metrics.
    pub store: Arc<dyn EventStore>,
    /// How far log and flush are.
    pub progress: Arc<Progress>,
    /// Waits until accepted events are in the database.
    pub applied: Applied,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("settings", &self.settings)
            .field("store", &self.store.name())
            .finish_non_exhaustive()
    }
}
