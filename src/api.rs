//! What goes over the wire, once for all who write or read it: the server, and the commands that ask one.
//!
//! The shapes of answers in JSON, the table of problem codes and the list of routes. Nothing here knows how an answer
//! comes about. What clients may rely on is in this directory, so a change to it is a change to the contract.

pub mod events;
pub mod health;
pub mod metrics;
pub mod problem;
pub mod receipt;
pub mod routes;
