//! The plans, one file per kind of fault.

use std::ops::Range;

pub(crate) mod bounds;
pub(crate) mod constraints;
pub(crate) mod copies;
pub(crate) mod database;
pub(crate) mod disk;
pub(crate) mod failover;
pub(crate) mod idle;
pub(crate) mod kill;
pub(crate) mod network;
pub(crate) mod power;
pub(crate) mod restores;
pub(crate) mod servers;
pub(crate) mod sink;
pub(crate) mod slow;
pub(crate) mod syscalls;
pub(crate) mod term;

/// Divides the cycles of a plan into legs: each ends with an audit, and the next begins with an empty database.
fn legs(cycles: u32, cycles_a_leg: u32) -> impl Iterator<Item = Range<u32>> {
    let starts = (0..cycles).step_by(cycles_a_leg as usize);
    starts.map(move |start| start..cycles.min(start + cycles_a_leg))
}
