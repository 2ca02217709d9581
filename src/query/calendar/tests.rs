use jiff::civil::date;

use super::*;

/// A zone, and local dates between which its clocks are tested.
const PLACES: [(&str, &str, &str); 20] = [
    ("UTC", "2026-02-26", "2026-03-03"),
    ("Asia/Kathmandu", "2026-02-26", "2026-03-03"),
    // A quarter of an hour that begins with midnight, and the year, is skipped.
    ("Asia/Kathmandu", "1985-12-29", "1986-01-03"),
    ("Asia/Tehran", "1977-10-18", "1977-10-23"),
    ("Asia/Tehran", "1978-12-29", "1979-01-03"),
    // Midnight is skipped; then the hour before it is repeated.
    ("Asia/Tehran", "2022-03-20", "2022-03-24"),
    ("Asia/Tehran", "2022-09-20", "2022-09-24"),
    ("America/Sao_Paulo", "2018-02-16", "2018-02-20"),
    ("America/Sao_Paulo", "2018-11-02", "2018-11-06"),
    // Half an hour.
    ("Australia/Lord_Howe", "2026-04-03", "2026-04-07"),
    ("Australia/Lord_Howe", "2026-10-02", "2026-10-06"),
    ("America/New_York", "2026-03-06", "2026-03-10"),
    ("America/New_York", "2026-10-30", "2026-11-03"),
    // -0:44:30 until the 7th.
    ("Africa/Monrovia", "1971-12-30", "1972-01-09"),
    // A day is skipped.
    ("Pacific/Apia", "2011-12-27", "2012-01-03"),
    ("Pacific/Kwajalein", "1993-08-19", "1993-08-24"),
    // A minute after midnight the clock goes back to the day before; in spring the first hour after that minute is
    // skipped.
    ("America/St_Johns", "1990-10-26", "1990-10-30"),
    ("America/St_Johns", "1990-03-30", "1990-04-03"),
    // 23:30 to 00:30 is skipped.
    ("America/Toronto", "1919-03-29", "1919-04-02"),
    // Only what the time is called changes, not the clock.
    ("Africa/Casablanca", "2018-10-26", "2018-10-30"),
];
/// Divides every offset and every change above.
const STEP_MICROS: i64 = 30 * SECOND_MICROS;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn instant(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_micros(instant.as_microsecond())
}

fn bucket(start: &str, end: &str) -> TimeBucket {
    TimeBucket {
        start: instant(start),
        end: instant(end),
    }
}

/// Which minute, hour, date, week or month the clock and the wall calendar show, as a number that grows, and where the
/// offset is.
fn shown(micros: i64, unit: TimeUnit, zone: &TimeZone) -> (i64, i32) {
    let instant = jiff::Timestamp::from_microsecond(micros).unwrap();
    let shown = zone.to_datetime(instant);
    let days = (shown.date() - date(1800, 1, 6)).get_days();
    let (hour, minute) = (i64::from(shown.hour()), i64::from(shown.minute()));
    let hours = i64::from(days) * 24 + hour;
    let number = match unit {
        TimeUnit::Minute => hours * 60 + minute,
        TimeUnit::Hour => hours,
        TimeUnit::Day => i64::from(days),
        // 1800-01-06 was a Monday.
        TimeUnit::Week => i64::from(days).div_euclid(7),
        TimeUnit::Month => i64::from(shown.year()) * 12 + i64::from(shown.month()),
    };
    (number, zone.to_offset(instant).seconds())
}

/// Where buckets begin after the start of a range, found step by step.
fn walked(range: &Range<i64>, unit: TimeUnit, zone: &TimeZone) -> Vec<i64> {
    let (mut last, mut last_offset) = shown(range.start, unit, zone);
    let mut starts = Vec::new();
    let mut micros = range.start + STEP_MICROS;
    while micros < range.end {
        let (number, offset) = shown(micros, unit, zone);
        let begins = match unit {
            TimeUnit::Minute | TimeUnit::Hour => number != last || offset != last_offset,
            // A date that comes again has begun before.
            TimeUnit::Day | TimeUnit::Week | TimeUnit::Month => number > last,
        };
        if begins {
            starts.push(micros);
            last = number;
        }
        last_offset = offset;
        micros += STEP_MICROS;
    }
    starts
}

#[test]
fn buckets_begin_where_a_walk_along_the_clock_finds_them() {
    assert_eq!(date(1800, 1, 6).weekday(), jiff::civil::Weekday::Monday);
    for (name, first, last) in PLACES {
        let zone = zone(name);
        let midnight = |text: &str| {
            let date: Date = text.parse().unwrap();
            let noon = zone.to_timestamp(date.at(12, 0, 0, 0)).unwrap();
            noon.as_microsecond()
        };
        let range = midnight(first)..midnight(last);
        for unit in TimeUnit::ALL {
            let mut calendar = Calendar::new(unit, zone.clone());
            let instants = Timestamp::from_micros(range.start)..Timestamp::from_micros(range.end);
            let buckets = calendar.buckets_of(instants, 100_000);
            assert!(buckets[0].start.as_micros() <= range.start);
            assert!(buckets.last().unwrap().end.as_micros() >= range.end);
            assert!(buckets.windows(2).all(|pair| pair[0].end == pair[1].start));
            let starts: Vec<i64> = buckets[1..].iter().map(|bucket| bucket.start.as_micros()).collect();
            assert_eq!(starts, walked(&range, unit, &zone), "{name} {unit:?}");
            // Whatever was asked before, the answer is the same.
            for bucket in buckets.iter().rev().step_by(7) {
                let last = Timestamp::from_micros(bucket.end.as_micros() - 1);
                assert_eq!(calendar.bucket_of(last), *bucket, "{name} {unit:?}");
            }
            for micros in range.clone().step_by(30 * STEP_MICROS as usize) {
                let instant = Timestamp::from_micros(micros);
                let after = buckets.partition_point(|bucket| bucket.start <= instant);
                let found = Calendar::new(unit, zone.clone()).bucket_of(instant);
                assert_eq!(found, buckets[after - 1], "{name} {unit:?} {instant}");
            }
        }
    }
}

#[test]
fn weeks_begin_on_monday_and_months_on_the_first() {
    let berlin = zone("Europe/Berlin");
    let middle = instant("2026-03-29T12:00:00Z");
    let of = |unit| Calendar::new(unit, berlin.clone()).bucket_of(middle);
    let expected = bucket("2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z");
    assert_eq!(of(TimeUnit::Week), expected);
    let expected = bucket("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
    assert_eq!(of(TimeUnit::Month), expected);
    let expected = bucket("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    assert_eq!(of(TimeUnit::Day), expected);
}

#[test]
fn a_repeated_hour_is_two_buckets_and_a_skipped_day_none() {
    let mut hours = Calendar::new(TimeUnit::Hour, zone("America/New_York"));
    let day = instant("2026-11-01T04:00:00Z")..instant("2026-11-02T05:00:00Z");
    assert_eq!(hours.buckets_of(day, 100).len(), 25);
    let mut hours = Calendar::new(TimeUnit::Hour, zone("Australia/Lord_Howe"));
    let buckets = hours.buckets_of(instant("2026-04-04T14:00:00Z")..instant("2026-04-04T16:30:00Z"), 100);
    let expected = [
        bucket("2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z"),
        bucket("2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"),
        bucket("2026-04-04T15:30:00Z", "2026-04-04T16:30:00Z"),
    ];
    assert_eq!(buckets, expected);
    let mut days = Calendar::new(TimeUnit::Day, zone("Pacific/Apia"));
    let buckets = days.buckets_of(instant("2011-12-29T10:00:00Z")..instant("2012-01-01T09:59:59Z"), 100);
    let expected = [
        bucket("2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
        bucket("2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        bucket("2011-12-31T10:00:00Z", "2012-01-01T10:00:00Z"),
    ];
    assert_eq!(buckets, expected, "the 29th, the 31st, and the 1st");
}

#[test]
fn the_calendar_has_an_answer_from_the_first_timestamp_to_the_last() {
    let ends = [
        Timestamp::from_micros(0),
        instant("9999-10-31T23:59:59Z"),
        Timestamp::parse("9999-12-31T23:59:59.999999-23:59").unwrap(),
    ];
    for name in ["UTC", "Pacific/Kiritimati", "Pacific/Niue", "Europe/Berlin"] {
        for unit in TimeUnit::ALL {
            let mut calendar = Calendar::new(unit, zone(name));
            for instant in ends {
                let bucket = calendar.bucket_of(instant);
                assert!(bucket.contains(instant), "{name} {unit:?} {instant}");
            }
        }
    }
}
