//! The rules an event must keep: its fields, what each may hold, and the name of every way to break a rule.
//!
//! Pure functions from a value to that value or a `Problem`. They stand apart from the parser so that a rule can be read, and
//! tested, without serde.

use std::borrow::Cow;
use std::time::Duration;

use super::parse::value::Value;
use super::timestamp::TimestampError;
use super::{
    EVENT_ID_BYTES_MAX, EVERY_NAME, METADATA_BYTES_MAX, METADATA_DEPTH_MAX, NAME_BYTES_MAX,
    TAG_BYTES_MAX, TAGS_MAX, Timestamp, metadata,
};

/// How far ahead of the server's clock an event may lie: a client's clock may be wrong by a time zone, not by more.
pub const AHEAD_MICROS_MAX: i64 = 24 * 3_600 * 1_000_000;

/// When an event may have happened.
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

/// From 1970 on.
impl From<Timestamp> for Window {
    fn from(now: Timestamp) -> Self {
        Self {
            earliest_micros: 0,
            latest_micros: now.as_micros().saturating_add(AHEAD_MICROS_MAX),
        }
    }
}

/// A field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    EventName,
    Channel,
    UserId,
    Timestamp,
    EventId,
    CampaignId,
    Tags,
    Metadata,
}

impl Field {
    pub(super) const REQUIRED: [Self; 4] = [
        Self::EventName,
        Self::Channel,
        Self::UserId,
        Self::Timestamp,
    ];
    const OPTIONAL: [Self; 4] = [Self::EventId, Self::CampaignId, Self::Tags, Self::Metadata];

    /// The field of this name on the wire.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "event_name" => Self::EventName,
            "channel" => Self::Channel,
            "user_id" => Self::UserId,
            "timestamp" => Self::Timestamp,
            "event_id" => Self::EventId,
            "campaign_id" => Self::CampaignId,
            "tags" => Self::Tags,
            "metadata" => Self::Metadata,
            _ => return None,
        })
    }

    /// The field that somebody meant who writes names in another style: `userId`, `User-ID`.
    pub(super) fn meant_by(name: &str) -> Option<Self> {
        fn letters(name: &str) -> impl Iterator<Item = u8> {
            name.bytes()
                .filter(u8::is_ascii_alphanumeric)
                .map(|byte| byte.to_ascii_lowercase())
        }
        Self::REQUIRED
            .into_iter()
            .chain(Self::OPTIONAL)
            .find(|field| letters(field.name()).eq(letters(name)))
    }

    /// Name on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EventName => "event_name",
            Self::Channel => "channel",
            Self::UserId => "user_id",
            Self::Timestamp => "timestamp",
            Self::EventId => "event_id",
            Self::CampaignId => "campaign_id",
            Self::Tags => "tags",
            Self::Metadata => "metadata",
        }
    }

    /// Whether an event without it is refused.
    pub(super) fn is_required(self) -> bool {
        Self::REQUIRED.contains(&self)
    }

    /// What its value must be, for messages.
    fn expected(self) -> &'static str {
        match self {
            Self::Timestamp => "a Unix time or an RFC 3339 string",
            Self::Tags => "an array of strings",
            Self::Metadata => "an object",
            Self::EventName | Self::Channel | Self::UserId | Self::EventId | Self::CampaignId => {
                "a string"
            }
        }
    }
}

/// A broken rule. Small and free of text, which is made only for the problems that an answer lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("must be a JSON object")]
    NotAnObject,
    #[error("is required")]
    Required,
    #[error("is not a field of an event{}; other data belongs in metadata", Hint(*.meant))]
    UnknownField { meant: Option<Field> },
    #[error("must not be given more than once")]
    DuplicateField,
    #[error("must be {expected}")]
    WrongType { expected: &'static str },
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {bytes_max} bytes long (in UTF-8)")]
    TooLong { bytes_max: usize },
    #[error("must hold at most {TAGS_MAX} tags")]
    TooMany,
    #[error("must not contain the character U+0000, which the database cannot store")]
    NulCharacter,
    #[error("must not be `*`, which stands for every name where metrics are asked for")]
    Reserved,
    #[error("must not contain half of a surrogate pair, such as \\ud83d alone")]
    LoneSurrogate,
    #[error("must not be nested deeper than {METADATA_DEPTH_MAX} levels")]
    TooDeep,
    #[error("holds a number with more digits, or a larger exponent, than the database can store")]
    NumberOutOfRange,
    #[error("{0}")]
    Malformed(TimestampError),
    #[error("{0}")]
    BeforeEpoch(TimestampError),
    #[error("must not be more than 24 hours ahead of the server's clock")]
    TooFarAhead,
    #[error(
        "lies further back than the server takes events (--event-age-max); fast-ingest serve --help says how far"
    )]
    TooOld,
}

impl Problem {
    /// The stable name of the rule, for programs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::Required => "required",
            Self::UnknownField { .. } => "unknown_field",
            Self::DuplicateField => "duplicate_field",
            Self::WrongType { .. } => "wrong_type",
            Self::Empty => "empty",
            Self::TooLong { .. } => "too_long",
            Self::TooMany => "too_many",
            Self::NulCharacter => "nul_character",
            Self::Reserved => "reserved",
            Self::LoneSurrogate => "lone_surrogate",
            Self::TooDeep => "too_deep",
            Self::NumberOutOfRange => "number_out_of_range",
            Self::Malformed(_) => "malformed",
            Self::BeforeEpoch(_) | Self::TooFarAhead | Self::TooOld => "out_of_range",
        }
    }

    /// The value of `field` is of another JSON type than it must be.
    pub(super) fn wrong_type(field: Field) -> Self {
        Self::WrongType {
            expected: field.expected(),
        }
    }
}

impl From<TimestampError> for Problem {
    fn from(error: TimestampError) -> Self {
        match error {
            TimestampError::Malformed => Self::Malformed(error),
            TimestampError::BeforeEpoch => Self::BeforeEpoch(error),
            TimestampError::TooLarge => Self::TooFarAhead,
        }
    }
}

/// `(did you mean user_id?)`
struct Hint(Option<Field>);

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |field| {
            write!(f, " (did you mean {}?)", field.name())
        })
    }
}

/// `event_name`, `channel`, `user_id`, `campaign_id` and `event_id`.
pub(super) fn text<'de>(field: Field, value: Value<'de>) -> Result<Cow<'de, str>, Problem> {
    let bytes_max = if field == Field::EventId {
        EVENT_ID_BYTES_MAX
    } else {
        NAME_BYTES_MAX
    };
    let text = bounded_text(value, bytes_max)?;
    if field == Field::EventName && text == EVERY_NAME {
        return Err(Problem::Reserved);
    }
    Ok(text)
}

/// One element of `tags`.
pub(super) fn tag<'de>(value: Value<'de>) -> Result<Cow<'de, str>, Problem> {
    bounded_text(value, TAG_BYTES_MAX)
}

fn bounded_text(value: Value<'_>, bytes_max: usize) -> Result<Cow<'_, str>, Problem> {
    let text = match value {
        Value::Text(text) => text,
        Value::OverlongText => return Err(Problem::TooLong { bytes_max }),
        _ => {
            return Err(Problem::WrongType {
                expected: "a string",
            });
        }
    };
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if text.len() > bytes_max {
        return Err(Problem::TooLong { bytes_max });
    }
    // JSON has U+0000 only as an escape, and a text with an escape is always an owned one.
    if matches!(&text, Cow::Owned(unescaped) if unescaped.contains('\0')) {
        return Err(Problem::NulCharacter);
    }
    Ok(text)
}

/// `timestamp`: in either form, within the window.
pub(super) fn timestamp(value: &Value<'_>, window: Window) -> Result<Timestamp, Problem> {
    let timestamp = match value {
        Value::Unsigned(number) => Timestamp::from_unix(*number)?,
        Value::Text(text) => Timestamp::parse_rfc3339(text)?,
        Value::OverlongText => return Err(TimestampError::Malformed.into()),
        Value::Negative => return Err(TimestampError::BeforeEpoch.into()),
        // serde_json reads an integer beyond 64 bits as a float, too.
        Value::Float(number) if *number >= u64::MAX as f64 => return Err(Problem::TooFarAhead),
        Value::Float(number) => Timestamp::from_unix_f64(*number)?,
        _ => return Err(Problem::wrong_type(Field::Timestamp)),
    };
    let micros = timestamp.as_micros();
    if micros > window.latest_micros {
        Err(Problem::TooFarAhead)
    } else if micros < window.earliest_micros {
        Err(Problem::TooOld)
    } else {
        Ok(timestamp)
    }
}

/// `metadata`, as the raw text of any JSON value; `None` for `null`.
pub(super) fn metadata(raw: &str) -> Result<Option<&str>, Problem> {
    match raw.as_bytes().first() {
        Some(b'{') => {}
        Some(b'n') => return Ok(None),
        _ => return Err(Problem::wrong_type(Field::Metadata)),
    }
    if raw.len() > METADATA_BYTES_MAX {
        return Err(Problem::TooLong {
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
        assert_eq!(at(earliest - 1), Err(Problem::TooOld));
        let ever = Window::new(now, Duration::MAX);
        assert_eq!(ever, Window::from(now));
    }

    #[test]
    fn the_window_ends_24_hours_from_now() {
        let now = Timestamp::from_micros(1_769_938_200_000_000);
        let micros_ahead =
            |ahead: i64| Value::Unsigned(u64::try_from(now.as_micros() + ahead).unwrap());
        let latest = Timestamp::from_micros(now.as_micros() + AHEAD_MICROS_MAX);
        assert_eq!(
            timestamp(&micros_ahead(AHEAD_MICROS_MAX), now.into()),
            Ok(latest)
        );
        assert_eq!(
            timestamp(&micros_ahead(AHEAD_MICROS_MAX + 1), now.into()),
            Err(Problem::TooFarAhead)
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
