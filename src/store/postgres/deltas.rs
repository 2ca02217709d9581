//! Deltas of the rollups as binary COPY takes them: the form of [`copy`](super::copy), with `bucket` as `ts` there, `minutes` an i16,
//! `events` an i64, and `users` (`bytea`) as its bytes.

use bytes::{BufMut as _, BytesMut};

use super::copy::{POSTGRES_EPOCH_MICROS, length, put_text};
use crate::rollup::fold::DeltaRef;

/// The columns, in the order in which [`put_row`] writes them.
pub(super) const COLUMNS: &str = "event_name, channel, bucket, minutes, events, users";

const FIELDS: i16 = 6;

/// Appends one delta.
pub(super) fn put_row(out: &mut BytesMut, delta: &DeltaRef<'_>) {
    out.put_i16(FIELDS);
    put_text(out, delta.event_name);
    put_text(out, delta.channel);
    out.put_i32(8);
    out.put_i64(delta.bucket.start.as_micros() - POSTGRES_EPOCH_MICROS);
    out.put_i32(2);
    out.put_i16(delta.bucket.width.minutes());
    out.put_i32(8);
    out.put_i64(i64::try_from(delta.events).expect("a batch has fewer than 2^63 events"));
    let users = delta.users.encode();
    out.put_i32(length(users.len()));
    out.put_slice(&users);
}
