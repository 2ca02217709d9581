//! The rules an event must keep: what each of its fields may hold.
//!
//! Pure functions from a value to that value or a `BrokenRule`. They are kept apart from the parser so that a rule can
//! be read, and tested, without serde.

use std::borrow::Cow;
use std::time::Duration;

use super::rule::{BrokenRule, Field};
use super::timestamp::TimestampError;
use super::value::Value;
use super::{EVENT_ID_BYTES_MAX, EVERY_NAME, METADATA_BYTES_MAX, NAME_BYTES_MAX, TAG_BYTES_MAX, Timestamp, metadata};

/// How far ahead of the server's clock an event may lie: a client's clock may be wrong by a time zone, not by more.
pub const AHEAD_MICROS_MAX: i64 = 24 * 3_600 * 1_000_000;

/// The timestamps that an event may have, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    earliest_micros: i64,
    latest_micros: i64,
}

impl Window {
    /// At `now`: no further back than `age_max`, no further ahead than [`AHEAD_MICROS_MAX`].
    pub fn new(now: Timestamp, age_max: Duration) -> Self {
        let age_micros = i64::try_from(age_max.as_micros()).unwrap_or(i64::MAX);
        Self {
            earliest_micros: now.as_micros().saturating_sub(age_micros).max(0),
            ..Self::from(now)
        }
    }
}

/// From 1970 to [`AHEAD_MICROS_MAX`] after `now`.
impl From<Timestamp> for Window {
    fn from(now: Timestamp) -> Self {
        Self {
            earliest_micros: 0,
            latest_micros: now.as_micros().saturating_add(AHEAD_MICROS_MAX),
        }
    }
}

/// `event_name`, `channel`, `user_id`, `campaign_id` and `event_id`.
pub(super) fn text<'de>(field: Field, value: Value<'de>) -> Result<Cow<'de, str>, BrokenRule> {
    let bytes_max = if field == Field::EventId {
        EVENT_ID_BYTES_MAX
    } else {
        NAME_BYTES_MAX
    };
    let text = bounded_text(value, bytes_max)?;
    if field == Field::EventName && text == EVERY_NAME {
        return Err(BrokenRule::Reserved);
    }
    Ok(text)
}

/// One element of `tags`.
pub(super) fn tag<'de>(value: Value<'de>) -> Result<Cow<'de, str>, BrokenRule> {
    bounded_text(value, TAG_BYTES_MAX)
}

fn bounded_text(value: Value<'_>, bytes_max: usize) -> Result<Cow<'_, str>, BrokenRule> {
    let text = match value {
        Value::Text(text) => text,
        Value::OverlongText => return Err(BrokenRule::TooLong { bytes_max }),
        _ => {
            return Err(BrokenRule::WrongType { expected: "a string" });
        }
    };
    if text.is_empty() {
        return Err(BrokenRule::Empty);
    }
    if text.len() > bytes_max {
        return Err(BrokenRule::TooLong { bytes_max });
    }
    // JSON has U+0000 only as an escape, and a text with an escape is always an owned one.
    if matches!(&text, Cow::Owned(unescaped) if unescaped.contains('\0')) {
        return Err(BrokenRule::NulCharacter);
    }
    Ok(text)
}

/// `timestamp`: a Unix time or an RFC 3339 text, within the window.
pub(super) fn timestamp(value: &Value<'_>, window: Window) -> Result<Timestamp, BrokenRule> {
    let timestamp = match value {
        Value::Unsigned(number) => Timestamp::from_unix(*number)?,
        Value::Text(text) => Timestamp::parse_rfc3339(text)?,
        Value::OverlongText => return Err(TimestampError::Malformed.into()),
        Value::Negative => return Err(TimestampError::BeforeEpoch.into()),
        // serde_json reads an integer beyond 64 bits as a float, too.
        Value::Float(number) if *number >= u64::MAX as f64 => return Err(BrokenRule::TooFarAhead),
        Value::Float(number) => Timestamp::from_unix_f64(*number)?,
        _ => return Err(BrokenRule::wrong_type(Field::Timestamp)),
    };
    let micros = timestamp.as_micros();
    if micros > window.latest_micros {
        Err(BrokenRule::TooFarAhead)
    } else if micros < window.earliest_micros {
        Err(BrokenRule::TooOld)
    } else {
        Ok(timestamp)
    }
}

/// `metadata`, as the raw text of any JSON value; `None` for `null`.
pub(super) fn metadata(raw: &str) -> Result<Option<&str>, BrokenRule> {
    match raw.as_bytes().first() {
        Some(b'{') => {}
        Some(b'n') => return Ok(None),
        _ => return Err(BrokenRule::wrong_type(Field::Metadata)),
    }
    if raw.len() > METADATA_BYTES_MAX {
        return Err(BrokenRule::TooLong {
            bytes_max: METADATA_BYTES_MAX,
        });
    }
    metadata::check(raw)?;
    Ok(Some(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_fields_and_back() {
        for field in Field::REQUIRED.into_iter().chain(Field::OPTIONAL) {
            assert_eq!(Field::from_name(field.name()), Some(field));
        }
        assert_eq!(Field::from_name("userId"), None);
    }

    #[test]
    fn a_name_in_another_style_is_recognised() {
        assert_eq!(Field::meant_by("userId"), Some(Field::UserId));
        assert_eq!(Field::meant_by("EVENT-NAME"), Some(Field::EventName));
        assert_eq!(Field::meant_by("user"), None);
        assert_eq!(Field::meant_by(""), None);
    }

    #[test]
    fn the_window_begins_as_far_back_as_events_are_taken() {
        let now = Timestamp::from_micros(1_769_938_200_000_000);
        let window = Window::new(now, Duration::from_secs(86_400));
        let at = |micros: i64| timestamp(&Value::Unsigned(micros.unsigned_abs()), window);
        let earliest = now.as_micros() - 86_400_000_000;
        assert_eq!(at(earliest), Ok(Timestamp::from_micros(earliest)));
        assert_eq!(at(earliest - 1), Err(BrokenRule::TooOld));
        let ever = Window::new(now, Duration::MAX);
        assert_eq!(ever, Window::from(now));
    }

    #[test]
    fn the_window_ends_24_hours_from_now() {
        let now = Timestamp::from_micros(1_769_938_200_000_000);
        let micros_ahead = |ahead: i64| Value::Unsigned(u64::try_from(now.as_micros() + ahead).unwrap());
        let latest = Timestamp::from_micros(now.as_micros() + AHEAD_MICROS_MAX);
        assert_eq!(timestamp(&micros_ahead(AHEAD_MICROS_MAX), now.into()), Ok(latest));
        assert_eq!(
            timestamp(&micros_ahead(AHEAD_MICROS_MAX + 1), now.into()),
            Err(BrokenRule::TooFarAhead)
        );
        assert_eq!(
            timestamp(&Value::Unsigned(0), now.into()),
            Ok(Timestamp::from_micros(0))
        );
        assert_eq!(
            timestamp(&Value::Unsigned(1), Timestamp::from_micros(i64::MAX).into()),
            Ok(Timestamp::from_micros(1_000_000))
        );
    }
}
