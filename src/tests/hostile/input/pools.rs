//! The parts that hostile events are made of: how each is written in a body, and its value in the database, if it is
//! valid.

/// Bytes of a JSON value, and its stored value; `None` if the event must be refused.
pub(super) struct Part<T> {
    pub(super) json: Vec<u8>,
    pub(super) stored: Option<T>,
}

fn good<T>(json: impl AsRef<[u8]>, stored: T) -> Part<T> {
    Part {
        json: json.as_ref().to_vec(),
        stored: Some(stored),
    }
}

fn bad<T>(json: impl AsRef<[u8]>) -> Part<T> {
    Part {
        json: json.as_ref().to_vec(),
        stored: None,
    }
}

/// A text of at most `bytes_max` bytes that begins with `start`, which is plain ASCII.
pub(super) fn texts(start: &str, bytes_max: usize) -> Vec<Part<String>> {
    let fill = |bytes: usize| format!("{start}{}", "x".repeat(bytes - start.len()));
    // The escaped form is six times as long; the limit is on the decoded text.
    let escaped = |bytes: usize| format!("{start}{}", r"\u0078".repeat(bytes - start.len()));
    let wide = |bytes: usize| format!("{start}{}é", "x".repeat(bytes - 2 - start.len()));
    let text = |json: &str| format!("\"{start}{json}\"");
    let raw = |bytes: &[u8]| [b"\"", start.as_bytes(), bytes, b"\""].concat();
    let stored = |rest: &str| format!("{start}{rest}");
    let mut parts: Vec<_> = [
        "plain",
        " ",
        "é",
        "😀",
        "\u{2028}\u{feff}",
        "\u{7f}\u{80}",
        "\u{ffff}\u{10ffff}",
        "'; DROP TABLE events; --",
        "%s{}$1",
        "null",
        "--",
        "/* */",
    ]
    .map(|plain| good(text(plain), stored(plain)))
    .into();
    parts.extend([
        good(
            text(r#"\" \\ \/ \b \f \n \r \t"#),
            stored("\" \\ / \u{8} \u{c} \n \r \t"),
        ),
        good(text(r"\u00e9\u0001\u001f\u007F"), stored("\u{e9}\u{1}\u{1f}\u{7f}")),
        good(text(r"\ud83d\ude00 \uDBFF\uDFFF"), stored("😀 \u{10ffff}")),
        good(text(r"\\u0000 \\ud800"), stored(r"\u0000 \ud800")),
        good(text(&fill(bytes_max)[start.len()..]), fill(bytes_max)),
        good(text(&escaped(bytes_max)[start.len()..]), fill(bytes_max)),
        good(text(&wide(bytes_max)[start.len()..]), wide(bytes_max)),
        bad(text(&fill(bytes_max + 1)[start.len()..])),
        bad(text(&escaped(bytes_max + 1)[start.len()..])),
        bad(text(&wide(bytes_max + 1)[start.len()..])),
        bad("\"\""),
        bad(text(r"\u0000")),
        bad(text(r"a\u0000b")),
        bad(text(r"\ud800")),
        bad(text(r"\udc00")),
        bad(text(r"\ud800x")),
        bad(text(r"\ude00\ud83d")),
        bad(text(r"\ud83d\u0041")),
        bad(text(r"\ud83")),
        bad(text(r"\x41")),
        // Raw control characters, and bytes that are not UTF-8: a lone byte, an overlong NUL and slash, half of a
        // surrogate pair, both halves in CESU-8, a code point beyond the last, a truncated character.
        bad(raw(b"\0")),
        bad(raw(b"\n")),
        bad(raw(b"\xff\xfe")),
        bad(raw(b"\x80")),
        bad(raw(b"\xc0\x80")),
        bad(raw(b"\xe0\x80\xaf")),
        bad(raw(b"\xed\xa0\x80")),
        bad(raw(b"\xed\xa0\xbd\xed\xb8\x80")),
        bad(raw(b"\xf4\x90\x80\x80")),
        bad(raw(b"\xf0\x9f\x98")),
        bad("7"),
        bad("true"),
        bad("{}"),
        bad("[\"a\"]"),
        bad("'a'"),
        bad(""),
        bad("[".repeat(100_000) + &"]".repeat(100_000)),
    ]);
    parts
}

/// Timestamps and their stored microseconds.
pub(super) fn timestamps() -> Vec<Part<i64>> {
    const SECOND: i64 = 1_769_938_200;
    let micros = SECOND * 1_000_000;
    let mut parts: Vec<_> = [
        ("0", 0),
        ("1", 1_000_000),
        ("1769938200", micros),
        ("1769938200123", micros + 123_000),
        ("1769938200123456", micros + 123_456),
        ("1769938200123456789", micros + 123_456),
        // The smallest number of each unit, all of them in 1970.
        ("5000000000", 5_000_000_000_000),
        ("5000000000000", 5_000_000_000_000),
        ("5000000000000000", 5_000_000_000_000),
        ("\"1970-01-01T00:00:00Z\"", 0),
        ("\"1970-01-01T00:59:59.9+01:00\"", -1),
        ("\"2026-02-01T09:30:00Z\"", micros),
        ("\"2026-02-01t09:30:00.1234569z\"", micros + 123_456),
        ("\"2026-02-02T09:29:00+23:59\"", micros),
        ("\"2026-01-31T09:31:00-23:59\"", micros),
        ("\"2024-02-29T23:59:59.999999999Z\"", 1_709_251_199_999_999),
        // Forms that other programs print.
        ("-0", 0),
        ("1e-400", 0),
        ("1.0", 1_000_000),
        ("1e9", 1_000_000_000_000_000),
        ("1769938200.5", micros + 500_000),
        ("1769938200.123456", micros + 123_456),
        ("1769938200123.25", micros + 123_250),
        ("\"2026-02-01 09:30:00Z\"", micros),
        ("\"2026-02-01 04:30:00.25-0500\"", micros + 250_000),
        ("\"2026-02-01T10:30:00+01\"", micros),
        ("\"2016-12-31T23:59:60Z\"", 1_483_228_799_999_999),
    ]
    .into_iter()
    .map(|(json, micros)| if micros < 0 { bad(json) } else { good(json, micros) })
    .collect();
    let refused = [
        // The largest number of each unit, in the year 2128.
        "4999999999",
        "4999999999999",
        "4999999999999999",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "100000000000000000000000000000",
        "-1",
        "-9223372036854775808",
        "-9223372036854775809",
        "1e400",
        "01",
        "+1",
        "0x1",
        "NaN",
        "null",
        "true",
        "{}",
        "[0]",
        "\"\"",
        "\"0\"",
        "\"1769938200\"",
        "\"2026-02-01\"",
        "\"2026-02-01T09:30:00\"",
        "\"2016-12-31T23:58:60Z\"",
        "\" 2026-02-01T09:30:00Z\"",
        "\"2026-02-29T00:00:00Z\"",
        "\"2026-02-01T24:00:00Z\"",
        "\"1969-12-31T23:59:59.999999Z\"",
        "\"0000-01-01T00:00:00Z\"",
        "\"-4713-01-01T00:00:00Z\"",
        "\"2999-01-01T00:00:00Z\"",
        "\"9999-12-31T23:59:59Z\"",
        "\"10000-01-01T00:00:00Z\"",
        "\"294277-01-01T00:00:00Z\"",
        "\"infinity\"",
        "\"now\"",
        "\"2026-02-01T09:30:00\\u0000Z\"",
    ];
    parts.extend(refused.map(bad));
    parts
}

/// Metadata; the stored value is the text as sent.
pub(super) fn metadata() -> Vec<Part<String>> {
    let arrays = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let long = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    let mut good_ones: Vec<String> = [
        "{}",
        "{ }",
        "{\"a\" :\t[ 1 ,\r\n2 ] }",
        r#"{"":""}"#,
        r#"{"a":null,"b":[true,false]}"#,
        // In jsonb the last duplicate key counts; a text keeps them all.
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":{"a":2,"a":3}}"#,
        r#"{"n":[-0,-0.0,0e0,1E+2,1e-7,0.1,1.10]}"#,
        r#"{"n":[9007199254740993,9223372036854775808,18446744073709551616]}"#,
        r#"{"n":123456789012345678901234567890.123456789012345678901234567890}"#,
        r#"{"n":[1e400,-1e400,1e-400,1e131071]}"#,
        r#"{"n":1e-16383}"#,
        r#"{"é😀":"\ud83d\ude00\u00e9\n"}"#,
        r#"{"a":"\\u0000 \\ud800"}"#,
        r#"{"a":"'; DROP TABLE events; --"}"#,
    ]
    .map(str::to_owned)
    .into();
    good_ones.extend([arrays(31), arrays(32), objects(31), objects(32), long(64 * 1024)]);
    good_ones.push(format!(r#"{{"{}":1}}"#, "k".repeat(30_000)));
    good_ones.push(format!(r#"{{"n":{}}}"#, "9".repeat(60_000)));
    let mut parts: Vec<_> = good_ones.into_iter().map(|text| good(&text, text.clone())).collect();
    parts.extend(
        [
            arrays(33),
            objects(33),
            arrays(129),
            objects(129),
            arrays(100_000),
            objects(30_000),
            long(64 * 1024 + 1),
        ]
        .map(bad),
    );
    parts.extend([
        bad("{\"a\":".repeat(40_000)),
        bad("{\"a\":".to_owned() + &"[".repeat(100_000)),
    ]);
    let refused = [
        "[]",
        "7",
        "\"{}\"",
        "true",
        "{",
        "{\"a\"}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":1}x",
        "{\"a\":1/**/}",
        "{\"n\":1e131072}",
        "{\"n\":1e200000}",
        "{\"n\":-1e999999999999999999999}",
        "{\"n\":1e-16384}",
        "{\"a\":\"\\u0000\"}",
        "{\"\\u0000\":1}",
        "{\"a\":[{\"b\":\"x\\u0000\"}]}",
        "{\"a\":\"\\ud800\"}",
        "{\"\\udc00\":1}",
        "{\"a\":{\"b\":[\"\\ude00\\ud83d\"]}}",
        "{\"a\":\"\0\"}",
        "{\0}",
    ];
    parts.extend(refused.map(bad));
    parts.extend(
        [
            &b"{\"a\":\"\xff\"}"[..],
            b"{\"\xc0\x80\":1}",
            b"{\"a\":\"\xed\xa0\x80\"}",
            b"{\"a\":\"\xf0\x9f\x98\"}",
        ]
        .map(bad),
    );
    parts
}

/// Tags; the stored value is a JSON array.
pub(super) fn tags() -> Vec<Part<String>> {
    let tag = "t".repeat(128);
    let of = |count: usize, tag: &str| format!("[{}]", vec![format!("\"{tag}\""); count].join(","));
    vec![
        good("[]", "[]".to_owned()),
        good(r#"["a","a","é","|","\u0009"]"#, r#"["a","a","é","|","\t"]"#.to_owned()),
        good(
            r#"["{}","NULL","a,b","\"","\\"]"#,
            r#"["{}","NULL","a,b","\"","\\"]"#.to_owned(),
        ),
        good(of(64, &tag), of(64, &tag)),
        bad(of(65, "t")),
        bad(of(1, &"t".repeat(129))),
        bad(r#"[""]"#),
        bad(r#"["\u0000"]"#),
        bad(r#"["\ud800"]"#),
        bad(r#"[null]"#),
        bad(r#"[["a"]]"#),
        bad(r#"{"a":"b"}"#),
        bad(r#""a""#),
        bad(b"[\"\xff\"]"),
    ]
}
