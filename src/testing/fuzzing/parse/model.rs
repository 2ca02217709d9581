//! The wire contract, written as if speed did not matter: serde's own derive, `jiff` for dates, and one check after the
//! other.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Timestamp;

const DAY_MICROS: i64 = 86_400_000_000;

/// An event as accepted.
#[derive(Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) event_name: String,
    pub(crate) channel: String,
    pub(crate) user_id: String,
    pub(crate) micros: i64,
    pub(crate) event_id: Option<String>,
    pub(crate) campaign_id: Option<String>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) metadata: Option<String>,
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
    pub(crate) fn of_event(body: &str, now: Timestamp) -> Option<Self> {
        let body: &RawValue = serde_json::from_str(body).ok()?;
        // serde's derive would take an array of the values, too.
        if !body.get().starts_with('{') {
            return None;
        }
        let sent: Sent = serde_json::from_str(body.get()).ok()?;
        let is_allowed = is_text(&sent.event_name, 200)
            && sent.event_name != "*"
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
    pub(crate) fn of_bulk(body: &str, events_max: usize, now: Timestamp) -> Option<Vec<Self>> {
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
    if let Ok(number) = serde_json::from_str::<f64>(raw) {
        return micros_of_double(number);
    }
    let text: String = serde_json::from_str(raw).ok()?;
    // No client writes so many zeros and an escape. The parser keeps no copy of such a text.
    if text.len() > 200 && raw.contains('\\') {
        return None;
    }
    let (text, is_leap_second) = strict_rfc3339(&text)?;
    let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    let mut micros = i64::try_from(nanos.div_euclid(1_000)).ok()?;
    if is_leap_second {
        micros = micros.div_euclid(1_000_000) * 1_000_000 + 999_999;
        if (micros + 1) % DAY_MICROS != 0 {
            return None;
        }
    }
    (micros >= 0).then_some(micros)
}

/// The instant of a number that is not a 64-bit integer: from its shortest decimal text, the point moved to the
/// microseconds.
fn micros_of_double(number: f64) -> Option<i64> {
    if !(0.0..u64::MAX as f64).contains(&number) {
        return None;
    }
    // Without the sign of a negative zero.
    let shortest = format!("{}", number.abs());
    let (whole, fraction) = shortest.split_once('.').unwrap_or((&shortest, ""));
    let digits = match number {
        ..5e9 => whole.to_owned() + &format!("{fraction:0<6}")[..6],
        5e9..5e12 => whole.to_owned() + &format!("{fraction:0<3}")[..3],
        5e12..5e15 => whole.to_owned(),
        _ => whole[..whole.len() - 3].to_owned(),
    };
    digits.parse().ok()
}

/// The text as strict RFC 3339, with at most nine digits of a fraction, if its shape is accepted (`jiff` accepts many
/// others besides). And whether it is a leap second, for which the text names the second before.
fn strict_rfc3339(text: &str) -> Option<(String, bool)> {
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
    let rest = shape
        .strip_prefix("0000+00+00T00:00:00")
        .or_else(|| shape.strip_prefix("0000+00+00 00:00:00"))?;
    let digits = rest
        .strip_prefix('.')
        .map_or(0, |rest| rest.len() - rest.trim_start_matches('0').len());
    let offset_at = text.len() - rest.len()
        + match rest.starts_with('.') {
            true if digits == 0 => return None,
            true => 1 + digits,
            false => 0,
        };
    let offset = match (&shape[offset_at..], &text[offset_at..]) {
        ("Z", _) => "Z".to_owned(),
        ("+00:00", offset) => offset.to_owned(),
        ("+0000", offset) => format!("{}:{}", &offset[..3], &offset[3..]),
        ("+00", offset) => format!("{offset}:00"),
        _ => return None,
    };
    if offset != "Z" && (&offset[1..3] > "23" || &offset[4..6] > "59") {
        return None;
    }
    let kept = if digits > 9 {
        offset_at - (digits - 9)
    } else {
        offset_at
    };
    let is_leap_second = &text[17..19] == "60";
    let seconds = if is_leap_second { "59" } else { &text[17..19] };
    let (date, time) = (&text[..10], &text[11..17]);
    let instant = format!("{date}T{time}{seconds}{}{offset}", &text[19..kept]);
    Some((instant, is_leap_second))
}

/// Whether PostgreSQL can store the text of a JSON value as `jsonb`, and whether it is an object as large and deep as
/// the contract says.
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
                    .find(|character: char| !matches!(character, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
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

/// Length of the string literal at the front of well-formed JSON; `None` if PostgreSQL cannot store its text.
fn string_bytes(json: &str) -> Option<usize> {
    let mut is_escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    let length = end + 2;
    // serde_json refuses halves of surrogate pairs.
    let text: String = serde_json::from_str(&json[..length]).ok()?;
    (!text.contains('\0')).then_some(length)
}

/// Whether a number has at most 131,072 digits before and 16,383 digits after the point, once its exponent is written
/// out.
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
