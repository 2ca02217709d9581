//! The program as a process: starts, stops, crashes, and output.

mod database;
mod flights;
mod postgres_versions;
mod refusal;
mod start;
mod stderr;
mod stop;
mod takeover;
mod warnings;
