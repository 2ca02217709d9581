//! A durable front door for events, in front of PostgreSQL.
//!
#![doc = include_str!("ARCHITECTURE.md")]

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
