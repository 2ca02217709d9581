//! One segment file.

/// Bytes of a segment header.
pub const HEADER_BYTES: usize = 64;
