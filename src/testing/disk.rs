//! Two disks in memory, one that forgets and fails and one that the fuzzers need fast, and a hook before any disk.

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod forwarding;
pub(crate) mod memory;
#[cfg(test)]
pub(crate) mod simulated;
