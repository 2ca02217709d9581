//! What goes over the wire, defined once for the server and for the commands that ask a server.
//!
//! The shapes of answers in JSON, the table of problem codes and the list of routes. Nothing here computes an answer.
//! What clients may rely on is in this directory, so a change to it is a change to the contract.

pub mod events;
pub mod health;
pub mod metrics;
pub mod problem;
pub mod receipt;
pub mod routes;
