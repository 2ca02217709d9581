//! Random events: parser and codec yield what a plain serde model reads from the same JSON.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::*;

/// The wire contract as a plain serde type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    event_name: String,
    channel: String,
    user_id: String,
    timestamp: serde_json::Value,
    event_id: Option<String>,
    campaign_id: Option<String>,
    tags: Option<Vec<String>>,
    metadata: Option<Box<RawValue>>,
}

/// Text of 1 to 60 bytes, escapes and multi-byte characters included.
fn name() -> impl Strategy<Value = String> {
    r#"[a-zA-Z0-9_é😀"\\/\n\t ]{1,15}"#
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        (-1e300..1e300).prop_map(serde_json::Value::from),
        name().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::hash_map(name(), inner, 0..4).prop_map(|entries| {
                serde_json::Value::from(entries.into_iter().collect::<serde_json::Map<_, _>>())
            }),
        ]
    })
}

fn metadata() -> impl Strategy<Value = Box<RawValue>> {
    (prop::collection::hash_map(name(), json_value(), 0..4), any::<bool>()).prop_map(|(entries, is_pretty)| {
        let text = if is_pretty {
            serde_json::to_string_pretty(&entries)
        } else {
            serde_json::to_string(&entries)
        };
        RawValue::from_string(text.unwrap()).unwrap()
    })
}

fn model() -> impl Strategy<Value = Model> {
    let instant = (0..NOW.as_micros()).prop_flat_map(|micros| {
        let text = Timestamp::from_micros(micros).to_string();
        prop_oneof![
            Just(serde_json::Value::from(micros / 1_000_000)),
            Just(serde_json::Value::from(text))
        ]
    });
    let required = (name(), name(), name(), instant);
    let optional = (
        prop::option::of(name()),
        prop::option::of(name()),
        prop::option::of(prop::collection::vec(name(), 0..5)),
        prop::option::of(metadata()),
    );
    (required, optional).prop_map(
        |((event_name, channel, user_id, timestamp), (event_id, campaign_id, tags, metadata))| Model {
            event_name,
            channel,
            user_id,
            timestamp,
            event_id,
            campaign_id,
            tags,
            metadata,
        },
    )
}

/// Writes every character that is not plain ASCII as an escape, and every letter a.
fn escaped(json: &str) -> String {
    let mut escaped = String::new();
    for character in json.chars() {
        if character.is_ascii() && character != 'a' {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(escaped, "\\u{unit:04x}").unwrap();
            }
        }
    }
    escaped
}

fn assert_same(event: &crate::event::EventRef<'_>, model: &Model) {
    assert_eq!(event.event_name, model.event_name);
    assert_eq!(event.channel, model.channel);
    assert_eq!(event.user_id, model.user_id);
    let expected = match &model.timestamp {
        serde_json::Value::String(text) => text.parse::<jiff::Timestamp>().unwrap().as_microsecond(),
        seconds => seconds.as_i64().unwrap() * 1_000_000,
    };
    assert_eq!(event.timestamp.as_micros(), expected);
    assert_eq!(event.event_id, model.event_id.as_deref());
    assert_eq!(event.campaign_id, model.campaign_id.as_deref());
    let tags = event
        .tags
        .map(|tags| tags.iter().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(tags, model.tags);
    assert_eq!(event.metadata, model.metadata.as_deref().map(RawValue::get));
}

proptest! {
    #[test]
    fn events_arrive_as_a_plain_model_reads_them(models in prop::collection::vec(model(), 1..6), escape in any::<bool>()) {
        let mut body = serde_json::to_string(&models).unwrap();
        if escape {
            // Keys are escaped too: `channel` and `metadata` contain the letter a. Literals must stay: `false` cannot
            // be written with an escape.
            body = escaped(&body).replace(r"f\u0061lse", "false");
        }
        let models: Vec<Model> = serde_json::from_str(&body).unwrap();
        let (count, bytes) = parse_many(&body, models.len()).unwrap();
        prop_assert_eq!(count as usize, models.len());
        let mut rest = bytes.as_slice();
        for model in &models {
            let (event, behind) = codec::decode(rest).unwrap();
            assert_same(&event, model);
            let alone = serde_json::to_string(model).unwrap();
            prop_assert_eq!(parse_one(&alone).unwrap(), &rest[..rest.len() - behind.len()]);
            rest = behind;
        }
        prop_assert!(rest.is_empty());
    }

    /// Cutting, doubling and changing bytes of good JSON reaches far more of the parser than random bytes do.
    #[test]
    fn damaged_bodies_never_panic(models in prop::collection::vec(model(), 1..3), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..6)) {
        let mut body = serde_json::to_vec(&models).unwrap();
        for (place, byte, kind) in damage {
            let at = place.index(body.len());
            match kind {
                0 => body[at] = byte,
                1 => body.insert(at, b"\"\\{}[]:,-e0"[usize::from(byte) % 11]),
                2 if body.len() > 1 => drop(body.remove(at)),
                _ => body.truncate(at.max(1)),
            }
        }
        let mut out = Vec::new();
        if let Ok(count) = parse_bulk(&body, 10, NOW, &mut out) {
            prop_assert!(out.len() <= body.len());
            let mut rest = out.as_slice();
            for _ in 0..count {
                rest = codec::decode(rest).unwrap().1;
            }
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..60), opening in prop::sample::select(vec!["", "{", "[", "[{\""])) {
        let body = [opening.as_bytes(), &body].concat();
        prop_assert!(parse_event(&body, NOW, &mut Vec::new()).is_err());
        prop_assert!(parse_bulk(&body, 10, NOW, &mut Vec::new()).is_err());
    }
}
