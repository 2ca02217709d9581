//! fast-ingest: a durable front door for events, in front of PostgreSQL.
//!
//! Modules stand in the order in which an event meets them:
//!
//! ```text
//!  http ──→ event ──→ intake ──→ wal ──→ flush ──→ store        (write path)
//!  accept   parse,    ring and   group   batches,  PostgreSQL
//!  answer   validate, budgets    commit  retries   or SQLite
//!           encode
//!
//!  rollup ──→ store                       (beside it: merges what flushes add up to, checks it, makes it afresh)
//!
//!  http/query ──→ query ──→ store                                (read path: rollups, and events at the edges)
//! ```
//!
//! No arrow runs back except the ack: `wal` answers the request that `http` holds open, once `fdatasync` has returned. `intake` and
//! `wal` are the two ends of the ring and share its vocabulary (submission, record, space in the log).
//! `event`, `batch`, `query` and `rollup` are the domain: they know neither hyper nor diesel. Only `cli::serve` sees everything.

pub mod api;
pub mod http;

pub mod event;

pub mod intake;

pub mod wal;

pub mod flush;

pub mod query;
pub mod rollup;
pub mod store;
pub mod upkeep;

pub mod cli;
pub mod support;
pub mod telemetry;
#[cfg(any(test, fuzzing))]
pub mod testing;
