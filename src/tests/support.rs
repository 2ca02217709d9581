//! Shared by the tests: databases, servers, clients, random numbers.

pub(crate) mod database;
pub(crate) mod http;
pub(crate) mod ledger;
pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod random;
