//! Instants to the microsecond: reading them from the wire, and writing them back.
//!
//! The RFC 3339 parser is our own, because it runs once per event and accepts little else, while calendar libraries
//! accept many other forms. Beyond RFC 3339 it accepts what databases and standard libraries print: a space for the
//! `T`, an offset without its colon or minutes. A property test compares it with `jiff`. Digits beyond the microsecond
//! are cut, never rounded, so that an instant cannot move into the next second or day.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// `2026-02-01T09:30:00`, the part of an RFC 3339 text that has a fixed length.
const DATE_TIME_BYTES: usize = 19;

/// An instant, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text or number is not a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Neither a Unix time nor an RFC 3339 date and time with an offset.
    #[error("must be a Unix time or an RFC 3339 date and time with an offset, such as 2026-02-01T09:30:00Z")]
    Malformed,
    /// Before 1970.
    #[error("must not be before 1970-01-01T00:00:00Z")]
    BeforeEpoch,
    /// Beyond what can be stored.
    #[error("is too far in the future")]
    TooLarge,
}

impl Timestamp {
    /// An instant from microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The wall clock's time. A clock that is set before 1970 counts as 1970.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    /// An integer Unix time; its magnitude tells the unit: below 5e9 seconds, 5e12 milliseconds, 5e15 microseconds,
    /// else nanoseconds (cut to the microsecond). Each of the first three reaches to the year 2128, so no instant of
    /// today is mistaken for another unit.
    pub fn from_unix(number: u64) -> Result<Self, TimestampError> {
        let micros = match UnixUnit::of(number) {
            UnixUnit::Seconds => number * 1_000_000,
            UnixUnit::Millis => number * 1_000,
            UnixUnit::Micros => number,
            UnixUnit::Nanos => number / 1_000,
        };
        i64::try_from(micros).map(Self).map_err(|_| TimestampError::TooLarge)
    }

    /// A Unix time with a fraction or an exponent, as JSON libraries read it. The shortest decimal text of the double
    /// counts. It is the text that was sent if that has at most 15 digits, or was written by a library that prints
    /// doubles: so microseconds are exact.
    pub fn from_unix_f64(number: f64) -> Result<Self, TimestampError> {
        if number < 0.0 {
            return Err(TimestampError::BeforeEpoch);
        }
        Self::from_decimal(&number.abs().to_string())
    }

    /// The digits of a Unix time, with a fraction or without.
    fn from_decimal(text: &str) -> Result<Self, TimestampError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = whole.parse().map_err(|_| TimestampError::TooLarge)?;
        let micros_digits = match UnixUnit::of(whole) {
            UnixUnit::Seconds => 6,
            UnixUnit::Millis => 3,
            UnixUnit::Micros | UnixUnit::Nanos => 0,
        };
        // Cannot overflow: the largest number of each unit with a fraction is far below `i64::MAX` microseconds.
        Self::from_unix(whole).map(|Self(micros)| Self(micros + leading_digits(fraction.as_bytes(), micros_digits)))
    }

    /// An RFC 3339 date and time with an offset, from 1970 on. `T` and `Z` may be lower case, as the RFC allows. A
    /// space may stand for the `T`, and an offset may be `+0100` or `+01`. A leap second (`23:59:60` in UTC) is the
    /// last microsecond of its minute, because Unix time has no place for it.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimestampError> {
        let micros = rfc3339_micros(text.as_bytes()).ok_or(TimestampError::Malformed)?;
        if micros < 0 {
            return Err(TimestampError::BeforeEpoch);
        }
        Ok(Self(micros))
    }

    /// A Unix time or an RFC 3339 text, from a query string.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let (number, is_negative) = match text.strip_prefix('-') {
            Some(number) => (number, true),
            None => (text, false),
        };
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if !is_digits(whole) || !is_digits(fraction) {
            return Self::parse_rfc3339(text);
        }
        if is_negative {
            return Err(TimestampError::BeforeEpoch);
        }
        Self::from_decimal(number)
    }
}

/// The unit of a Unix time, which its magnitude tells.
enum UnixUnit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl UnixUnit {
    fn of(number: u64) -> Self {
        const UNIT_MAX: u64 = 5_000_000_000;
        if number < UNIT_MAX {
            Self::Seconds
        } else if number < UNIT_MAX * 1_000 {
            Self::Millis
        } else if number < UNIT_MAX * 1_000_000 {
            Self::Micros
        } else {
            Self::Nanos
        }
    }
}

/// RFC 3339 in UTC with `Z`. A fraction is written only if it is not zero, without trailing zeros: `.5`, not `.500000`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(MICROS_PER_SECOND);
        let mut fraction = self.0.rem_euclid(MICROS_PER_SECOND);
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if fraction != 0 {
            let mut width = 6;
            while fraction % 10 == 0 {
                fraction /= 10;
                width -= 1;
            }
            write!(f, ".{fraction:0width$}")?;
        }
        f.write_str("Z")
    }
}

/// Microseconds since the epoch, or `None` if the text is not a date and time with an offset.
fn rfc3339_micros(text: &[u8]) -> Option<i64> {
    let (date_time, rest) = text.split_first_chunk::<DATE_TIME_BYTES>()?;
    let (fraction_micros, offset) = split_fraction(rest)?;
    let is_leap_second = date_time.ends_with(b":60");
    let seconds = date_time_seconds(date_time)? - offset_seconds(offset)?;
    if !is_leap_second {
        return Some(seconds * MICROS_PER_SECOND + fraction_micros);
    }
    // `seconds` is now the first second of the next day: leap seconds exist only at the end of a UTC day.
    let begins_a_day = seconds.rem_euclid(SECONDS_PER_DAY) == 0;
    begins_a_day.then_some(seconds * MICROS_PER_SECOND - 1)
}

/// Seconds of a `2026-02-01T09:30:00`, taken as UTC.
fn date_time_seconds(text: &[u8; DATE_TIME_BYTES]) -> Option<i64> {
    let punctuation = [text[4], text[7], text[13], text[16]];
    if punctuation != *b"--::" || !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (digits(&text[0..4])?, digits(&text[5..7])?, digits(&text[8..10])?);
    let (hour, minute, second) = (digits(&text[11..13])?, digits(&text[14..16])?, digits(&text[17..19])?);
    let is_date = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second)
}

/// Reads a fraction of any length off the front; returns its microseconds (0 if there is none) and what follows.
fn split_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = text.split_at(length);
    if fraction.is_empty() {
        return None;
    }
    Some((leading_digits(fraction, 6), rest))
}

/// The number that the first `count` of these digits write, with zeros for those that are missing.
fn leading_digits(digits: &[u8], count: usize) -> i64 {
    (0..count).fold(0, |number, place| {
        let digit = digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
        number * 10 + digit
    })
}

/// How far local time is ahead of UTC, in seconds.
fn offset_seconds(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match text {
        b"Z" | b"z" => return Some(0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, [*h1, *h2], [*m1, *m2]),
        [sign, h1, h2] => (sign, [*h1, *h2], *b"00"),
        _ => return None,
    };
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(&hours)?, digits(&minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// The number that a few digits write; `None` if a byte is not a digit.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that a leap day is the last day of its year and months have a regular length before
/// it (153 days every five); 400 such years, an era, are always 146,097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let march_year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let year_of_era = march_year.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    march_year.div_euclid(400) * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`]: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days_from_era_0 = days + 719_468;
    let day_of_era = days_from_era_0.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let march_year = days_from_era_0.div_euclid(146_097) * 400 + year_of_era;
    (if month <= 2 { march_year + 1 } else { march_year }, month, day)
}

#[cfg(test)]
mod tests;
