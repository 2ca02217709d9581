//! Rows of a `COPY` stream, against a decoder written from the PostgreSQL manual ("COPY", "Binary Format"): each row
//! equals its event, and the stream is its header, its rows and its trailer, without a byte between them.

use bytes::BytesMut;

use super::input::Input;
use crate::event::{EventRef, TagsBuf, Timestamp, codec};
use crate::store::postgres::copy::{put_header, put_row, put_trailer};

/// Most events in a stream.
const EVENTS_MAX: usize = 8;

/// The values of a row, decoded.
#[derive(Debug, PartialEq)]
struct Row {
    /// Microseconds since 1970.
    micros: i64,
    /// Event name, channel, user.
    names: [String; 3],
    event_id: Option<String>,
    campaign_id: Option<String>,
    tags: Option<Vec<String>>,
    metadata: Option<String>,
}

/// Encodes events chosen by the bytes, and decodes the stream.
///
/// # Panics
///
/// When a row does not decode to its event.
pub fn copy(data: &[u8]) {
    let mut input = Input(data);
    let mut encoded = Vec::new();
    let mut sent = Vec::new();
    while !input.is_empty() && sent.len() < EVENTS_MAX {
        sent.push(choose_event(&mut input, &mut encoded));
    }
    let mut stream = BytesMut::new();
    put_header(&mut stream);
    let mut rest = encoded.as_slice();
    while !rest.is_empty() {
        // As the flush does it: straight from the encoded event.
        let (event, behind) = codec::decode(rest).expect("what was encoded decodes");
        put_row(&mut stream, &event);
        rest = behind;
    }
    put_trailer(&mut stream);
    assert_eq!(decode(&stream), Some(sent));
}

/// Makes up an event and encodes it; returns it as a row must have it.
fn choose_event(input: &mut Input<'_>, out: &mut Vec<u8>) -> Row {
    let flags = input.byte();
    let row = Row {
        // From 1970 to the end of 64 bits.
        micros: i64::from_le_bytes(input.array()) & i64::MAX,
        names: [text(input), text(input), text(input)],
        event_id: (flags & 1 != 0).then(|| text(input)),
        campaign_id: (flags & 2 != 0).then(|| text(input)),
        tags: (flags & 4 != 0).then(|| (0..input.below(65)).map(|_| text(input)).collect()),
        metadata: (flags & 8 != 0).then(|| {
            let length = input.below(1 << 12);
            format!("{{\"{}\":1}}", lossy(input.bytes(length)))
        }),
    };
    let tags: Option<TagsBuf> = row.tags.as_ref().map(|tags| tags.iter().map(String::as_str).collect());
    let [event_name, channel, user_id] = &row.names;
    let event = EventRef {
        event_name,
        channel,
        user_id,
        timestamp: Timestamp::from_micros(row.micros),
        event_id: row.event_id.as_deref(),
        campaign_id: row.campaign_id.as_deref(),
        tags: tags.as_ref().map(TagsBuf::as_tags),
        metadata: row.metadata.as_deref(),
    };
    codec::encode(&event, out);
    row
}

/// A text of at most 255 bytes, the codec's limit: a replaced byte takes three.
fn text(input: &mut Input<'_>) -> String {
    let length = usize::from(input.byte() % 86);
    lossy(input.bytes(length))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The rows of a whole stream; `None` if the stream is malformed.
fn decode(stream: &[u8]) -> Option<Vec<Row>> {
    let mut rest = stream.strip_prefix(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")?;
    let mut rows = Vec::new();
    loop {
        match i16::from_be_bytes(take(&mut rest)?) {
            -1 => return rest.is_empty().then_some(rows),
            8 => rows.push(decode_row(&mut rest)?),
            _ => return None,
        }
    }
}

fn decode_row(rest: &mut &[u8]) -> Option<Row> {
    let mut timestamp = field(rest)??;
    let since_2000 = i64::from_be_bytes(take(&mut timestamp)?);
    let row = Row {
        // 10,957 days lie between the epochs.
        micros: since_2000.checked_add(10_957 * 86_400_000_000)?,
        names: [utf8(field(rest)??)?, utf8(field(rest)??)?, utf8(field(rest)??)?],
        event_id: optional(field(rest)?, utf8)?,
        campaign_id: optional(field(rest)?, utf8)?,
        tags: optional(field(rest)?, decode_array)?,
        metadata: optional(field(rest)?, |jsonb| utf8(jsonb.strip_prefix(b"\x01")?))?,
    };
    timestamp.is_empty().then_some(row)
}

/// A `text[]` as `array_recv` reads it, without nulls and with at most one dimension, which counts from 1.
fn decode_array(mut bytes: &[u8]) -> Option<Vec<String>> {
    let rest = &mut bytes;
    let dimensions = i32::from_be_bytes(take(rest)?);
    let has_null = i32::from_be_bytes(take(rest)?);
    let element_type = u32::from_be_bytes(take(rest)?);
    let (size, lower_bound) = match dimensions {
        0 => (0, 1),
        1 => (i32::from_be_bytes(take(rest)?), i32::from_be_bytes(take(rest)?)),
        _ => return None,
    };
    if has_null != 0 || element_type != 25 || lower_bound != 1 {
        return None;
    }
    let elements = (0..size).map(|_| utf8(field(rest)??));
    let elements: Option<Vec<_>> = elements.collect();
    elements.filter(|_| bytes.is_empty())
}

/// The next field, `Some(None)` for `NULL`; `None` if the stream is too short.
fn field<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = i32::from_be_bytes(take(rest)?);
    if length == -1 {
        return Some(None);
    }
    let (field, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(Some(field))
}

fn optional<T>(field: Option<&[u8]>, decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<Option<T>> {
    match field {
        Some(bytes) => decode(bytes).map(Some),
        None => Some(None),
    }
}

fn utf8(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}
