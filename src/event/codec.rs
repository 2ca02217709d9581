//! The encoded form of one event inside a log record.

use super::EventRef;

/// Bytes that are not an encoded event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an encoded event")]
pub struct CodecError;

/// Appends the encoded form of `event` to `out`. Tags are given apart, because they are not encoded yet.
pub fn encode(_event: &EventRef<'_>, _out: &mut Vec<u8>) {
    todo!()
}

/// Reads one event off the front of `bytes`; returns it and what follows.
pub fn decode(_bytes: &[u8]) -> Result<(EventRef<'_>, &[u8]), CodecError> {
    todo!()
}

/// Length of the encoded event at the front of `bytes`, without decoding it.
pub fn encoded_len(_bytes: &[u8]) -> Result<usize, CodecError> {
    todo!()
}
