//! The wire contract as somebody would write it down who need not be fast: serde's own derive, `jiff` for dates, and one check after
//! the other.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Timestamp;

const DAY_MICROS: i64 = 86_400_000_000;

/// An event as accepted.
#[derive(Debug, PartialEq)]
pub(super) struct Model {
    pub(super) event_name: String,
    pub(super) channel: String,
    pub(super) user_id: String,
    pub(super) micros: i64,
    pub(super) event_id: Option<String>,
    pub(super) campaign_id: Option<String>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) metadata: Option<String>,
}

/// An event as sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    event_name: String,
    channel: String,
    user_id: String,
    timestamp: Box<RawValue>,
    event_id: Option<String>,
    campaign_id: Option<String>,
    tags: Option<Vec<String>>,
    metadata: Option<Box<RawValue>>,
}

impl Model {
    /// The event that a body holds; `None` if it must be refused.
    pub(super) fn of_event(body: &str, now: Timestamp) -> Option<Self> {
        let body: &RawValue = serde_json::from_str(body).ok()?;
        // serde's derive would take an array of the values, too.
        if !body.get().starts_with('{') {
            return None;
        }
        let sent: Sent = serde_json::from_str(body.get()).ok()?;
        let is_allowed = is_text(&sent.event_name, 200)
            && is_text(&sent.channel, 200)
            && is_text(&sent.user_id, 200)
            && sent.event_id.iter().all(|text| is_text(text, 128))
            && sent.campaign_id.iter().all(|text| is_text(text, 200))
            && sent.tags.iter().all(|tags| tags.len() <= 64)
            && sent.tags.iter().flatten().all(|tag| is_text(tag, 128))
            && sent.metadata.iter().all(|raw| is_metadata(raw.get()));
        let micros = micros(sent.timestamp.get())?;
        let latest = now.as_micros() + DAY_MICROS;
        (is_allowed && micros <= latest).then(|| Self {
            event_name: sent.event_name,
            channel: sent.channel,
            user_id: sent.user_id,
            micros,
            event_id: sent.event_id,
            campaign_id: sent.campaign_id,
            tags: sent.tags,
            metadata: sent.metadata.map(|raw| raw.get().to_owned()),
        })
    }

    /// The events of a bulk body; `None` if it must be refused.
    pub(super) fn of_bulk(body: &str, events_max: usize, now: Timestamp) -> Option<Vec<Self>> {
        let events: Vec<&RawValue> = serde_json::from_str(body).ok()?;
        if !(1..=events_max).contains(&events.len()) {
            return None;
        }
        let events = events.iter().map(|event| Self::of_event(event.get(), now));
        events.collect()
    }
}

fn is_text(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && !text.contains('\0')
}

/// The instant of a timestamp's JSON, from 1970 on.
fn micros(raw: &str) -> Option<i64> {
    if let Ok(number) = serde_json::from_str::<u64>(raw) {
        // `from_str` takes no float and no sign but, like the contract, every integer.
        let digits_of_microseconds = match number {
            0..5_000_000_000 => u128::from(number) * 1_000_000,
            5_000_000_000..5_000_000_000_000 => u128::from(number) * 1_000,
            5_000_000_000_000..5_000_000_000_000_000 => u128::from(number),
            _ => u128::from(number) / 1_000,
        };
        return i64::try_from(digits_of_microseconds).ok();
    }
    let text: String = serde_json::from_str(raw).ok()?;
    // Nobody writes so many zeros and an escape. The parser keeps no copy of such a text.
    if text.len() > 200 && raw.contains('\\') {
        return None;
    }
    let text = strict_rfc3339(&text)?;
    let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    (nanos >= 0).then(|| i64::try_from(nanos / 1_000).ok())?
}

/// The text with at most nine digits of a fraction, if it has the shape of RFC 3339: `jiff` takes many others besides.
fn strict_rfc3339(text: &str) -> Option<String> {
    let shape: String = text
        .chars()
        .map(|character| match character {
            '0'..='9' => '0',
            't' => 'T',
            'z' => 'Z',
            '-' => '+',
            other => other,
        })
        .collect();
    let rest = shape.strip_prefix("0000+00+00T00:00:00")?;
    let digits = rest
        .strip_prefix('.')
        .map_or(0, |rest| rest.len() - rest.trim_start_matches('0').len());
    let offset_at = text.len() - rest.len()
        + match rest.starts_with('.') {
            true if digits == 0 => return None,
            true => 1 + digits,
            false => 0,
        };
    let offset = &text[offset_at..];
    let is_offset = match &shape[offset_at..] {
        "Z" => true,
        "+00:00" => &offset[1..3] < "24" && &offset[4..6] < "60",
        _ => false,
    };
    // Unix time has no place for a leap second.
    if !is_offset || &text[17..19] == "60" {
        return None;
    }
    let kept = if digits > 9 {
        offset_at - (digits - 9)
    } else {
        offset_at
    };
    Some(format!("{}{offset}", &text[..kept]))
}

/// Whether PostgreSQL can store the text of a JSON value as `jsonb`, and whether it is an object as large and deep as the contract says.
fn is_metadata(raw: &str) -> bool {
    let mut rest = raw;
    let mut depth = 0_usize;
    while let Some(character) = rest.chars().next() {
        let length = match character {
            '"' => match string_bytes(rest) {
                Some(length) => length,
                None => return false,
            },
            '-' | '0'..='9' => {
                let length = rest
                    .find(|character: char| {
                        !matches!(character, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')
                    })
                    .unwrap_or(rest.len());
                if !is_numeric(&rest[..length]) {
                    return false;
                }
                length
            }
            '{' | '[' => {
                depth += 1;
                if depth > 32 {
                    return false;
                }
                1
            }
            '}' | ']' => {
                depth -= 1;
                1
            }
            other => other.len_utf8(),
        };
        rest = &rest[length..];
    }
    raw.starts_with('{') && raw.len() <= 65_536
}

/// Length of the string literal at the front of well-formed JSON; `None` if it is no text that PostgreSQL takes.
fn string_bytes(json: &str) -> Option<usize> {
    let mut is_escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    let length = end + 2;
    // It refuses halves of surrogate pairs.
    let text: String = serde_json::from_str(&json[..length]).ok()?;
    (!text.contains('\0')).then_some(length)
}

/// Whether a number has at most 131,072 digits before and 16,383 digits behind the point, once its exponent is written out.
fn is_numeric(number: &str) -> bool {
    let number = number.trim_start_matches('-').to_ascii_lowercase();
    let (mantissa, exponent) = number.split_once('e').unwrap_or((&number, "0"));
    // A number that is no i64 is out of range either way, unless it has no digit but zeros.
    let Ok(exponent) = exponent.parse::<i64>() else {
        return false;
    };
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let before = (before.len() as i64).saturating_add(exponent);
    let behind = (behind.len() as i64).saturating_sub(exponent);
    before <= 131_072 && behind <= 16_383
}
