//! The plans, one file a kind of fault.

pub(crate) mod database;
pub(crate) mod disk;
pub(crate) mod kill;
pub(crate) mod network;
pub(crate) mod power;
pub(crate) mod servers;
pub(crate) mod slow;
pub(crate) mod syscalls;
pub(crate) mod term;
