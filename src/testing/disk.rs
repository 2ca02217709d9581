//! Disks in memory, and one that wraps a real one.

#[cfg(test)]
pub(crate) mod faulty;
pub(crate) mod memory;
#[cfg(test)]
pub(crate) mod simulated;
