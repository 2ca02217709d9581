//! Integration tests: real servers, real sockets, real databases, real files. One binary, a module a behaviour.

mod http_connections;
mod http_contract;
mod http_health;
mod http_limits;
mod http_metrics;
mod http_support;
mod http_timeouts;
