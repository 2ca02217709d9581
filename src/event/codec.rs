//! The encoded form of one event inside a log record: part of the log's format, pinned by a golden-bytes test.
//!
//! ```text
//! offset  bytes  field
//!      0      4  length of the whole encoded event, these four bytes included; u32
//!      4      8  timestamp in microseconds since 1970-01-01T00:00:00Z; i64
//!     12      1  flags of fields that are present: 1 event_id, 2 campaign_id, 4 tags, 8 metadata; the other bits are 0
//!     13         event_name, channel, user_id; then those that the flags announce, in this order:
//!                event_id, campaign_id   (each of these five a text: one length byte, then so many bytes of UTF-8)
//!                tags                    (one byte with their number, then so many texts)
//!                metadata                (UTF-8 up to the end of the event, byte for byte as sent)
//! ```
//!
//! Integers are little-endian. There is no padding, so equal events have equal bytes. There is no checksum either: the
//! record around the events has one. **With nothing added, an encoded event is never longer than its JSON**: every
//! field costs fewer bytes here than its key and quotes cost in JSON. Budgets and space in the log rely on that: they
//! are reserved by the length of a body.

use super::{EventRef, Tags, Timestamp};

const LENGTH_BYTES: usize = 4;
const TIMESTAMP_BYTES: usize = 8;
const FLAGS_BYTES: usize = 1;
const TEXTS_REQUIRED: usize = 3;
/// No event is shorter: the fixed fields and the length bytes of the three required texts.
const ENCODED_BYTES_MIN: usize = LENGTH_BYTES + TIMESTAMP_BYTES + FLAGS_BYTES + TEXTS_REQUIRED;

const HAS_EVENT_ID: u8 = 1;
const HAS_CAMPAIGN_ID: u8 = 2;
const HAS_TAGS: u8 = 4;
const HAS_METADATA: u8 = 8;
const FLAGS_ALL: u8 = HAS_EVENT_ID | HAS_CAMPAIGN_ID | HAS_TAGS | HAS_METADATA;

/// Bytes that are not an encoded event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an encoded event")]
pub struct CodecError;

/// Appends the encoded form of `event` to `out`. Tags are gathered in a [`super::TagsBuf`] beforehand.
///
/// # Panics
///
/// When a text is longer than 255 bytes, or the event longer than 4 GiB. The limits of an event are lower.
pub fn encode(event: &EventRef<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let flags = flag(HAS_EVENT_ID, event.event_id.is_some())
        | flag(HAS_CAMPAIGN_ID, event.campaign_id.is_some())
        | flag(HAS_TAGS, event.tags.is_some())
        | flag(HAS_METADATA, event.metadata.is_some());
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.extend_from_slice(&event.timestamp.as_micros().to_le_bytes());
    out.push(flags);
    push_text(event.event_name, out);
    push_text(event.channel, out);
    push_text(event.user_id, out);
    if let Some(event_id) = event.event_id {
        push_text(event_id, out);
    }
    if let Some(campaign_id) = event.campaign_id {
        push_text(campaign_id, out);
    }
    if let Some(tags) = event.tags {
        out.push(tags.count);
        out.extend_from_slice(tags.bytes);
    }
    if let Some(metadata) = event.metadata {
        out.extend_from_slice(metadata.as_bytes());
    }
    let length = u32::try_from(out.len() - start).expect("an encoded event is shorter than 4 GiB");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Reads one event off the front of `bytes`; returns it and what follows.
///
/// # Errors
///
/// [`CodecError`] for anything that [`encode`] could not have written. Only the layout is checked, not the rules of
/// [`super::validate`]: they may become stricter while the log still holds older events.
pub fn decode(bytes: &[u8]) -> Result<(EventRef<'_>, &[u8]), CodecError> {
    decode_event(bytes).ok_or(CodecError)
}

/// Reads the timestamp of an encoded event and whether it has an `event_id`, and no other field.
pub fn decode_head(bytes: &[u8]) -> Result<(Timestamp, bool), CodecError> {
    let (event, _) = split_event(bytes).ok_or(CodecError)?;
    let micros = event[LENGTH_BYTES..].first_chunk().ok_or(CodecError)?;
    let flags = event[LENGTH_BYTES + TIMESTAMP_BYTES];
    let timestamp = Timestamp::from_micros(i64::from_le_bytes(*micros));
    Ok((timestamp, flags & HAS_EVENT_ID != 0))
}

/// Length of the encoded event at the front of `bytes`, without decoding it; never more than `bytes` has.
pub fn encoded_len(bytes: &[u8]) -> Result<usize, CodecError> {
    split_event(bytes).map(|(event, _)| event.len()).ok_or(CodecError)
}

fn flag(bit: u8, is_set: bool) -> u8 {
    if is_set { bit } else { 0 }
}

/// Appends a text: its length byte and its bytes.
pub(super) fn push_text(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).expect("a text is at most 255 bytes long"));
    out.extend_from_slice(text.as_bytes());
}

/// Reads a text off the front of `bytes`; returns it and what follows.
pub(super) fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, bytes) = bytes.split_first()?;
    let (text, rest) = bytes.split_at_checked(usize::from(length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn split_event(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    if length < ENCODED_BYTES_MIN {
        return None;
    }
    bytes.split_at_checked(length)
}

fn decode_event(bytes: &[u8]) -> Option<(EventRef<'_>, &[u8])> {
    let (event, behind) = split_event(bytes)?;
    let rest = &event[LENGTH_BYTES..];
    let (micros, rest) = rest.split_first_chunk::<TIMESTAMP_BYTES>()?;
    let (&flags, rest) = rest.split_first()?;
    if flags & !FLAGS_ALL != 0 {
        return None;
    }
    let (event_name, rest) = split_text(rest)?;
    let (channel, rest) = split_text(rest)?;
    let (user_id, rest) = split_text(rest)?;
    let (event_id, rest) = optional(flags & HAS_EVENT_ID, rest, split_text)?;
    let (campaign_id, rest) = optional(flags & HAS_CAMPAIGN_ID, rest, split_text)?;
    let (tags, rest) = optional(flags & HAS_TAGS, rest, split_tags)?;
    let (metadata, rest) = optional(flags & HAS_METADATA, rest, |rest| {
        Some((std::str::from_utf8(rest).ok()?, &[][..]))
    })?;
    if !rest.is_empty() {
        return None;
    }
    let timestamp = Timestamp::from_micros(i64::from_le_bytes(*micros));
    Some((
        EventRef {
            event_name,
            channel,
            user_id,
            timestamp,
            event_id,
            campaign_id,
            tags,
            metadata,
        },
        behind,
    ))
}

/// Reads a field that may be absent: `None` means damage, `Some((None, _))` absence.
fn optional<'a, T>(
    bit: u8,
    bytes: &'a [u8],
    split: impl FnOnce(&'a [u8]) -> Option<(T, &'a [u8])>,
) -> Option<(Option<T>, &'a [u8])> {
    if bit == 0 {
        return Some((None, bytes));
    }
    let (value, rest) = split(bytes)?;
    Some((Some(value), rest))
}

fn split_tags(bytes: &[u8]) -> Option<(Tags<'_>, &[u8])> {
    let (&count, bytes) = bytes.split_first()?;
    let mut rest = bytes;
    for _ in 0..count {
        (_, rest) = split_text(rest)?;
    }
    let tags_bytes = bytes.len() - rest.len();
    Some((
        Tags {
            count,
            bytes: &bytes[..tags_bytes],
        },
        rest,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::TagsBuf;

    fn encoded(event: &EventRef<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(event, &mut out);
        out
    }

    fn smallest() -> EventRef<'static> {
        EventRef {
            event_name: "e",
            channel: "c",
            user_id: "u",
            timestamp: Timestamp::from_micros(1),
            event_id: None,
            campaign_id: None,
            tags: None,
            metadata: None,
        }
    }

    #[test]
    fn golden_bytes_of_a_full_event() {
        let tags: TagsBuf = ["new", "é"].into_iter().collect();
        let event = EventRef {
            event_name: "page_view",
            channel: "web",
            user_id: "u-1",
            timestamp: Timestamp::from_micros(0x0102_0304_0506_0708),
            event_id: Some("id"),
            campaign_id: Some("spring"),
            tags: Some(tags.as_tags()),
            metadata: Some(r#"{ "a":1 }"#),
        };
        let golden = [
            b"\x3a\0\0\0".as_slice(),
            b"\x08\x07\x06\x05\x04\x03\x02\x01",
            b"\x0f",
            b"\x09page_view\x03web\x03u-1",
            b"\x02id\x06spring",
            b"\x02\x03new\x02\xc3\xa9",
            b"{ \"a\":1 }",
        ]
        .concat();
        assert_eq!(encoded(&event), golden);
        assert_eq!(decode(&golden), Ok((event, &[][..])));
    }

    #[test]
    fn golden_bytes_of_the_smallest_event() {
        let golden = b"\x13\0\0\0\x01\0\0\0\0\0\0\0\0\x01e\x01c\x01u";
        assert_eq!(encoded(&smallest()), golden);
        assert_eq!(decode(golden), Ok((smallest(), &[][..])));
    }

    #[test]
    fn an_empty_list_of_tags_is_not_an_absent_one() {
        let none = TagsBuf::default();
        let event = EventRef {
            tags: Some(none.as_tags()),
            ..smallest()
        };
        let bytes = encoded(&event);
        let (decoded, _) = decode(&bytes).unwrap();
        assert!(decoded.tags.is_some_and(|tags| tags.is_empty()));
        assert_ne!(bytes, encoded(&smallest()));
    }

    #[test]
    fn events_follow_each_other() {
        let mut bytes = encoded(&smallest());
        let first_bytes = bytes.len();
        encode(
            &EventRef {
                channel: "later",
                ..smallest()
            },
            &mut bytes,
        );
        assert_eq!(encoded_len(&bytes), Ok(first_bytes));
        let (first, rest) = decode(&bytes).unwrap();
        let (second, rest) = decode(rest).unwrap();
        assert_eq!((first.channel, second.channel, rest), ("c", "later", &[][..]));
    }

    #[test]
    fn every_cut_and_every_unknown_flag_is_refused() {
        let tags: TagsBuf = ["one", "two"].into_iter().collect();
        let event = EventRef {
            event_id: Some("id"),
            campaign_id: Some("ca"),
            tags: Some(tags.as_tags()),
            ..smallest()
        };
        let whole = encoded(&event);
        for cut in 0..whole.len() {
            assert_eq!(decode(&whole[..cut]), Err(CodecError), "{cut} bytes");
            assert_eq!(encoded_len(&whole[..cut]), Err(CodecError), "{cut} bytes");
            // Now with a length field that fits the cut bytes: decoding the fields must notice the cut.
            let mut shortened = whole[..cut].to_vec();
            if let Some(length) = shortened.first_chunk_mut::<LENGTH_BYTES>() {
                *length = u32::try_from(cut).unwrap().to_le_bytes();
                assert_eq!(decode(&shortened), Err(CodecError), "shortened to {cut} bytes");
            }
        }
        for bit in [16, 32, 64, 128] {
            let mut flagged = whole.clone();
            flagged[12] |= bit;
            assert_eq!(decode(&flagged), Err(CodecError), "flag {bit}");
        }
    }

    #[test]
    fn bytes_behind_the_last_field_and_broken_utf8_are_refused() {
        let mut longer = encoded(&smallest());
        longer.push(b'x');
        longer[0] += 1;
        assert_eq!(decode(&longer), Err(CodecError));
        let mut broken = encoded(&smallest());
        *broken.last_mut().unwrap() = 0xff;
        assert_eq!(decode(&broken), Err(CodecError));
    }

    /// Bytes with a plausible head, so that decoding reaches the fields after it.
    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        (
            0..16u8,
            prop::collection::vec(prop_oneof![0..6u8, Just(b'a'), any::<u8>()], 0..60),
        )
            .prop_map(|(flags, fields)| {
                let length = u32::try_from(13 + fields.len()).unwrap();
                [&length.to_le_bytes()[..], &[7; 8], &[flags], &fields].concat()
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn arbitrary_bytes_never_panic_and_decode_only_to_what_encodes_to_them(
            bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..80), plausible()],
        ) {
            if let Ok((event, rest)) = decode(&bytes) {
                prop_assert_eq!(event.tags.map_or(0, |tags| tags.iter().count()), event.tags.map_or(0, |tags| tags.len()));
                let again = encoded(&event);
                prop_assert_eq!(encoded_len(&bytes), Ok(again.len()));
                prop_assert_eq!([&again, rest].concat(), bytes);
            }
        }

        #[test]
        fn an_arbitrary_event_reads_back(
            texts in prop::array::uniform3("\\PC{1,60}"),
            optional in prop::array::uniform2(prop::option::of("\\PC{0,60}")),
            tags in prop::option::of(prop::collection::vec("\\PC{0,60}", 0..8)),
            metadata in prop::option::of("\\PC{0,300}"),
            micros: i64,
            behind: Vec<u8>,
        ) {
            let tags: Option<TagsBuf> = tags.as_ref().map(|tags| tags.iter().map(String::as_str).collect());
            let event = EventRef {
                event_name: &texts[0],
                channel: &texts[1],
                user_id: &texts[2],
                timestamp: Timestamp::from_micros(micros),
                event_id: optional[0].as_deref(),
                campaign_id: optional[1].as_deref(),
                tags: tags.as_ref().map(TagsBuf::as_tags),
                metadata: metadata.as_deref(),
            };
            let mut bytes = encoded(&event);
            prop_assert_eq!(encoded_len(&bytes), Ok(bytes.len()));
            prop_assert_eq!(decode_head(&bytes), Ok((event.timestamp, event.event_id.is_some())));
            // A missing byte is noticed.
            prop_assert!(decode(&bytes[..bytes.len() - 1]).is_err());
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(decode(&bytes), Ok((event, &behind[..])));
        }
    }
}
