//! What the tests share: databases, servers, clients, numbers.

pub(crate) mod database;
pub(crate) mod http;
pub(crate) mod ledger;
pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod random;
