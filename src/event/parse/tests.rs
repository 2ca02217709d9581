//! Every rule of the wire contract by example, and random events against a plain serde model.

mod bulk;
mod json;
mod model;

use std::fmt::Write as _;

use crate::event::{EVENT_ID_BYTES_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX, Timestamp, codec};

use super::*;

/// 2026-02-01T09:30:00Z
const NOW: Timestamp = Timestamp::from_micros(1_769_938_200_000_000);
const SMALLEST: &str = r#"{"event_name":"e","channel":"c","user_id":"u","timestamp":1}"#;

fn parse_one(body: &str) -> Result<Vec<u8>, ParseError> {
    let mut out = Vec::new();
    parse_event(body.as_bytes(), NOW, &mut out)?;
    assert!(
        out.len() <= body.len(),
        "an encoded event is never longer than its JSON"
    );
    assert_eq!(codec::encoded_len(&out), Ok(out.len()));
    Ok(out)
}

fn parse_many(body: &str, events_max: usize) -> Result<(u32, Vec<u8>), ParseError> {
    let mut out = Vec::new();
    let count = parse_bulk(body.as_bytes(), events_max, NOW, &mut out)?;
    assert!(
        out.len() <= body.len(),
        "encoded events are never longer than their JSON"
    );
    Ok((count, out))
}

fn json_message<T: std::fmt::Debug>(outcome: Result<T, ParseError>) -> String {
    match outcome {
        Err(ParseError::Json(message)) => message,
        other => panic!("expected a JSON error, got {other:?}"),
    }
}

/// `index field code` of each problem.
fn problems<T: std::fmt::Debug>(outcome: Result<T, ParseError>) -> Vec<String> {
    match outcome {
        Err(ParseError::Invalid { errors, .. }) => errors
            .iter()
            .map(|error| format!("{} {} {}", error.index, error.field, error.code))
            .collect(),
        other => panic!("expected invalid events, got {other:?}"),
    }
}

/// The smallest event with one field set, in place of its own or added.
fn with(field: &str, value: &str) -> String {
    let mut body = String::from("{");
    for (name, default) in [
        ("event_name", r#""e""#),
        ("channel", r#""c""#),
        ("user_id", r#""u""#),
        ("timestamp", "1"),
    ] {
        if name != field {
            write!(body, r#""{name}":{default},"#).unwrap();
        }
    }
    write!(body, r#""{field}":{value}}}"#).unwrap();
    body
}

fn string_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes))
}

#[track_caller]
fn accepts(field: &str, value: &str) {
    let outcome = parse_one(&with(field, value));
    assert!(outcome.is_ok(), "{field} = {value:.80}: {outcome:?}");
}

#[track_caller]
fn refuses(field: &str, value: &str, code: &str) {
    assert_eq!(
        problems(parse_one(&with(field, value))),
        [format!("0 {field} {code}")],
        "{field} = {value:.80}"
    );
}

#[test]
fn a_full_event_arrives_whole() {
    let body = r#" {
        "event_name": "page_view", "channel": "web", "user_id": "u-1", "timestamp": "2026-02-01T10:00:00.5+01:00",
        "event_id": "id-1", "campaign_id": "spring", "tags": ["new", "é"], "metadata": { "url":"/a", "n": 1.50 }
    } "#;
    let bytes = parse_one(body).unwrap();
    let (event, _) = codec::decode(&bytes).unwrap();
    assert_eq!(
        (event.event_name, event.channel, event.user_id),
        ("page_view", "web", "u-1")
    );
    assert_eq!(event.timestamp.to_string(), "2026-02-01T09:00:00.5Z");
    assert_eq!((event.event_id, event.campaign_id), (Some("id-1"), Some("spring")));
    assert_eq!(event.tags.unwrap().iter().collect::<Vec<_>>(), ["new", "é"]);
    assert_eq!(event.metadata, Some(r#"{ "url":"/a", "n": 1.50 }"#));
}

#[test]
fn the_largest_event_arrives_whole() {
    let name = "n".repeat(NAME_BYTES_MAX);
    let event_id = "i".repeat(EVENT_ID_BYTES_MAX);
    let tags = vec!["t".repeat(TAG_BYTES_MAX); TAGS_MAX];
    let metadata = format!(r#"{{"a":"{}"}}"#, "m".repeat(METADATA_BYTES_MAX - 8));
    let body = format!(
        r#"{{"event_name":"{name}","channel":"{name}","user_id":"{name}","timestamp":1,"event_id":"{event_id}","campaign_id":"{name}","tags":{tags:?},"metadata":{metadata}}}"#
    );
    let bytes = parse_one(&body).unwrap();
    let (event, _) = codec::decode(&bytes).unwrap();
    assert_eq!([event.event_name, event.channel, event.user_id], [name.as_str(); 3]);
    assert_eq!(
        (event.event_id, event.campaign_id),
        (Some(event_id.as_str()), Some(name.as_str()))
    );
    assert!(event.tags.unwrap().iter().eq(&tags));
    assert_eq!(event.metadata, Some(metadata.as_str()));
}

#[test]
fn optional_fields_may_be_absent_or_null_and_empty_tags_differ_from_both() {
    let smallest = parse_one(SMALLEST).unwrap();
    let nulls = SMALLEST.replace(
        '}',
        r#","event_id":null,"campaign_id":null,"tags":null,"metadata":null}"#,
    );
    assert_eq!(parse_one(&nulls).unwrap(), smallest);
    let empty = parse_one(&with("tags", "[]")).unwrap();
    let (event, _) = codec::decode(&empty).unwrap();
    assert_eq!(event.tags.map(|tags| tags.len()), Some(0));
}

#[test]
fn required_fields_must_be_there() {
    assert_eq!(
        problems(parse_one("{}")),
        [
            "0 event_name required",
            "0 channel required",
            "0 user_id required",
            "0 timestamp required"
        ]
    );
    for field in ["event_name", "channel", "user_id", "timestamp"] {
        refuses(field, "null", "required");
    }
}

#[test]
fn names_are_1_to_200_bytes() {
    for field in ["event_name", "channel", "user_id", "campaign_id"] {
        accepts(field, &string_of(1));
        accepts(field, &string_of(200));
        refuses(field, &string_of(201), "too_long");
        refuses(field, r#""""#, "empty");
        // Bytes count, not characters, and not the length of an escape.
        accepts(field, &format!("\"{}\"", "é".repeat(100)));
        refuses(field, &format!("\"{}x\"", "é".repeat(100)), "too_long");
        accepts(field, &format!("\"{}\"", r"\u00e9".repeat(100)));
        refuses(field, &format!("\"{}\"", r"\u00e9".repeat(101)), "too_long");
        refuses(field, &format!("\"{}\\u0000\"", "x".repeat(200)), "too_long");
    }
}

#[test]
fn event_ids_are_1_to_128_bytes() {
    accepts("event_id", &string_of(128));
    refuses("event_id", &string_of(129), "too_long");
    refuses("event_id", r#""""#, "empty");
}

#[test]
fn tags_are_at_most_64_of_1_to_128_bytes() {
    let tags = |count: usize, tag: &str| format!("[{}]", vec![tag; count].join(","));
    accepts("tags", &tags(64, &string_of(128)));
    refuses("tags", &tags(65, r#""x""#), "too_many");
    for (tag, code) in [
        (string_of(129).as_str(), "too_long"),
        (r#""""#, "empty"),
        ("1", "wrong_type"),
        ("null", "wrong_type"),
        (r#"["x"]"#, "wrong_type"),
        (r#""\u0000""#, "nul_character"),
    ] {
        let body = with("tags", &format!(r#"["good",{tag},{tag}]"#));
        assert_eq!(problems(parse_one(&body)), [format!("0 tags[1] {code}")], "{tag:.80}");
    }
}

#[test]
fn metadata_is_an_object_of_at_most_64_kib_as_sent() {
    let object_of = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    assert_eq!(object_of(100).len(), 100);
    accepts("metadata", &object_of(64 * 1024));
    refuses("metadata", &object_of(64 * 1024 + 1), "too_long");
    accepts("metadata", "{}");
    for value in ["[]", "[{}]", "1", "\"{}\"", "true", "false"] {
        refuses("metadata", value, "wrong_type");
    }
}

#[test]
fn metadata_is_checked_inside() {
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    accepts("metadata", &nested(32));
    refuses("metadata", &nested(33), "too_deep");
    refuses("metadata", r#"{"a":["\u0000"]}"#, "nul_character");
    refuses("metadata", r#"{"\ud83d":1}"#, "lone_surrogate");
    refuses("metadata", r#"{"a":1e131072}"#, "number_out_of_range");
    accepts("metadata", r#"{"a":"\\u0000","\ud83d\ude00":1e131071}"#);
}

#[test]
fn a_timestamp_lies_between_1970_and_a_day_ahead() {
    accepts("timestamp", "0");
    accepts("timestamp", r#""1970-01-01T00:00:00Z""#);
    accepts("timestamp", r#""2026-02-02T09:30:00Z""#);
    accepts("timestamp", "1770024600000000");
    for value in [
        "-1",
        "-9223372036854775809",
        "1770024600000001",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
        r#""2026-02-02T09:30:00.000001Z""#,
        r#""1969-12-31T23:59:59Z""#,
        r#""9999-12-31T23:59:59Z""#,
    ] {
        refuses("timestamp", value, "out_of_range");
    }
    for value in [
        r#""""#,
        r#""1769938200""#,
        r#""2026-02-01T09:30:00""#,
        r#""2026-02-30T09:30:00Z""#,
        &format!("\"\\u0032{}\"", "0".repeat(200)),
    ] {
        refuses("timestamp", value, "malformed");
    }
    for value in ["true", "[]", "{}"] {
        refuses("timestamp", value, "wrong_type");
    }
}

#[test]
fn a_wrong_type_is_a_problem_of_the_event_and_no_end_of_the_parse() {
    for field in ["event_name", "channel", "user_id", "campaign_id", "event_id"] {
        for value in ["1", "-1", "1.5", "true", r#"["x",{"y":[]}]"#, r#"{"x":["y"]}"#] {
            refuses(field, value, "wrong_type");
        }
    }
    for value in [r#""x""#, "1", "-1", "1.5", "true", r#"{"x":["y"]}"#] {
        refuses("tags", value, "wrong_type");
    }
}

#[test]
fn unknown_fields_are_named_and_their_likely_meaning_told() {
    let Err(ParseError::Invalid { errors, .. }) = parse_one(&with("userId", "{}")) else {
        panic!("not invalid")
    };
    assert_eq!((errors[0].field.as_str(), errors[0].code), ("userId", "unknown_field"));
    assert!(
        errors[0].message.contains("did you mean user_id?"),
        "{}",
        errors[0].message
    );
    let long = format!("{}é", "x".repeat(63));
    assert_eq!(
        problems(parse_one(&with(&long, "1"))),
        [format!("0 {} unknown_field", "x".repeat(63))]
    );
}

#[test]
fn a_field_may_stand_only_once() {
    for field in ["event_name", "timestamp", "tags", "metadata"] {
        let body = SMALLEST.replace('}', &format!(r#","{field}":null,"{field}":null}}"#));
        let found = problems(parse_one(&body));
        assert_eq!(found.last(), Some(&format!("0 {field} duplicate_field")), "{found:?}");
    }
    // A key with an escape is still the same key.
    assert_eq!(
        problems(parse_one(&with(r"user\u005fid", r#""v""#))),
        [r"0 user_id duplicate_field"]
    );
}
