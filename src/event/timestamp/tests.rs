//! RFC 3339 by example, and against `jiff` at random.

use proptest::prelude::*;

use super::*;

fn micros(text: &str) -> Result<i64, TimestampError> {
    Timestamp::parse_rfc3339(text).map(Timestamp::as_micros)
}

#[test]
fn known_instants() {
    assert_eq!(micros("1970-01-01T00:00:00Z"), Ok(0));
    assert_eq!(micros("2026-02-01T09:30:00Z"), Ok(1_769_938_200_000_000));
    assert_eq!(micros("2026-02-01T09:30:00.25+01:30"), Ok(1_769_932_800_250_000));
    assert_eq!(micros("2026-02-01t09:30:00z"), Ok(1_769_938_200_000_000));
    assert_eq!(micros("2024-02-29T00:00:00-00:00"), Ok(1_709_164_800_000_000));
    assert_eq!(micros("9999-12-31T23:59:59.999999-23:59"), Ok(253_402_387_139_999_999));
}

#[test]
fn fractions_of_any_length_are_cut() {
    assert_eq!(micros("1970-01-01T00:00:00.1Z"), Ok(100_000));
    assert_eq!(micros("1970-01-01T00:00:00.000001Z"), Ok(1));
    assert_eq!(micros("1970-01-01T00:00:00.0000019Z"), Ok(1));
    assert_eq!(
        micros(&format!("1970-01-01T00:00:59.{}Z", "9".repeat(500))),
        Ok(59_999_999)
    );
}

#[test]
fn the_epoch_is_the_first_instant() {
    assert_eq!(micros("1970-01-01T01:00:00+01:00"), Ok(0));
    assert_eq!(micros("1969-12-31T23:59:59.999999Z"), Err(TimestampError::BeforeEpoch));
    assert_eq!(micros("1970-01-01T00:00:00+00:01"), Err(TimestampError::BeforeEpoch));
    assert_eq!(micros("0000-01-01T00:00:00Z"), Err(TimestampError::BeforeEpoch));
}

#[test]
fn what_rfc_3339_does_not_allow_is_malformed() {
    let malformed = [
        "",
        "2026-02-01",
        "2026-02-01T09:30Z",
        "2026-02-01T09:30:00",
        "2026-02-01  09:30:00Z",
        "2026-02-01_09:30:00Z",
        "2026-02-01T09:30:00 Z",
        "2026-02-01T09:30:00Z ",
        " 2026-02-01T09:30:00Z",
        "2026-02-01T09:30:00.Z",
        "2026-02-01T09:30:00,5Z",
        "2026-02-01T09:30:00+010",
        "2026-02-01T09:30:00+1",
        "2026-02-01T09:30:00+",
        "2026-02-01T09:30:0001:00",
        "2026-02-01T09:30:00+2400",
        "2026-02-01T09:30:00+0160",
        "2026-02-01T09:30:00+24",
        "2026-02-01T09:30:00+1:00",
        "2026-02-01T09:30:00+24:00",
        "2026-02-01T09:30:00+01:60",
        "2026-02-01T09:30:00\u{2212}01:00",
        "2026-02-01T09:30:00Z[UTC]",
        "2026-02-01T09:30:60Z",
        "2026-02-01T23:59:60+01:00",
        "2026-02-01T23:59:61Z",
        "2026-02-01T09:60:00Z",
        "2026-02-01T24:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-32T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "+026-02-01T09:30:00Z",
        "20260201T093000Z",
        "12026-02-01T09:30:00Z",
        "２026-02-01T09:30:00Z",
        "1769938200",
    ];
    for text in malformed {
        assert_eq!(micros(text), Err(TimestampError::Malformed), "{text:?}");
    }
    assert!(micros("2000-02-29T00:00:00Z").is_ok());
}

#[test]
fn what_databases_and_standard_libraries_print_is_taken() {
    let instant = Ok(1_769_938_200_000_000);
    for text in [
        "2026-02-01 09:30:00Z",
        "2026-02-01 09:30:00+00",
        "2026-02-01 09:30:00+00:00",
        "2026-02-01T09:30:00+0000",
        "2026-02-01T11:00:00+0130",
        "2026-02-01T04:30:00.000-05",
    ] {
        assert_eq!(micros(text), instant, "{text:?}");
    }
}

#[test]
fn a_leap_second_is_the_last_microsecond_of_its_minute() {
    let last = Ok(1_483_228_799_999_999);
    for text in [
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.5Z",
        "2017-01-01T00:59:60+01:00",
        "2016-12-31 18:59:60-0500",
    ] {
        assert_eq!(micros(text), last, "{text:?}");
    }
    assert_eq!(micros("2017-01-01T00:00:00Z"), Ok(1_483_228_800_000_000));
    assert_eq!(micros("1969-12-31T23:59:60Z"), Err(TimestampError::BeforeEpoch));
}

#[test]
fn a_unix_time_may_have_a_fraction_or_an_exponent() {
    let from_f64 = |number| Timestamp::from_unix_f64(number).map(Timestamp::as_micros);
    assert_eq!(from_f64(1_769_938_200.5), Ok(1_769_938_200_500_000));
    assert_eq!(from_f64(1.769_938_2e9), Ok(1_769_938_200_000_000));
    // The nearest doubles are a little below or above these numbers.
    assert_eq!(from_f64(1_769_938_200.123_456), Ok(1_769_938_200_123_456));
    assert_eq!(from_f64(1_769_938_200.000_001), Ok(1_769_938_200_000_001));
    assert_eq!(from_f64(1_769_938_200.999_999), Ok(1_769_938_200_999_999));
    assert_eq!(from_f64(1_769_938_200.123_456_7), Ok(1_769_938_200_123_456));
    assert_eq!(from_f64(1_769_938_200_123.5), Ok(1_769_938_200_123_500));
    assert_eq!(from_f64(1_769_938_200_123.456), Ok(1_769_938_200_123_456));
    assert_eq!(from_f64(1_769_938_200_123_456.7), Ok(1_769_938_200_123_456));
    assert_eq!(from_f64(1.769_938_2e18), Ok(1_769_938_200_000_000));
    assert_eq!(from_f64(0.000_000_9), Ok(0));
    assert_eq!(from_f64(4_999_999_999.75), Ok(4_999_999_999_750_000));
    assert_eq!(from_f64(-0.0), Ok(0));
    assert_eq!(from_f64(-0.5), Err(TimestampError::BeforeEpoch));
    assert_eq!(from_f64(-1e300), Err(TimestampError::BeforeEpoch));
    assert_eq!(from_f64(1e300), Err(TimestampError::TooLarge));
}

#[test]
fn the_unit_of_a_unix_time_follows_from_its_magnitude() {
    let from_unix = |number| Timestamp::from_unix(number).map(Timestamp::as_micros);
    assert_eq!(from_unix(0), Ok(0));
    assert_eq!(from_unix(1_769_938_200), Ok(1_769_938_200_000_000));
    assert_eq!(from_unix(1_769_938_200_123), Ok(1_769_938_200_123_000));
    assert_eq!(from_unix(1_769_938_200_123_456), Ok(1_769_938_200_123_456));
    assert_eq!(from_unix(1_769_938_200_123_456_999), Ok(1_769_938_200_123_456));
    assert_eq!(from_unix(4_999_999_999), Ok(4_999_999_999_000_000));
    assert_eq!(from_unix(5_000_000_000), Ok(5_000_000_000_000));
    assert_eq!(from_unix(4_999_999_999_999), Ok(4_999_999_999_999_000));
    assert_eq!(from_unix(5_000_000_000_000), Ok(5_000_000_000_000));
    assert_eq!(from_unix(4_999_999_999_999_999), Ok(4_999_999_999_999_999));
    assert_eq!(from_unix(5_000_000_000_000_000), Ok(5_000_000_000_000));
    assert_eq!(from_unix(u64::MAX), Ok(18_446_744_073_709_551));
}

#[test]
fn a_query_string_may_carry_either_form() {
    let parse = |text| Timestamp::parse(text).map(Timestamp::as_micros);
    assert_eq!(parse("1769938200"), Ok(1_769_938_200_000_000));
    assert_eq!(parse("2026-02-01T09:30:00Z"), Ok(1_769_938_200_000_000));
    assert_eq!(parse("18446744073709551616"), Err(TimestampError::TooLarge));
    assert_eq!(parse("1769938200.5"), Ok(1_769_938_200_500_000));
    assert_eq!(parse("1769938200.00000199999999999999999"), Ok(1_769_938_200_000_001));
    assert_eq!(parse("-1"), Err(TimestampError::BeforeEpoch));
    assert_eq!(parse("-1.5"), Err(TimestampError::BeforeEpoch));
    for text in ["", "-", "+1", "1.", ".5", "1.5.5", "1.-5", "1e9", "now", "٣"] {
        assert_eq!(parse(text), Err(TimestampError::Malformed), "{text:?}");
    }
}

#[test]
fn display_is_utc_with_a_fraction_only_where_there_is_one() {
    let display = |micros| Timestamp::from_micros(micros).to_string();
    assert_eq!(display(0), "1970-01-01T00:00:00Z");
    assert_eq!(display(1_769_938_200_000_000), "2026-02-01T09:30:00Z");
    assert_eq!(display(1_500_000), "1970-01-01T00:00:01.5Z");
    assert_eq!(display(1), "1970-01-01T00:00:00.000001Z");
    assert_eq!(display(120), "1970-01-01T00:00:00.00012Z");
    assert_eq!(display(-1), "1969-12-31T23:59:59.999999Z");
    // A year of more than four digits is not RFC 3339, but must not panic.
    assert!(display(i64::MAX).starts_with("294247-01-10T"));
    assert!(display(i64::MIN).ends_with("Z"));
}

#[test]
fn now_lies_in_this_century() {
    assert!(Timestamp::now() > Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap());
}

/// Texts of the right shape, in which a number may be one step beyond its range.
fn nearly_rfc3339() -> impl Strategy<Value = String> {
    let date = (prop_oneof![1960..2110u16, 0..=9999u16], 0..=13u8, 0..=32u8);
    let time = (
        0..=24u8,
        0..=60u8,
        0..=59u8,
        prop_oneof![Just(String::new()), r"\.[0-9]{1,9}"],
    );
    let offset = prop_oneof![Just("Z".to_owned()), "[+-](0[0-9]|1[0-9]|2[0-3])(:?[0-5][0-9])?"];
    let parts = (date, "[Tt ]", time, offset);
    parts.prop_map(
        |((year, month, day), separator, (hour, minute, second, fraction), offset)| {
            format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{offset}")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn jiff_agrees(text in nearly_rfc3339()) {
        match text.parse::<jiff::Timestamp>() {
            // Floor, so that a fraction before the epoch is cut towards the past, as ours is.
            Ok(theirs) => {
                let theirs = i64::try_from(theirs.as_nanosecond().div_euclid(1_000)).unwrap();
                let expected = if theirs < 0 { Err(TimestampError::BeforeEpoch) } else { Ok(theirs) };
                prop_assert_eq!(micros(&text), expected);
            }
            // jiff's range ends a little before the year 9999 and begins after -9999, so only its upper end matters.
            Err(_) if text.starts_with("9999-12-3") => {}
            Err(_) => prop_assert_eq!(micros(&text), Err(TimestampError::Malformed)),
        }
    }

    #[test]
    fn jiff_writes_the_same_instant(instant in 0..253_000_000_000_000_000_i64) {
        let theirs = jiff::Timestamp::from_microsecond(instant).unwrap();
        prop_assert_eq!(Timestamp::from_micros(instant).to_string(), theirs.to_string());
    }

    #[test]
    fn what_is_written_is_read_back(instant in 0..253_402_300_800_000_000_i64) {
        let written = Timestamp::from_micros(instant);
        prop_assert_eq!(Timestamp::parse(&written.to_string()), Ok(written));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,40}|[0-9TZ:.+-]{0,40}") {
        let parsed = Timestamp::parse(&text);
        prop_assert!(parsed.is_err() || parsed.is_ok_and(|instant| instant.as_micros() >= 0));
    }
}
