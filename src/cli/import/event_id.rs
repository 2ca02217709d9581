//! The `event_id` that a line is given when it has none, and the check that a line is one JSON object.
//!
//! The format is stable, because a later version must give the same line the same id: `imp-` and the 32 lower-case hex
//! digits of XXH3-128 (seed 0) over 8 bytes of line number, little-endian, followed by the line. Lines count from 1 in
//! the decompressed file. A line's bytes are those before its `\n` or `\r\n`; a byte order mark at the start of the
//! file belongs to no line. The file's name is left out, so that a renamed, compressed or copied file keeps its ids.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3Default;

use super::refused::Reason;

/// An id, and where to write it into a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GivenId {
    /// Bytes of the line before the inserted text.
    until: usize,
    /// The text to insert, with the id.
    text: String,
    /// Offset at which the line continues: after a `null` that the text replaces, else equal to `until`.
    from: usize,
}

impl GivenId {
    /// Appends `line` with the id to `out`.
    pub(super) fn write(&self, line: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&line[..self.until]);
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(&line[self.from..]);
    }

    /// Bytes of the inserted text; the line grows by no more than that.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

/// Checks that a line is a JSON object, and makes the id to write into it: `None` if the line has an `event_id` that is
/// not null.
///
/// # Errors
///
/// Why the line cannot be sent: with it the server could not read the request.
pub(super) fn check_line(number: u64, line: &[u8]) -> Result<Option<GivenId>, Reason> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let place = error.valid_up_to() + 1;
        Reason::of_line("not_utf8", format!("is not UTF-8 at byte {place}"))
    })?;
    let open = line.iter().position(|byte| !byte.is_ascii_whitespace());
    let Some(open) = open.filter(|&open| line[open] == b'{') else {
        return Err(Reason::of_line("not_an_object", "is not a JSON object"));
    };
    let object: Object<'_> = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    let id = || event_id(number, line);
    let given = match object.event_id.map(RawValue::get) {
        Some("null") => {
            // `get` borrows from `text`, so the distance of the two pointers is the offset in the line.
            let null = object.event_id.map_or(0, |raw| raw.get().as_ptr() as usize);
            let until = null - text.as_ptr() as usize;
            let from = until + "null".len();
            GivenId {
                until,
                text: format!("\"{}\"", id()),
                from,
            }
        }
        Some(_) => return Ok(None),
        None => {
            let behind = open + 1;
            let next = line[behind..].iter().find(|byte| !byte.is_ascii_whitespace());
            let comma = if next == Some(&b'}') { "" } else { "," };
            let text = format!("\"event_id\":\"{}\"{comma}", id());
            GivenId {
                until: behind,
                text,
                from: behind,
            }
        }
    };
    Ok(Some(given))
}

/// The id of a line, as the module's doc defines it.
fn event_id(number: u64, line: &[u8]) -> String {
    let mut hash = Xxh3Default::new();
    hash.update(&number.to_le_bytes());
    hash.update(line);
    format!("imp-{:032x}", hash.digest128())
}

/// The only field of an event that import reads; the server checks the rest.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    event_id: Option<&'a RawValue>,
}

/// Keeps `null` as a value, which `Option` alone would turn into the `None` of an absent key.
fn even_null<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

fn not_json(error: &serde_json::Error) -> Reason {
    // serde_json's line number is always 1 here, and would be confusing beside that of the file.
    let text = error.to_string();
    let what = text
        .rsplit_once(" at line ")
        .map_or(Cow::Borrowed(&*text), |(what, _)| what.into());
    let message = format!("is not JSON: {what} at column {}", error.column());
    Reason::of_line("not_json", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: u64, line: &str) -> String {
        let mut out = Vec::new();
        match check_line(number, line.as_bytes()).unwrap() {
            Some(id) => id.write(line.as_bytes(), &mut out),
            None => out.extend_from_slice(line.as_bytes()),
        }
        String::from_utf8(out).unwrap()
    }

    fn refused(line: &[u8]) -> (String, String) {
        let reason = check_line(1, line).unwrap_err();
        (reason.code, reason.message)
    }

    #[test]
    fn the_format_of_an_id_never_changes() {
        let line = br#"{"event_name":"page_view"}"#;
        assert_eq!(event_id(1, line), "imp-0eb57b737648d02e7695da67636eceaa");
        assert_eq!(event_id(2, line), "imp-208d8bff53b010e3936c528739fade10");
        assert_eq!(event_id(u64::MAX, b""), "imp-dc6b20d207425aa58b3249d34c2ef0b0");
    }

    #[test]
    fn an_id_goes_behind_the_opening_brace() {
        let line = r#"  { "a":1}"#;
        let id = event_id(7, line.as_bytes());
        assert_eq!(sent(7, line), format!(r#"  {{"event_id":"{id}", "a":1}}"#));
    }

    #[test]
    fn an_empty_object_stays_json() {
        let id = event_id(1, b"{ }");
        assert_eq!(sent(1, "{ }"), format!(r#"{{"event_id":"{id}" }}"#));
    }

    #[test]
    fn a_null_id_is_replaced_not_repeated() {
        let line = r#"{"a":null,"event_id": null ,"b":2}"#;
        let id = event_id(3, line.as_bytes());
        assert_eq!(sent(3, line), format!(r#"{{"a":null,"event_id": "{id}" ,"b":2}}"#));
    }

    #[test]
    fn an_id_of_the_line_is_kept_however_it_is_written() {
        for line in [
            r#"{"event_id":"mine"}"#,
            r#"{"x":1,"event\u005fid":"mine"}"#,
            r#"{"event_id":5}"#,
        ] {
            assert_eq!(sent(1, line), line);
        }
    }

    #[test]
    fn an_id_inside_metadata_is_not_the_events() {
        let line = r#"{"metadata":{"event_id":"inner"}}"#;
        assert!(sent(1, line).starts_with(r#"{"event_id":"imp-"#));
    }

    #[test]
    fn what_would_spoil_the_request_is_refused_with_a_reason() {
        assert_eq!(refused(b"[1]").0, "not_an_object");
        assert_eq!(refused(b"\"text\"").0, "not_an_object");
        assert_eq!(
            refused(b"{\"a\":\"\xff\"}"),
            ("not_utf8".into(), "is not UTF-8 at byte 7".into())
        );
        for line in [
            r#"{"a":1"#,
            r#"{"a":1} {"b":2}"#,
            r#"{"a":1},"#,
            r#"{"event_id":"1","event_id":"2"}"#,
        ] {
            let (code, message) = refused(line.as_bytes());
            assert_eq!(code, "not_json", "{line}");
            assert!(message.contains("at column") && !message.contains("line"), "{message}");
        }
    }
}
