//! One event: reads the fields of its JSON object, checks each as it comes, and encodes the event at the end.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::problems::Problems;
use crate::event::rule::{BrokenRule, Field};
use crate::event::validate::{self, Window};
use crate::event::value::{Any, Nested, Skip, Value};
use crate::event::{EventRef, TAGS_MAX, Tags, TagsBuf, Timestamp, codec};

/// Longest part of an unknown field's name that an answer repeats.
const UNKNOWN_NAME_BYTES_MAX: usize = 64;

/// Reads events one after the other and appends those without a problem to a record.
pub(super) struct EventReader<'out> {
    window: Window,
    out: &'out mut Vec<u8>,
    /// Events read so far, good or bad, including the one that is being read.
    pub(super) count: usize,
    /// Whether the last of these events is not read to its end. Stays `true` when broken JSON ends the parse inside it.
    is_inside: bool,
    pub(super) problems: Problems,
    /// Tags of the current event. The buffer is reused, so that it is allocated once per body.
    tags: TagsBuf,
}

impl<'out> EventReader<'out> {
    pub(super) fn new(window: Window, out: &'out mut Vec<u8>) -> Self {
        Self {
            window,
            out,
            count: 0,
            is_inside: false,
            problems: Problems::default(),
            tags: TagsBuf::default(),
        }
    }

    /// Index in the array of the event inside which the parse ended, if it ended inside one.
    pub(super) fn unfinished(&self) -> Option<usize> {
        self.is_inside.then(|| self.count - 1)
    }
}

/// Reads the next event. Broken JSON is an error; any other fault becomes a problem on the reader's list.
impl<'de> DeserializeSeed<'de> for &mut EventReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.problems.begin_event(self.count);
        self.count += 1;
        self.is_inside = true;
        let value = Any(EventObject { reader: self }).deserialize(deserializer)?;
        if value != Value::Object {
            self.problems.add("", BrokenRule::NotAnObject);
        }
        self.is_inside = false;
        Ok(())
    }
}

/// The fields of an event as they are found.
#[derive(Default)]
struct Draft<'de> {
    event_name: Option<Cow<'de, str>>,
    channel: Option<Cow<'de, str>>,
    user_id: Option<Cow<'de, str>>,
    timestamp: Option<Timestamp>,
    event_id: Option<Cow<'de, str>>,
    campaign_id: Option<Cow<'de, str>>,
    /// Whether the event has tags; the reader holds them.
    has_tags: bool,
    metadata: Option<&'de str>,
}

impl Draft<'_> {
    /// The event, or `None` if a required field is missing.
    fn as_event<'a>(&'a self, tags: Tags<'a>) -> Option<EventRef<'a>> {
        Some(EventRef {
            event_name: self.event_name.as_deref()?,
            channel: self.channel.as_deref()?,
            user_id: self.user_id.as_deref()?,
            timestamp: self.timestamp?,
            event_id: self.event_id.as_deref(),
            campaign_id: self.campaign_id.as_deref(),
            tags: self.has_tags.then_some(tags),
            metadata: self.metadata,
        })
    }
}

struct EventObject<'r, 'out> {
    reader: &'r mut EventReader<'out>,
}

impl<'de> Nested<'de> for EventObject<'_, '_> {
    fn object<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let reader = self.reader;
        let mut draft = Draft::default();
        let mut seen = FieldSet::default();
        while let Some(key) = entries.next_key_seed(KeySeed)? {
            match key {
                Key::Known(field) if seen.insert(field) => {
                    if let Err(problem) = read_field(field, &mut entries, &mut draft, reader)? {
                        reader.problems.add(field.name(), problem);
                    }
                }
                Key::Known(field) => {
                    reader.problems.add(field.name(), BrokenRule::DuplicateField);
                    entries.next_value::<IgnoredAny>()?;
                }
                Key::Unknown { name, meant } => {
                    reader.problems.add(&name, BrokenRule::UnknownField { meant });
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        for field in Field::REQUIRED {
            if !seen.contains(field) {
                reader.problems.add(field.name(), BrokenRule::Required);
            }
        }
        if !reader.problems.event_is_invalid() {
            let event = draft
                .as_event(reader.tags.as_tags())
                .expect("a missing required field is a problem");
            codec::encode(&event, reader.out);
        }
        Ok(())
    }
}

/// Reads the value of a field into the draft. The outer result is that of the JSON, the inner one that of the rules.
///
/// `null` means absent, because many clients write out every field that they know. So only a required field may not be
/// `null`.
fn read_field<'de, A: MapAccess<'de>>(
    field: Field,
    entries: &mut A,
    draft: &mut Draft<'de>,
    reader: &mut EventReader<'_>,
) -> Result<Result<(), BrokenRule>, A::Error> {
    match field {
        Field::Metadata => {
            let raw = entries.next_value::<&'de RawValue>()?.get();
            Ok(validate::metadata(raw).map(|metadata| draft.metadata = metadata))
        }
        Field::Tags => {
            reader.tags.clear();
            let array = TagsArray {
                tags: &mut reader.tags,
                problems: &mut reader.problems,
            };
            Ok(match entries.next_value_seed(Any(array))? {
                Value::Array => {
                    draft.has_tags = true;
                    Ok(())
                }
                Value::Null => Ok(()),
                _ => Err(BrokenRule::wrong_type(field)),
            })
        }
        _ => {
            let value = entries.next_value_seed(Any(Skip))?;
            Ok(take_scalar(field, value, draft, reader.window))
        }
    }
}

/// Checks the value of a field that is a text or the timestamp, and puts it into the draft.
fn take_scalar<'de>(field: Field, value: Value<'de>, draft: &mut Draft<'de>, window: Window) -> Result<(), BrokenRule> {
    if value == Value::Null {
        return if field.is_required() {
            Err(BrokenRule::Required)
        } else {
            Ok(())
        };
    }
    let place = match field {
        Field::EventName => &mut draft.event_name,
        Field::Channel => &mut draft.channel,
        Field::UserId => &mut draft.user_id,
        Field::EventId => &mut draft.event_id,
        Field::CampaignId => &mut draft.campaign_id,
        Field::Timestamp => {
            draft.timestamp = Some(validate::timestamp(&value, window)?);
            return Ok(());
        }
        Field::Tags | Field::Metadata => unreachable!("{field:?} is not a scalar"),
    };
    *place = Some(validate::text(field, value)?);
    Ok(())
}

/// Gathers tags. Only the first bad one is listed: the others are likely bad in the same way.
struct TagsArray<'r> {
    tags: &'r mut TagsBuf,
    problems: &'r mut Problems,
}

impl<'de> Nested<'de> for TagsArray<'_> {
    fn array<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        for place in 0..TAGS_MAX {
            let Some(value) = elements.next_element_seed(Any(Skip))? else {
                return Ok(());
            };
            match validate::tag(value) {
                Ok(tag) => self.tags.push(&tag),
                Err(problem) => {
                    self.problems.add(&format!("{}[{place}]", Field::Tags.name()), problem);
                    return Skip.array(elements);
                }
            }
        }
        if elements.next_element::<IgnoredAny>()?.is_some() {
            self.problems.add(Field::Tags.name(), BrokenRule::TooMany);
        }
        Skip.array(elements)
    }
}

/// The fields of an object that were read so far, one bit each.
#[derive(Default)]
struct FieldSet(u8);

impl FieldSet {
    /// Adds the field; returns whether it is new.
    fn insert(&mut self, field: Field) -> bool {
        let is_new = !self.contains(field);
        self.0 |= 1 << field as u8;
        is_new
    }

    fn contains(&self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }
}

enum Key {
    Known(Field),
    Unknown { name: String, meant: Option<Field> },
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
        Ok(match Field::from_name(name) {
            Some(field) => Key::Known(field),
            None => Key::Unknown {
                name: shortened(name).to_owned(),
                meant: Field::meant_by(name),
            },
        })
    }
}

/// The first bytes of an unknown name, cut between characters.
fn shortened(name: &str) -> &str {
    let mut end = name.len().min(UNKNOWN_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
