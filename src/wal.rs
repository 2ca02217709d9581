//! The write-ahead log: the promise behind a 202.
//!
//! [`open()`] takes the lock, recovers, and begins a fresh segment; a [`committer`] thread appends groups and syncs
//! them; a [`reader::LogReader`] follows for the flush. Live operation and recovery read through the same code.
//!
//! # Format, version 2
//!
//! All integers are little-endian. Checksums are CRC-32C (Castagnoli, RFC 3720 appendix B.4).
//!
//! **Limits and invariants.** A record's payload is at most 64 MiB. Sequences count events from 1 without a gap, over
//! all segments. A record is one request: it is never split, so bulk requests are atomic. With `--sync group` at most
//! one group is written and not yet synced. A new segment begins at every start and after every sealed one; nothing is
//! ever appended after a tail that another process wrote.
//!
//! **Directory** (mode 0700, files 0600):
//!
//! ```text
//! LOCK                                    flock()ed by the one process that uses the log
//! 00000000000000000001.wal                a segment, named by its first sequence (20 digits)
//! 00000000000000004711.wal
//! 00000000000000004711.wal.torn-8192      copy, for people, of a torn tail that recovery cut off at byte 8192
//! 00000000000000004711.wal.torn-8192-1    copy of the next torn tail at that byte
//! FLUSHED                                 which database has the log, up to where, and the last commits tried there
//! ADOPT.LOCK                              flock()ed by the one `wal adopt` that gives an answer
//! ADOPTED                                 a checkpoint that a person has put into a database, until the flush uses it
//! MISMATCH                                the log does not belong to its database: what was found, in a sentence
//! END                                     how far the log was when it last started, rotated or stopped cleanly
//! next.tmp, flushed.tmp, …                a file being made, not yet renamed; removed before the next is made
//! ```
//!
//! **Segment header**, 96 bytes. A segment gets its name only after its header is synced, so a bad header is damage.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..8 | magic | `FSTINGST` |
//! | 8..12 | version | 2; 1 is read, a newer one is refused and left untouched |
//! | 12..16 | salt | random; the checksum of every record in this segment starts from it, so no other file's records pass |
//! | 16..32 | WAL id | UUID of the log, made with its first segment |
//! | 32..40 | number | 1 for the first segment, then one more each |
//! | 40..48 | first sequence | of the first event in it; also the file's name |
//! | 48..56 | previous end | where the previous segment logically ended, in bytes; 0 for the first |
//! | 56..72 | life | random id of the start that wrote this segment: two copies of a log go on as two lives |
//! | 72..88 | previous life | the life that wrote the event before the first one; 0 when there is none, or it is of version 1 |
//! | 88..92 | reserved | 0 |
//! | 92..96 | checksum | over bytes 0..92 |
//!
//! Version 1 had headers of 64 bytes without lives: reserved bytes at 56..60, and at 60..64 the checksum over bytes
//! 0..60. A log may begin with segments of version 1 and go on with version 2; the life of their events is 0.
//!
//! **Record**, 32 bytes of header and the payload. Records follow each other without padding.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..4 | checksum | over bytes 4..32 and the payload, started from the segment's salt |
//! | 4..8 | length | of the payload, in bytes |
//! | 8..16 | first sequence | of its first event |
//! | 16..24 | durable through | everything up to this sequence was synced before this record was written |
//! | 24..28 | events | number; 0: a *marker* without payload, written when no more records come, proves earlier ones |
//! | 28..32 | reserved | 0 |
//! | 32.. | payload | the events, each as in [`crate::event::codec`] |
//!
//! **END**, 1024 bytes: two slots, at 0 and 512. Each start replaces the file; each rotation and each clean stop writes
//! the older slot, and the valid slot with the higher counter counts. Everything that END says was synced before. A log
//! that has less than END says is damaged: its newest segment or all of them are missing, or it was cut between
//! records. A directory whose END has no valid slot is damaged too. Without END (a log of an earlier version; a copy of
//! only the segments) the segments alone decide.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..8 | magic | `FSTINGEN` |
//! | 8..12 | version | 1; a newer one is refused and left untouched |
//! | 12..16 | reserved | 0 |
//! | 16..32 | WAL id | of the log |
//! | 32..40 | counter | 0 for the file's first write, then one more each; slot 0 has the even ones |
//! | 40..48 | number | of the active segment |
//! | 48..56 | first sequence | of the active segment |
//! | 56..64 | durable through | everything up to this sequence was synced |
//! | 64..68 | checksum | over bytes 0..64 |
//! | 68..512 | reserved | 0 |
//!
//! **FLUSHED**, 262,656 bytes: a header of 512 bytes, then a ring of 2048 entries of 128 bytes, made at full size with
//! the log, so that a note needs no space on a full disk. The header: magic `FSTINGFL`, at 8..12 the version (1), at
//! 16..32 the WAL id of the segments, at 32..36 the checksum over bytes 0..32. Entry *n*, from 1, is at place *n*
//! modulo 2048. An entry is synced before its commit is tried; the commit of a torn entry was not tried. ADOPTED has
//! the same format, with one entry.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..4 | checksum | over bytes 4..128 |
//! | 4..8 | flags | 1: this database is known to have the log; 0 while the first commit there is tried |
//! | 8..16 | number | *n* |
//! | 16..32 | database | identity of the database |
//! | 32..48 | WAL id | under which the database knows the log: that of the segments, or one that a person gave it |
//! | 48..56 | confirmed through | the database certainly had everything up to this sequence |
//! | 56..64 | through | where the checkpoint stands if the commit happened |
//! | 64..80 | life | the life that wrote the event at *through* |
//! | 80..96 | token | of the commit |
//! | 96..104 | forgotten through | commits up to this sequence may have been made and may be missing in the ring |
//! | 104..128 | reserved | 0 |
//!
//! **Torn tail or damage.** Say the record at sequence *s* of the last segment is invalid. If any valid record after it
//! says "durable through *s*" or more, then *s* had been synced and maybe acknowledged: that is damage, and the server
//! refuses to start. If none does, the bytes were never synced (with `--sync group` they are the one group of the
//! crash): a torn tail, which is cut off and a copy kept. One kind of damage looks the same and is cut as well: damage
//! to the newest group after its sync, but before anything was written after it (a group, the marker that follows
//! within moments, END at a stop). If the bytes are all zeros, no copy is kept: the log writes zeros ahead of its
//! records, so that most syncs have no metadata to write, and a crash leaves some of them. Sealed segments end with
//! their last record. Anything invalid before a segment's logical end in any other segment is damage.

pub mod adopted;
pub mod batch;
pub mod committer;
pub mod directory;
pub mod disk;
pub mod end;
pub mod error;
pub mod flushed;
pub mod gate;
pub mod id;
pub mod inspect;
pub mod log;
pub mod mismatch;
pub mod open;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod refusal;
pub mod segment;
pub mod settings;
pub mod submission;
pub mod tail;
mod torn_copies;

pub use error::WalError;
pub use log::Log;
pub use open::{OpenedLog, open};

#[cfg(test)]
pub(crate) mod tests;
