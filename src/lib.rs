//! A durable front door for events, in front of PostgreSQL.
//!
#![doc = include_str!("ARCHITECTURE.md")]

// The layers, lowest first: each uses only those before it.

pub mod support;

pub mod telemetry;

pub mod event;

pub mod api;

pub mod rollup;

pub mod wal;

pub mod query;

pub mod store;

pub mod intake;

pub mod flush;

pub mod upkeep;

pub mod http;

pub mod cli;

// Scaffolding for tests and fuzzers.

#[cfg(any(test, fuzzing))]
pub mod testing;
