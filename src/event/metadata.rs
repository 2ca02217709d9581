//! Checks on `metadata` that serde_json does not make.
//!
//! `RawValue` proves that the text is well-formed JSON and keeps it as sent, but PostgreSQL's `jsonb` is narrower: no
//! U+0000, no lone surrogates, no numbers beyond `numeric`. One pass over the bytes finds them. It looks at structure,
//! escapes and numbers only, skips the inside of strings eight bytes at a time, and allocates nothing.

use super::METADATA_DEPTH_MAX;
use super::rule::BrokenRule;

/// Most digits of a `numeric` before the decimal point.
const NUMERIC_INTEGER_DIGITS_MAX: i64 = 131_072;
/// Most digits of a `numeric` after the decimal point.
const NUMERIC_FRACTION_DIGITS_MAX: i64 = 16_383;
/// A number without an exponent fits whatever its digits are if it is no longer than this.
const NUMBER_BYTES_UNCHECKED: usize = NUMERIC_FRACTION_DIGITS_MAX as usize;

/// Checks the text of a JSON value that is already known to be well-formed. On other text the answer means nothing, but
/// it does not panic.
pub(super) fn check(raw: &str) -> Result<(), BrokenRule> {
    let bytes = raw.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = check_string(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => at = check_number(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > METADATA_DEPTH_MAX {
                    return Err(BrokenRule::TooDeep);
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            // White space, colons, commas, and the letters of true, false and null.
            _ => at += 1,
        }
    }
    Ok(())
}

/// Checks the string whose first byte (after the quote) is at `at`; returns the index after its closing quote.
fn check_string(bytes: &[u8], mut at: usize) -> Result<usize, BrokenRule> {
    loop {
        at = find_quote_or_backslash(bytes, at);
        if bytes.get(at) != Some(&b'\\') {
            return Ok(at + 1);
        }
        at += check_escape(&bytes[at..])?;
    }
}

/// Checks the escape at the front of `text`, a surrogate pair being one escape; returns its length.
fn check_escape(text: &[u8]) -> Result<usize, BrokenRule> {
    match escaped_unit(text) {
        // The other byte of a short escape is skipped with its backslash, so that the second backslash of `\\` begins
        // no escape.
        None => Ok(2),
        Some(0) => Err(BrokenRule::NulCharacter),
        Some(0xD800..=0xDBFF) => match text.get(6..).and_then(escaped_unit) {
            Some(0xDC00..=0xDFFF) => Ok(12),
            _ => Err(BrokenRule::LoneSurrogate),
        },
        Some(0xDC00..=0xDFFF) => Err(BrokenRule::LoneSurrogate),
        Some(_) => Ok(6),
    }
}

/// The UTF-16 unit of the `\uXXXX` at the front of `text`, if there is one.
fn escaped_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(br"\u")?.first_chunk::<4>()?;
    digits
        .iter()
        .try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))
}

/// Index of the next quote or backslash from `at` on, or of the end.
fn find_quote_or_backslash(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        // The lowest mark is exact: a false one can only stand above a true one.
        let marks = zero_bytes(word ^ repeated(b'"')) | zero_bytes(word ^ repeated(b'\\'));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

const fn repeated(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Marks (by its highest bit) every byte of `word` that is zero; above the lowest mark, others may be false.
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeated(0x01)) & !word & repeated(0x80)
}

/// Checks the number that begins at `start`; returns the index after it.
fn check_number(bytes: &[u8], start: usize) -> Result<usize, BrokenRule> {
    let mut end = start + 1;
    let mut has_exponent = false;
    while let Some(&byte) = bytes.get(end) {
        match byte {
            b'0'..=b'9' | b'.' => {}
            b'e' | b'E' | b'+' | b'-' => has_exponent = true,
            _ => break,
        }
        end += 1;
    }
    let number = &bytes[start..end];
    if (has_exponent || number.len() > NUMBER_BYTES_UNCHECKED) && !fits_numeric(number) {
        return Err(BrokenRule::NumberOutOfRange);
    }
    Ok(end)
}

/// Whether PostgreSQL's `numeric` can hold a number, judged by where its digits stand.
///
/// Leading zeros count as digits, although PostgreSQL accepts such numbers (`0e131072`, `0.5e131072`): so the rule does
/// not depend on the values of digits.
fn fits_numeric(number: &[u8]) -> bool {
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let mut parts = number.splitn(2, |byte| matches!(byte, b'e' | b'E'));
    let mantissa = parts.next().unwrap_or_default();
    let exponent = parts.next().map_or(0, saturating_exponent);
    let integer_digits = mantissa.iter().take_while(|&&byte| byte != b'.').count();
    let fraction_digits = mantissa.len().saturating_sub(integer_digits + 1);
    let digits_before_point = (integer_digits as i64).saturating_add(exponent);
    let digits_behind_point = (fraction_digits as i64).saturating_sub(exponent);
    digits_before_point <= NUMERIC_INTEGER_DIGITS_MAX && digits_behind_point <= NUMERIC_FRACTION_DIGITS_MAX
}

/// The value of an exponent; one that is too long for 64 bits becomes the largest that fits, far beyond every limit.
fn saturating_exponent(text: &[u8]) -> i64 {
    let (digits, sign) = match text {
        [b'-', digits @ ..] => (digits, -1),
        [b'+', digits @ ..] => (digits, 1),
        digits => (digits, 1),
    };
    let magnitude = digits.iter().fold(0_i64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(i64::from(digit.wrapping_sub(b'0')))
    });
    sign * magnitude
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// Checks a text after making sure that serde_json accepts it: otherwise the test would show nothing.
    fn check_json(raw: &str) -> Result<(), BrokenRule> {
        serde_json::from_str::<&RawValue>(raw).unwrap_or_else(|error| panic!("{raw:.60}: {error}"));
        check(raw)
    }

    #[test]
    fn ordinary_metadata_passes() {
        for raw in [
            "{}",
            r#"{"a":1,"b":[true,false,null,-0.5e-3,"x"],"c":{"d":"é😀 and a long string without any escape"}}"#,
            "{ \"spaced\" :\n\t[ 1 , 2 ] }",
            r#"{"escapes":"\" \\ \/ \b \f \n \r \t \u00e9 \uFFFF \u0001"}"#,
            r#"{"brackets in strings":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[{{{{","1e999999999":"1e999999999"}"#,
        ] {
            assert_eq!(check_json(raw), Ok(()), "{raw}");
        }
    }

    #[test]
    fn nesting_ends_at_32_levels() {
        let arrays = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert_eq!(check_json(&arrays(32)), Ok(()));
        assert_eq!(check_json(&arrays(33)), Err(BrokenRule::TooDeep));
        let objects = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert_eq!(check_json(&objects(32)), Ok(()));
        assert_eq!(check_json(&objects(33)), Err(BrokenRule::TooDeep));
        assert_eq!(check_json(&arrays(60_000)), Err(BrokenRule::TooDeep));
        let siblings = format!(r#"{{"a":[{}[]]}}"#, "[],".repeat(1_000));
        assert_eq!(check_json(&siblings), Ok(()));
    }

    #[test]
    fn nul_is_found_in_keys_and_strings_at_any_depth() {
        for raw in [
            r#"{"a":"\u0000"}"#,
            r#"{"\u0000":1}"#,
            r#"{"a":[{"b":"text before \u0000"}]}"#,
            r#"{"a":[{"text before \u0000":"b"}]}"#,
            r#"{"a":"\\\u0000"}"#,
            r#"{"a":"1234567\u0000"}"#,
        ] {
            assert_eq!(check_json(raw), Err(BrokenRule::NulCharacter), "{raw}");
        }
        for raw in [
            r#"{"a":"\\u0000"}"#,
            r#"{"a":"\\\\u0000"}"#,
            r#"{"a":"\u00001"}"#.replace("00001", "00011").as_str(),
        ] {
            assert_eq!(check_json(raw), Ok(()), "{raw}");
        }
    }

    #[test]
    fn lone_surrogates_are_found_and_pairs_pass() {
        for raw in [
            r#"{"a":"\ud83d"}"#,
            r#"{"a":"\uDE00"}"#,
            r#"{"a":"\ude00\ud83d"}"#,
            r#"{"a":"\ud83d\ud83d"}"#,
            r#"{"a":"\ud83d\n"}"#,
            r#"{"a":"\ud83d \ude00"}"#,
            r#"{"a":"\ud83d\\ude00"}"#,
            r#"{"a":"\ud83d\u0041"}"#,
            r#"{"\udbff":"a"}"#,
            r#"{"a":"\ud83d\ude00\ude00"}"#,
        ] {
            assert_eq!(check_json(raw), Err(BrokenRule::LoneSurrogate), "{raw}");
        }
        for raw in [
            r#"{"a":"\ud83d\ude00\uD800\uDC00"}"#,
            r#"{"a":"\\ud83d"}"#,
            r#"{"a":"\ud7ff\ue000"}"#,
        ] {
            assert_eq!(check_json(raw), Ok(()), "{raw}");
        }
    }

    /// Each of these was tried against PostgreSQL 15 (`SELECT '…'::jsonb`).
    #[test]
    fn numbers_end_where_numeric_ends() {
        let nines = |count| "9".repeat(count);
        let zeros = |count| "0".repeat(count);
        let fitting = [
            "1e131071".to_owned(),
            "-1E+131071".to_owned(),
            "12e131070".to_owned(),
            "9.99e131071".to_owned(),
            "1e-16383".to_owned(),
            "1.5e-16382".to_owned(),
            "0e-16383".to_owned(),
            "1e0000000000000000000000000000005".to_owned(),
            format!("0.{}", zeros(16_383)),
            format!("{}.{}", nines(40_000), nines(16_383)),
        ];
        for number in fitting {
            assert_eq!(check_json(&format!(r#"{{"a":{number}}}"#)), Ok(()), "{number:.40}");
        }
        let beyond = [
            "1e131072".to_owned(),
            "-1E+131072".to_owned(),
            "12e131071".to_owned(),
            "0.5e131073".to_owned(),
            "1e-16384".to_owned(),
            "1.5e-16383".to_owned(),
            "100e-16385".to_owned(),
            "0e-16384".to_owned(),
            "0.0e-16383".to_owned(),
            "1e99999999999999999999".to_owned(),
            "1e-99999999999999999999".to_owned(),
            format!("0.{}", zeros(16_384)),
            format!("{}e91073", nines(40_000)),
        ];
        for number in beyond {
            for raw in [format!(r#"{{"a":{number}}}"#), format!(r#"{{"a":[1,{number} ,2]}}"#)] {
                assert_eq!(check_json(&raw), Err(BrokenRule::NumberOutOfRange), "{number:.40}");
            }
        }
    }

    #[test]
    fn a_number_of_digits_only_ends_at_131072_of_them() {
        assert_eq!(check_json(&"9".repeat(131_072)), Ok(()));
        assert_eq!(check_json(&"9".repeat(131_073)), Err(BrokenRule::NumberOutOfRange));
    }

    proptest! {
        #[test]
        fn the_search_for_quotes_is_a_plain_one(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x21..=0x23u8, 0x5b..=0x5du8], 0..40), at in 0..45usize) {
            let plain = (at..bytes.len()).find(|&at| matches!(bytes[at], b'"' | b'\\'));
            prop_assert_eq!(find_quote_or_backslash(&bytes, at), plain.unwrap_or(bytes.len().max(at)));
        }

        #[test]
        fn arbitrary_text_never_panics(text in r#"\PC{0,60}|[\\u"0d8e+.{}\[\]-]{0,60}"#) {
            // On text that is not JSON the answer means nothing, but it must be the same each time.
            prop_assert_eq!(check(&text), check(&text));
        }

        /// A string passes exactly if serde_json can decode it (it refuses lone surrogates) to text without U+0000.
        #[test]
        fn strings_pass_if_they_decode_to_storable_text(
            parts in prop::collection::vec(prop_oneof!["[a-z]{0,9}", r"\\u(d83d|de00|DBFF|DFFF|0000|00e9)", r#"\\[\\"n/]"#], 0..6),
        ) {
            let raw = format!("\"{}\"", parts.concat());
            let decoded = serde_json::from_str::<String>(&raw);
            let is_storable = decoded.is_ok_and(|text| !text.contains('\0'));
            prop_assert_eq!(check_json(&raw).is_ok(), is_storable, "{}", raw);
        }
    }
}
