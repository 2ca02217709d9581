//! The rules for many events in one body.

use super::*;

#[test]
fn a_bulk_appends_its_events_in_order() {
    let second = with("user_id", r#""v""#);
    let (count, bytes) = parse_many(&format!("\n[ {SMALLEST} , {second} ]\n"), 2).unwrap();
    assert_eq!(count, 2);
    let (first, rest) = codec::decode(&bytes).unwrap();
    let (second, rest) = codec::decode(rest).unwrap();
    assert_eq!((first.user_id, second.user_id, rest.len()), ("u", "v", 0));
}

#[test]
fn what_stands_in_the_buffer_stays() {
    let mut out = b"header".to_vec();
    parse_event(SMALLEST.as_bytes(), NOW, &mut out).unwrap();
    parse_bulk(format!("[{SMALLEST}]").as_bytes(), 1, NOW, &mut out).unwrap();
    let events = out.strip_prefix(b"header").unwrap();
    assert_eq!(
        events,
        [parse_one(SMALLEST).unwrap(), parse_one(SMALLEST).unwrap()].concat()
    );
}

#[test]
fn tags_of_one_event_do_not_leak_into_the_next() {
    let body = format!(
        "[{},{},{SMALLEST}]",
        with("tags", r#"["a","b"]"#),
        with("tags", r#"["c"]"#)
    );
    let (_, bytes) = parse_many(&body, 3).unwrap();
    let (_, rest) = codec::decode(&bytes).unwrap();
    let (second, rest) = codec::decode(rest).unwrap();
    let (third, _) = codec::decode(rest).unwrap();
    assert_eq!(second.tags.unwrap().iter().collect::<Vec<_>>(), ["c"]);
    assert_eq!(third.tags, None);
}

#[test]
fn a_bulk_holds_1_to_events_max_events() {
    let events = |count: usize| format!("[{}]", vec![SMALLEST; count].join(","));
    assert_eq!(parse_many("[]", 3), Err(ParseError::EmptyBulk));
    assert_eq!(parse_many(" [ ] ", 3), Err(ParseError::EmptyBulk));
    assert_eq!(parse_many(&events(3), 3).unwrap().0, 3);
    assert_eq!(parse_many(&events(4), 3), Err(ParseError::TooManyEvents { max: 3 }));
    // The parse stops there: the rest is not read, so neither broken JSON nor bad events matter.
    assert_eq!(
        parse_many(&format!("[{}1,1,1,secret", format!("{SMALLEST},").repeat(3)), 3),
        Err(ParseError::TooManyEvents { max: 3 })
    );
}

#[test]
fn every_bad_event_of_a_bulk_is_listed() {
    let bad_name = with("event_name", "7");
    let bad_both = with("channel", "\"\"").replace("\"timestamp\":1", "\"timestamp\":-1");
    let body = format!("[{SMALLEST},{bad_name},1,{SMALLEST},null,[{SMALLEST}],\"x\",{bad_both}]");
    let outcome = parse_many(&body, 9);
    assert!(
        matches!(outcome, Err(ParseError::Invalid { invalid_count: 6, .. })),
        "{outcome:?}"
    );
    assert_eq!(
        problems(outcome),
        [
            "1 event_name wrong_type",
            "2  not_an_object",
            "4  not_an_object",
            "5  not_an_object",
            "6  not_an_object",
            "7 timestamp out_of_range",
            "7 channel empty",
        ]
    );
}

#[test]
fn what_ends_the_parse_is_placed_in_its_event() {
    for broken in [
        r#"{"user_id":"\ud83d"}"#,
        r#"{"timestamp":1e999}"#,
        r#"{"user_id"}"#,
        "x",
    ] {
        let message = json_message(parse_many(&format!("[{SMALLEST},1,{broken},{SMALLEST}]"), 9));
        assert!(message.starts_with("in event 2 (counted from 0): "), "{message}");
    }
    for body in [
        format!("[{SMALLEST},]"),
        format!("[{SMALLEST} {SMALLEST}]"),
        format!("[{SMALLEST}] x"),
    ] {
        let message = json_message(parse_many(&body, 9));
        assert!(message.starts_with("the body is not valid JSON: "), "{message}");
    }
    assert!(
        !json_message(parse_one(r#"{"user_id"}"#)).contains("event 0"),
        "there is only one"
    );
}

#[test]
fn the_list_ends_at_100_bad_events_and_the_count_goes_on() {
    // Each bad event has four problems, and a good event in front of it.
    let bad = format!(r#"{SMALLEST},{{"event_name":1}}"#);
    let body = format!("[{}]", vec![bad; 250].join(","));
    let Err(ParseError::Invalid { errors, invalid_count }) = parse_many(&body, 1_000) else {
        panic!("not invalid")
    };
    assert_eq!((errors.len(), invalid_count), (400, 250));
    let mut indices: Vec<usize> = errors.iter().map(|error| error.index).collect();
    indices.dedup();
    assert_eq!(indices, (1..200).step_by(2).collect::<Vec<_>>());
}

#[test]
fn one_event_with_many_problems_does_not_fill_the_list() {
    let unknown: String = (0..1_000).map(|n| format!(r#""x{n}":1,"#)).collect();
    let flood = SMALLEST.replacen('{', &format!("{{{unknown}"), 1);
    let outcome = parse_many(&format!("[{flood},1]"), 9);
    let found = problems(outcome);
    assert_eq!(found.len(), PROBLEMS_LISTED_MAX + 1);
    assert_eq!(found[7..], ["0 x7 unknown_field", "1  not_an_object"]);
}
