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
        _ => {
            let max = MAX.min(max_of::<N>());
            let example = if max == u64::MAX { 100 } else { max };
            format!("must be at most {max}, for example {example}")
        }
    })
}

/// The largest number that a type takes.
fn max_of<N: TryFrom<u64>>() -> u64 {
    let mut max = u64::MAX;
    while N::try_from(max).is_err() {
        max >>= 1;
    }
    max
}

/// Shortest time that a setting may name. What is shorter is a slip of the unit: no timer here is that exact.
const DURATION_MIN: Duration = Duration::from_millis(1);

/// Reads a time such as `10s`; zero would mean "never" to some readers and "at once" to others, so it is refused.
///
/// # Errors
///
/// What is allowed, as a text for the user.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration >= DURATION_MIN => Ok(duration),
        Ok(_) => Err("must be at least 1ms, for example 200ms or 10s".to_owned()),
        Err(_) => Err("expected a time with its unit, for example 200ms, 10s or 5m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_too_large_names_the_largest() {
        for (max, refused) in [
            (u64::from(u16::MAX), count::<u16>("65536").unwrap_err()),
            (
                u64::from(u32::MAX),
                count::<u32>("99999999999999999999999").unwrap_err(),
            ),
            (9, count_between::<1, 9, u16>("10").unwrap_err()),
        ] {
            assert_eq!(refused, format!("must be at most {max}, for example {max}"));
        }
        let refused = count::<u64>("18446744073709551616").unwrap_err();
        assert_eq!(refused, "must be at most 18446744073709551615, for example 100");
        assert_eq!(count::<u16>("65535"), Ok(u16::MAX));
    }

    #[test]
    fn a_time_of_less_than_a_millisecond_is_refused() {
        for text in ["0s", "1ns", "999us"] {
            assert!(positive_duration(text).unwrap_err().contains("at least 1ms"), "{text}");
        }
        assert_eq!(positive_duration("1ms"), Ok(Duration::from_millis(1)));
    }
}
