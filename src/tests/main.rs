//! Integration tests: real servers, real sockets, real databases, real files. One binary, a module a behaviour.

mod migrate;
mod postgres;
mod store_contract;
mod store_database;
mod store_postgres;
