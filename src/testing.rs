//! What tests, fuzzers and the model checker need of the library's inside, and no build for users has.
//!
//! * [`disk`]: disks in memory, which forget and fail as asked.
//! * [`fuzzing`]: what the fuzzers in `fuzz/` throw bytes at.
//! * `rollup_model`: the tables of the rollups in memory.
//! * `schedules`: the protocol between threads, in thousands of orders of its steps (`make model`).

pub(crate) mod disk;
pub mod fuzzing;
#[cfg(test)]
pub(crate) mod rollup_model;
#[cfg(all(test, feature = "shuttle"))]
pub(crate) mod schedules;
