//! An event: one fact that a client reports, the limits that it must keep, and its encoded form.
//!
//! An event is never held as an owned struct. [`parse`] walks the JSON once and appends each event, validated, to the
//! record that goes into the write-ahead log; from there on it is bytes, looked at through [`EventRef`].

pub mod bucket;
pub mod codec;
pub mod metadata;
pub mod parse;
mod rule;
pub mod timestamp;
pub mod validate;
mod value;

pub use timestamp::Timestamp;

/// Stands for all event names in a metrics query. No event can have this name.
pub const EVERY_NAME: &str = "*";
/// Longest `event_name`, `channel`, `user_id` and `campaign_id`, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 200;
/// Longest `event_id`, in bytes of UTF-8.
pub const EVENT_ID_BYTES_MAX: usize = 128;
/// Most `tags` an event may carry.
pub const TAGS_MAX: usize = 64;
/// Longest single tag, in bytes of UTF-8.
pub const TAG_BYTES_MAX: usize = 128;
/// Longest `metadata` object, in bytes as sent.
pub const METADATA_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting inside `metadata`; the object itself is level 1.
pub const METADATA_DEPTH_MAX: usize = 32;

/// One event, borrowed from its encoded form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// What happened, 1..=200 bytes.
    pub event_name: &'a str,
    /// Where it happened, 1..=200 bytes.
    pub channel: &'a str,
    /// Who did it, 1..=200 bytes.
    pub user_id: &'a str,
    /// When it happened, to the microsecond.
    pub timestamp: Timestamp,
    /// Makes retries safe: events that share user, time and id are stored once.
    pub event_id: Option<&'a str>,
    /// Campaign that it belongs to, 1..=200 bytes.
    pub campaign_id: Option<&'a str>,
    /// Tags; an empty list differs from an absent one.
    pub tags: Option<Tags<'a>>,
    /// A JSON object, byte for byte as sent.
    pub metadata: Option<&'a str>,
}

/// The tags of one event, still encoded: each a length byte and its UTF-8 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tags<'a> {
    count: u8,
    /// Invariant, kept by [`TagsBuf::push`] and [`codec::decode`]: exactly `count` tags, each of them UTF-8.
    bytes: &'a [u8],
}

impl<'a> Tags<'a> {
    /// Number of tags.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether the list is empty, which is not the same as absent.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The tags in the order in which they were sent.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let mut rest = self.bytes;
        (0..self.len()).map(move |_| {
            let (tag, behind) = codec::split_text(rest).expect("tags were checked when they were decoded or pushed");
            rest = behind;
            tag
        })
    }
}

/// Tags being gathered, in the form that [`Tags`] reads. Cleared and filled again, so that it allocates once.
#[derive(Debug, Clone, Default)]
pub struct TagsBuf {
    count: u8,
    bytes: Vec<u8>,
}

impl TagsBuf {
    /// Empties the list.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// Appends a tag.
    ///
    /// # Panics
    ///
    /// When the tag is longer than 255 bytes or the list holds 255 tags. The limits of an event are lower.
    pub fn push(&mut self, tag: &str) {
        self.count = self.count.checked_add(1).expect("at most 255 tags");
        codec::push_text(tag, &mut self.bytes);
    }

    /// The list so far.
    pub fn as_tags(&self) -> Tags<'_> {
        Tags {
            count: self.count,
            bytes: &self.bytes,
        }
    }
}

impl<'t> FromIterator<&'t str> for TagsBuf {
    fn from_iter<I: IntoIterator<Item = &'t str>>(tags: I) -> Self {
        let mut buf = Self::default();
        for tag in tags {
            buf.push(tag);
        }
        buf
    }
}
