//! The range of a query: instants, dates in a time zone, and the default range.

use std::ops::Range;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::event::Timestamp;
use crate::event::bucket::DAY_MICROS;

/// Length of the range in days when `--from` is not given.
const DAYS_DEFAULT: i64 = 30;

/// A point in time as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// An instant.
    Instant(Timestamp),
    /// The beginning of a day in the zone of `--tz`.
    Date(Date),
}

/// A time zone with the name that was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// The name as it was typed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Local time in the zone at an instant; `None` beyond the years that `jiff` supports.
    pub fn local(&self, micros: i64) -> Option<DateTime> {
        let instant = jiff::Timestamp::from_microsecond(micros).ok()?;
        Some(self.rules.to_datetime(instant))
    }

    /// Whether the zone has this local time twice, because clocks were set back.
    pub fn is_repeated(&self, local: DateTime) -> bool {
        self.rules.to_ambiguous_timestamp(local).is_ambiguous()
    }

    /// Offset of the zone from UTC at an instant, as `+01`.
    pub fn offset(&self, micros: i64) -> String {
        let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
        self.rules.to_offset(instant).to_string()
    }
}

/// Parses the value of `--from` or `--to`.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    let is_date = text.len() == 10 && text.bytes().filter(|&byte| byte == b'-').count() == 2;
    if is_date && let Ok(date) = text.parse::<Date>() {
        return Ok(Moment::Date(date));
    }
    Timestamp::parse(text)
        .map(Moment::Instant)
        .map_err(|error| format!("{error}; write for example 2026-02-01, 2026-02-01T09:30:00Z or 1769938200"))
}

/// Parses the value of `--tz`.
pub(super) fn zone(text: &str) -> Result<Zone, String> {
    match TimeZone::get(text) {
        Ok(rules) if !rules.is_unknown() => Ok(Zone {
            name: text.to_owned(),
            rules,
        }),
        _ => Err("no such time zone; write for example Europe/Berlin or UTC".to_owned()),
    }
}

/// The range by the two flags, with their defaults.
pub(super) fn resolve(from: Option<Moment>, to: Option<Moment>, zone: &Zone, now: Timestamp) -> Range<Timestamp> {
    let end = to.map_or(now, |to| to.instant(zone));
    let start = from.map_or_else(
        || {
            let micros = end.as_micros() - DAYS_DEFAULT * DAY_MICROS;
            // The server accepts no instant before 1970.
            Timestamp::from_micros(micros.max(0))
        },
        |from| from.instant(zone),
    );
    start..end
}

impl Moment {
    fn instant(self, zone: &Zone) -> Timestamp {
        match self {
            Self::Instant(instant) => instant,
            Self::Date(date) => {
                // If clocks were set forward at midnight, the day begins with the first instant after the gap.
                let midnight = date.to_zoned_datetime(zone.rules.clone());
                let micros = midnight.map_or(0, |start| start.timestamp().as_microsecond());
                Timestamp::from_micros(micros.max(0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(from: Option<&str>, to: Option<&str>, tz: &str) -> (String, String) {
        let moment = |text: Option<&str>| text.map(|text| moment(text).unwrap());
        let now = Timestamp::parse("2026-03-31T12:00:00.5Z").unwrap();
        let range = resolve(moment(from), moment(to), &zone(tz).unwrap(), now);
        (range.start.to_string(), range.end.to_string())
    }

    #[test]
    fn dates_begin_where_the_clocks_are() {
        let february = |tz| resolved(Some("2026-02-01"), Some("2026-02-02"), tz);
        let range = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(february("UTC"), range("2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z"));
        assert_eq!(
            february("Asia/Kathmandu"),
            range("2026-01-31T18:15:00Z", "2026-02-01T18:15:00Z")
        );
        // In Beirut clocks are set forward on that day, from 23:59:59 to 01:00.
        assert_eq!(
            resolved(Some("2026-03-29"), Some("2026-03-30"), "Asia/Beirut"),
            range("2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z")
        );
    }

    #[test]
    fn what_is_not_said_is_the_last_thirty_days() {
        let end = "2026-03-31T12:00:00.5Z";
        let (from, to) = resolved(None, None, "UTC");
        assert_eq!(
            (Timestamp::parse(&from), Timestamp::parse(&to)),
            (Timestamp::parse("2026-03-01T12:00:00.5Z"), Timestamp::parse(end))
        );
        let (from, _) = resolved(None, Some("1970-01-05"), "UTC");
        assert_eq!(from, "1970-01-01T00:00:00Z");
        let (from, to) = resolved(Some("1769938200"), Some("2026-02-02T00:00:00+02:00"), "UTC");
        assert_eq!(
            (from.as_str(), to.as_str()),
            ("2026-02-01T09:30:00Z", "2026-02-01T22:00:00Z")
        );
    }

    #[test]
    fn what_is_no_time_and_no_zone_says_what_would_be() {
        for text in ["", "yesterday", "2026-02-30", "2026-2-1", "2026-02-01T00:00:00"] {
            assert!(moment(text).unwrap_err().contains("2026-02-01"), "{text}");
        }
        for text in ["", "+05:45", "Mars/Phobos", "Etc/Unknown"] {
            assert!(zone(text).unwrap_err().contains("Europe/Berlin"), "{text}");
        }
    }
}
