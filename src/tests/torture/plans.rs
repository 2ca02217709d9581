//! The plans, one file a kind of fault.

pub(crate) mod kill;
pub(crate) mod syscalls;
pub(crate) mod term;
