//! A serde visitor that takes any JSON value, so that a value of the wrong type becomes a problem of its event instead
//! of ending the whole parse.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::event::NAME_BYTES_MAX;

/// Longest text that any rule allows: a name. A timestamp is shorter, unless its fraction has 180 digits.
const TEXT_BYTES_MAX: usize = NAME_BYTES_MAX;

/// A JSON value, as far as a rule may ask about it.
#[derive(Debug, PartialEq)]
pub(in crate::event) enum Value<'de> {
    Null,
    Bool,
    /// An integer of at most 64 bits.
    Unsigned(u64),
    /// An integer below 0 of at most 64 bits.
    Negative,
    /// Every other number.
    Float(f64),
    /// Borrowed, unless it contains an escape.
    Text(Cow<'de, str>),
    /// A text with an escape that is longer than any field may be. Not kept: the copy could be as large as the body.
    OverlongText,
    /// Its elements were read by [`Nested::array`].
    Array,
    /// Its entries were read by [`Nested::object`].
    Object,
}

/// What to do with an array or object. Each must be read to its end; by default its contents are ignored.
pub(super) trait Nested<'de>: Sized {
    fn array<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn object<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Ignores the contents of arrays and objects.
pub(super) struct Skip;

impl Nested<'_> for Skip {}

/// Reads any value.
pub(super) struct Any<N>(pub(super) N);

impl<'de, N: Nested<'de>> DeserializeSeed<'de> for Any<N> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, N: Nested<'de>> Visitor<'de> for Any<N> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(number).map_or(Value::Negative, Value::Unsigned))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(if text.len() > TEXT_BYTES_MAX {
            Value::OverlongText
        } else {
            Value::Text(Cow::Owned(text.to_owned()))
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Self::Value, A::Error> {
        self.0.array(elements).map(|()| Value::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        self.0.object(entries).map(|()| Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Value<'_> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        Any(Skip).deserialize(&mut deserializer).unwrap()
    }

    #[test]
    fn a_text_is_copied_only_for_an_escape_and_only_up_to_the_longest_limit() {
        let longest = "x".repeat(TEXT_BYTES_MAX - 1);
        let plain = format!("\"{longest}{longest}\"");
        assert!(matches!(read(&plain), Value::Text(Cow::Borrowed(text)) if text.len() == 2 * longest.len()));
        let escaped = format!("\"{longest}\\n\"");
        assert!(matches!(read(&escaped), Value::Text(Cow::Owned(text)) if text.len() == TEXT_BYTES_MAX));
        assert_eq!(read(&format!("\"{longest}\\nx\"")), Value::OverlongText);
    }
}
