//! Integration tests: real servers, real sockets, real databases, real files. One binary, a module a behaviour.

mod flights;
mod http_support;
mod ledger;
mod migrations;
mod postgres;
mod process;
mod process_crash;
mod process_database;
mod process_start;
mod process_stop;
