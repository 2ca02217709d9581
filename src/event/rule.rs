//! The fields of an event, and the name of each way to break a rule about one.

use super::timestamp::TimestampError;
use super::{METADATA_DEPTH_MAX, TAGS_MAX};

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
    pub(super) const REQUIRED: [Self; 4] = [Self::EventName, Self::Channel, Self::UserId, Self::Timestamp];
    pub(super) const OPTIONAL: [Self; 4] = [Self::EventId, Self::CampaignId, Self::Tags, Self::Metadata];

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

    /// The field that is likely meant by a name in another style: `userId`, `User-ID`.
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

    /// Whether an event without this field is refused.
    pub(super) fn is_required(self) -> bool {
        Self::REQUIRED.contains(&self)
    }

    /// What its value must be, for messages.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Timestamp => "a Unix time or an RFC 3339 string",
            Self::Tags => "an array of strings",
            Self::Metadata => "an object",
            Self::EventName | Self::Channel | Self::UserId | Self::EventId | Self::CampaignId => "a string",
        }
    }
}

/// A broken rule. Small, because its text is made only for the problems that an answer lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BrokenRule {
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
    #[error("must not be `*`, which stands for all names in a metrics query")]
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
    #[error("is older than the server accepts (--event-age-max; see fast-ingest serve --help)")]
    TooOld,
}

impl BrokenRule {
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

impl From<TimestampError> for BrokenRule {
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
        self.0
            .map_or(Ok(()), |field| write!(f, " (did you mean {}?)", field.name()))
    }
}
