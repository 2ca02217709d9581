//! Commands of the binary.

mod databases;
mod metrics;
mod password;
mod wal_adopt;
