//! Where buckets of time begin, in any time zone.
//!
//! Buckets follow each other without gap or overlap, whatever the clocks do. A date, week or month begins at the first
//! instant of its first date that exists: midnight, or later where clocks skip midnight. An hour or minute begins when
//! the clock shows a full one, and whenever the zone's offset changes: so the hour that is repeated in autumn is two
//! buckets, and half an hour that is skipped leaves a bucket of half an hour.

use std::ops::Range;

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::event::Timestamp;
use crate::event::bucket::MINUTE_MICROS;
use crate::event::bucket::TimeUnit;

#[cfg(test)]
mod tests;

const SECOND_MICROS: i64 = 1_000_000;
/// 1900-01-01. No event is before 1970, and no bucket is longer than a month.
const FIRST_MICROS: i64 = -2_208_988_800 * SECOND_MICROS;
/// 9999-11-01, because jiff's years end with 9999. All later time is one bucket.
const LAST_MICROS: i64 = 253_397_030_400 * SECOND_MICROS;

/// An interval of time, `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeBucket {
    /// First instant.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
}

impl TimeBucket {
    fn contains(&self, instant: Timestamp) -> bool {
        self.start <= instant && instant < self.end
    }
}

/// The buckets of one unit in one zone. Cheap to ask for one instant after the other in order of time.
#[derive(Debug)]
pub struct Calendar {
    zone: TimeZone,
    unit: TimeUnit,
    /// The bucket that was asked for last.
    current: Option<TimeBucket>,
    /// The period of the minute or hour that was asked for last.
    period: Option<Period>,
}

/// A stretch of time in which the zone's offset does not change.
#[derive(Debug, Clone, Copy)]
struct Period {
    start_micros: i64,
    end_micros: i64,
    offset_micros: i64,
}

impl Calendar {
    /// The buckets of `unit` in `zone`.
    pub fn new(unit: TimeUnit, zone: TimeZone) -> Self {
        Self {
            zone,
            unit,
            current: None,
            period: None,
        }
    }

    /// How long the buckets are.
    pub fn unit(&self) -> TimeUnit {
        self.unit
    }

    /// The bucket that holds an instant.
    pub fn bucket_of(&mut self, instant: Timestamp) -> TimeBucket {
        if let Some(bucket) = self.current.filter(|bucket| bucket.contains(instant)) {
            return bucket;
        }
        let micros = instant.as_micros();
        let mut bucket = if micros >= LAST_MICROS {
            TimeBucket {
                start: Timestamp::from_micros(LAST_MICROS),
                end: Timestamp::from_micros(i64::MAX),
            }
        } else {
            match self.unit {
                TimeUnit::Minute => self.bucket_of_clock(micros, MINUTE_MICROS),
                TimeUnit::Hour => self.bucket_of_clock(micros, 60 * MINUTE_MICROS),
                TimeUnit::Day | TimeUnit::Week | TimeUnit::Month => self.bucket_of_dates(instant),
            }
        };
        if bucket.start.as_micros() < LAST_MICROS {
            bucket.end = bucket.end.min(Timestamp::from_micros(LAST_MICROS));
        }
        self.current = Some(bucket);
        bucket
    }

    /// The buckets that cover a range, but not more than `buckets_max`.
    pub fn buckets_of(&mut self, range: Range<Timestamp>, buckets_max: usize) -> Vec<TimeBucket> {
        let mut buckets = Vec::new();
        let mut instant = range.start;
        while instant < range.end && buckets.len() < buckets_max {
            let bucket = self.bucket_of(instant);
            buckets.push(bucket);
            instant = bucket.end;
        }
        buckets
    }

    fn bucket_of_clock(&mut self, micros: i64, width_micros: i64) -> TimeBucket {
        let period = match self.period {
            Some(period) if (period.start_micros..period.end_micros).contains(&micros) => period,
            _ => self.period_of(micros),
        };
        self.period = Some(period);
        let shown = micros + period.offset_micros;
        let start = micros - shown.rem_euclid(width_micros);
        TimeBucket {
            start: Timestamp::from_micros(start.max(period.start_micros)),
            end: Timestamp::from_micros((start + width_micros).min(period.end_micros)),
        }
    }

    fn period_of(&self, micros: i64) -> Period {
        let instant = jiff_instant(micros);
        let offset = self.zone.to_offset(instant);
        let just_before = |instant: jiff::Timestamp| instant.checked_sub(1.nanosecond()).unwrap_or(instant);
        let just_after = instant.checked_add(1.nanosecond()).unwrap_or(instant);
        // Some transitions change only the name of the time, or whether it counts as summer time: they end no period.
        let start = self
            .zone
            .preceding(just_after)
            .find(|change| self.zone.to_offset(just_before(change.timestamp())) != offset);
        let end = self.zone.following(instant).find(|change| change.offset() != offset);
        Period {
            start_micros: start.map_or(i64::MIN, |change| change.timestamp().as_microsecond()),
            end_micros: end.map_or(i64::MAX, |change| change.timestamp().as_microsecond()),
            offset_micros: i64::from(offset.seconds()) * SECOND_MICROS,
        }
    }

    fn bucket_of_dates(&self, instant: Timestamp) -> TimeBucket {
        let shown = self.zone.to_datetime(jiff_instant(instant.as_micros())).date();
        let mut date = match self.unit {
            TimeUnit::Week => shown.saturating_sub(i32::from(shown.weekday().to_monday_zero_offset()).days()),
            TimeUnit::Month => shown.first_of_month(),
            _ => shown,
        };
        // A clock that was set back over midnight shows a date after the next one has begun.
        loop {
            let next = match self.unit {
                TimeUnit::Week => date.saturating_add(7.days()),
                TimeUnit::Month => date.saturating_add(1.month()),
                _ => date.saturating_add(1.day()),
            };
            let end = self.start_of(next);
            if instant < end {
                let start = self.start_of(date);
                return TimeBucket { start, end };
            }
            date = next;
        }
    }

    /// First instant of a date, or of the next one that exists.
    fn start_of(&self, date: Date) -> Timestamp {
        let midnight = date.at(0, 0, 0, 0);
        let instant_with = |offset: jiff::tz::Offset| {
            offset
                .to_timestamp(midnight)
                .expect("all dates here are far from the ends of jiff's years")
        };
        let start = match self.zone.to_ambiguous_timestamp(midnight).offset() {
            AmbiguousOffset::Unambiguous { offset } => instant_with(offset),
            AmbiguousOffset::Fold { before, .. } => instant_with(before),
            AmbiguousOffset::Gap { before, .. } => {
                // Midnight by the old offset is in the gap, so the change that made the gap is the last one up to that
                // instant.
                let in_gap = instant_with(before);
                let just_after = in_gap.checked_add(1.nanosecond()).unwrap_or(in_gap);
                let change = self.zone.preceding(just_after).next();
                change.map_or(in_gap, |change| change.timestamp())
            }
        };
        Timestamp::from_micros(start.as_microsecond())
    }
}

fn jiff_instant(micros: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(micros.clamp(FIRST_MICROS, LAST_MICROS)).expect("between the years 1900 and 9999")
}
