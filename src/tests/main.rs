//! Integration tests: real servers, real sockets, real databases, real files. One binary, a module a behaviour.

#![allow(
    clippy::unwrap_used,
    reason = "clippy spares the tests themselves, but not the helpers that they share"
)]

mod build_script;
mod cli_databases;
mod cli_metrics;
mod flights;
mod gates;
mod hostile_disconnect;
mod hostile_flood;
mod hostile_input;
mod hostile_slow;
mod hostile_smuggling;
mod hostile_support;
mod http_clock;
mod http_connections;
mod http_contract;
mod http_health;
mod http_limits;
mod http_metrics;
mod http_receipt;
mod http_support;
mod http_timeouts;
mod import;
mod ledger;
mod migrations;
mod mutants;
mod mutants_apply;
mod password;
mod plan;
mod pooler;
mod postgres;
mod postgres_versions;
mod process;
mod process_database;
mod process_refusal;
mod process_start;
mod process_stderr;
mod process_stop;
mod quick_start;
mod random;
mod rollup_cardinality;
mod rollup_crashes;
mod rollup_overflow;
mod rollup_races;
mod rollup_user_key;
mod rollup_verify;
mod store_contract;
mod store_database;
mod store_frozen;
mod store_postgres;
mod store_postgres_partitions;
mod store_postgres_pooler;
mod store_postgres_refusals;
mod store_postgres_rollups;
mod store_postgres_servers;
mod store_postgres_sessions;
mod store_sqlite;
mod store_sqlite_rollups;
mod store_tls;
mod takeover;
#[allow(dead_code, reason = "run_torture.rs uses more of it than the tests")]
mod torture;
mod torture_briefly;
mod wal_adopt;
