//! The HTTP API against a server in this process.

mod clock;
mod connections;
pub(crate) mod contract;
mod health;
mod limits;
mod metrics;
mod receipt;
mod timeouts;
