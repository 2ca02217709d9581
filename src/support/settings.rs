//! What all settings share: parsing the text of a value, and the error for a value that cannot work.
//!
//! The error of a parser says in words what is allowed; clap puts the value and the flag in front of it.

use std::time::Duration;

use bytesize::ByteSize;

/// A setting that cannot work, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Most bytes that a setting may name: sums of several settings still fit into a `u64`.
const BYTES_MAX: u64 = 1 << 60;

/// Reads a size such as `64MiB`.
///
/// # Errors
///
/// What is allowed, as a text for the user.
pub fn bytes<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| "expected a number of bytes, KiB, MiB or GiB, for example 500000, 64MiB or 1.5GiB".to_owned())?;
    let bytes = Some(size.as_u64()).filter(|bytes| *bytes <= BYTES_MAX);
    bytes
        .and_then(|bytes| N::try_from(bytes).ok())
        .ok_or_else(|| "must be at most 1024PiB, for example 1GiB".to_owned())
}

/// Reads a whole number.
///
/// # Errors
///
/// What is allowed, as a text for the user.
pub fn count<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    count_between::<0, { u64::MAX }, N>(text)
}

/// Reads a whole number from `MIN` to `MAX`.
///
/// # Errors
///
/// What is allowed, as a text for the user.
pub fn count_between<const MIN: u64, const MAX: u64, N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits {
        return Err("expected a whole number in digits alone, for example 100".to_owned());
    }
    let number: Option<u64> = text.parse().ok();
    if let Some(number) = number
        && (MIN..=MAX).contains(&number)
        && let Ok(number) = N::try_from(number)
    {
        return Ok(number);
    }
    Err(match number {
        Some(number) if number < MIN => format!("must be at least {MIN}, for example {MIN}"),
        _ if MAX < u64::MAX => format!("must be at most {MAX}, for example {MAX}"),
        _ => "larger than any number that makes sense here".to_owned(),
    })
}

/// Reads a time such as `10s`; zero would mean "never" to some readers and "at once" to others, so it is refused.
///
/// # Errors
///
/// What is allowed, as a text for the user.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        Ok(_) => Err("must be longer than 0".to_owned()),
        Err(_) => Err("expected a time with its unit, for example 200ms, 10s or 5m".to_owned()),
    }
}
