//! Integration tests: real servers, real sockets, real databases, real files. One binary, one module per behaviour.

#![allow(
    clippy::unwrap_used,
    reason = "clippy spares the tests themselves, but not the helpers that they share"
)]

mod cli;
mod clients;
mod hostile;
mod http;
mod import;
mod migrations;
mod mutants;
mod nested_cargo;
mod process;
mod project;
mod rollup;
mod store;
mod support;
#[allow(dead_code, reason = "run_torture.rs uses more of it than the tests")]
mod torture;
