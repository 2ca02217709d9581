//! Bodies that are not JSON, not the right JSON, or JSON that cannot be read; no answer repeats their contents.

use super::*;

#[test]
fn nul_and_lone_surrogates_are_refused_in_plain_fields() {
    for field in ["event_name", "channel", "user_id", "campaign_id", "event_id"] {
        refuses(field, r#""a\u0000b""#, "nul_character");
        accepts(field, r#""a\\u0000b \ud83d\ude00""#);
        // Raw control characters and halves of pairs end the parse.
        for value in ["\"a\0b\"", r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#] {
            assert!(json_message(parse_one(&with(field, value))).contains("at line 1 column"));
        }
    }
}

#[test]
fn json_that_cannot_be_read_is_not_called_invalid() {
    for value in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\n""#] {
        for field in ["user_id", "tags", "other"] {
            let field_value = if field == "tags" {
                format!("[{value}]")
            } else {
                value.to_owned()
            };
            let outcome = parse_one(&with(field, &field_value));
            if field == "other" {
                assert_eq!(problems(outcome), ["0 other unknown_field"], "not looked at");
                continue;
            }
            let message = json_message(outcome);
            assert!(message.contains("half of a surrogate pair"), "{message}");
            assert!(!message.contains("not valid JSON"), "{message}");
        }
    }
    for value in ["1e999", "-1e999"] {
        let message = json_message(parse_one(&with("timestamp", value)));
        assert!(message.contains("a number is too large"), "{message}");
        assert!(!message.contains("not valid JSON"), "{message}");
    }
}

#[test]
fn broken_json_is_placed_but_never_echoed() {
    let truncated = &SMALLEST[..SMALLEST.len() - 1];
    for body in [
        truncated,
        "{secret}",
        r#"{"secret":secret}"#,
        r#"{"event_name":"secret" "x"}"#,
        r#"{"user_id":1e999999}"#,
        "{\"secret\n\":1}",
    ] {
        let message = json_message(parse_one(body));
        assert!(
            message.contains("line 1 column") || message.contains("line 2 column"),
            "{message}"
        );
        assert!(!message.contains("secret"), "{message}");
    }
    assert!(json_message(parse_one(&format!("{SMALLEST} x"))).contains("trailing characters"));
    assert!(json_message(parse_one(&format!("{SMALLEST}{SMALLEST}"))).contains("trailing characters"));
    assert!(json_message(parse_many(&format!("[{SMALLEST},]"), 9)).contains("line 1 column"));
    assert!(json_message(parse_many(&format!("[{SMALLEST}]]"), 9)).contains("trailing characters"));
    let not_utf8 = parse_event(b"{\"event_name\":\"\xff\"}", NOW, &mut Vec::new());
    assert!(json_message(not_utf8).contains("not UTF-8 from byte 15"));
}

#[test]
fn the_wrong_shape_is_told_the_right_route() {
    assert!(json_message(parse_one(&format!("[{SMALLEST}]"))).contains("POST /events/bulk"));
    assert!(json_message(parse_many(SMALLEST, 9)).contains("POST /events"));
    for body in ["", " \n", "null", "1", "\"x\"", "x"] {
        assert!(
            json_message(parse_one(body)).contains("must be a JSON object"),
            "{body:?}"
        );
        assert!(
            json_message(parse_many(body, 9)).contains("must be a JSON array"),
            "{body:?}"
        );
    }
}

#[test]
fn messages_never_echo_a_value() {
    for (field, value) in [
        ("event_name", format!("\"{}\"", "secret".repeat(50))),
        ("timestamp", r#""secret""#.to_owned()),
        ("tags", r#""secret""#.to_owned()),
        ("tags", r#"[{"secret":1}]"#.to_owned()),
        ("metadata", r#"{"secret":"\u0000"}"#.to_owned()),
        ("metadata", r#""secret""#.to_owned()),
    ] {
        let Err(ParseError::Invalid { errors, .. }) = parse_one(&with(field, &value)) else {
            panic!("{value} passed")
        };
        assert!(!format!("{errors:?}").contains("secret"), "{errors:?}");
    }
}
