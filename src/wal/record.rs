//! One record: header and checksum, no I/O. The layout is in the format document at the top of [`crate::wal`].

/// Bytes of a record header.
pub const HEADER_BYTES: usize = 32;
/// Longest payload of a record. A length field beyond it is damage, found before anything is allocated.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
