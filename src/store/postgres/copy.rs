//! Events as the binary form of `COPY … FROM STDIN`, written by hand straight from the encoded event.
//!
//! The format is described in the PostgreSQL manual, "COPY", section "Binary Format", and by each type's `*_recv`
//! function. All integers are big-endian. A stream is a 19-byte header, rows, and a two-byte trailer; a row is the
//! number of fields (i16), then each field's length (i32, -1 for NULL) and value:
//!
//! | column                 | value                                                                             |
//! |------------------------|-----------------------------------------------------------------------------------|
//! | `ts`                   | i64, microseconds since 2000-01-01T00:00:00Z                                      |
//! | texts                  | UTF-8                                                                             |
//! | `tags` (`text[]`)      | i32 dimensions (0 if empty), i32 has-null flag, i32 type id 25 (`text`), then for  |
//! |                        | each dimension i32 size and i32 lower bound, then each element's i32 length, UTF-8 |
//! | `metadata` (`jsonb`)   | a version byte 1, then the JSON text                                              |

use bytes::{BufMut, BytesMut};

use crate::event::{EventRef, Tags};

/// The columns, in the order in which [`put_row`] writes them.
pub(super) const COLUMNS: &str = "ts, event_name, channel, user_id, event_id, campaign_id, tags, metadata";

/// PostgreSQL counts time from 2000-01-01T00:00:00Z, which is this many microseconds after the Unix epoch.
pub(super) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

const FIELDS: i16 = 8;
const TEXT_OID: u32 = 25;
const JSONB_VERSION: u8 = 1;
const NULL: i32 = -1;

/// Begins a stream: signature, flags, length of the header extension.
pub(crate) fn put_header(out: &mut BytesMut) {
    out.put_slice(b"PGCOPY\n\xff\r\n\0");
    out.put_i32(0);
    out.put_i32(0);
}

/// Ends a stream.
pub(crate) fn put_trailer(out: &mut BytesMut) {
    out.put_i16(-1);
}

/// Appends one event.
pub(crate) fn put_row(out: &mut BytesMut, event: &EventRef<'_>) {
    out.put_i16(FIELDS);
    out.put_i32(8);
    out.put_i64(event.timestamp.as_micros() - POSTGRES_EPOCH_MICROS);
    put_text(out, event.event_name);
    put_text(out, event.channel);
    put_text(out, event.user_id);
    put_optional_text(out, event.event_id);
    put_optional_text(out, event.campaign_id);
    match event.tags {
        Some(tags) => put_tags(out, tags),
        None => out.put_i32(NULL),
    }
    match event.metadata {
        Some(json) => {
            out.put_i32(length(json.len() + 1));
            out.put_u8(JSONB_VERSION);
            out.put_slice(json.as_bytes());
        }
        None => out.put_i32(NULL),
    }
}

fn put_tags(out: &mut BytesMut, tags: Tags<'_>) {
    // The length comes first but is known last, so a placeholder stands in for it.
    let start = out.len();
    out.put_i32(0);
    let dimensions = i32::from(!tags.is_empty());
    out.put_i32(dimensions);
    out.put_i32(0);
    out.put_u32(TEXT_OID);
    if dimensions > 0 {
        out.put_i32(length(tags.len()));
        out.put_i32(1);
    }
    for tag in tags.iter() {
        put_text(out, tag);
    }
    let bytes = length(out.len() - start - 4);
    out[start..start + 4].copy_from_slice(&bytes.to_be_bytes());
}

fn put_optional_text(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => out.put_i32(NULL),
    }
}

/// Appends a text: its length, then its bytes.
pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i32(length(text.len()));
    out.put_slice(text.as_bytes());
}

/// A length on the wire. The limits in [`crate::event`] keep every field far below 2 GiB.
pub(super) fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a field is far smaller than 2 GiB")
}
