//! What tests, fuzzers and the model checker need from inside the library. No build for users contains it.
//!
//! * [`disk`]: disks in memory, which lose data and fail on demand.
//! * [`fuzzing`]: the functions that the fuzzers in `fuzz/` call with their bytes.
//! * `rollup_model`: the tables of the rollups in memory.
//! * `schedules`: the protocol between threads, in thousands of orders of its steps (`make model`).

pub(crate) mod disk;
pub mod fuzzing;
#[cfg(test)]
pub(crate) mod rollup_model;
#[cfg(all(test, feature = "shuttle"))]
pub(crate) mod schedules;
