//! Both stores against real databases.

pub(crate) mod contract;
mod frozen;
mod postgres;
mod postgres_partitions;
mod postgres_pooler;
mod postgres_refusals;
mod postgres_rollups;
mod postgres_servers;
mod postgres_sessions;
mod sqlite;
mod sqlite_rollups;
mod tls;
