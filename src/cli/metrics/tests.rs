//! Fixed answers in the three formats, with hostile names among them.

use clap::Parser;
use hyper::StatusCode;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: MetricsArgs,
}

fn args(line: &[&str]) -> Result<MetricsArgs, clap::Error> {
    // `--url` is given, so that the environment of the tests does not matter.
    let line = ["metrics", "--url="].iter().chain(line);
    Line::try_parse_from(line).map(|line| line.args)
}

fn zone(name: &str) -> Zone {
    range::zone(name).unwrap()
}

fn answer(json: &str) -> Answer<'static> {
    serde_json::from_str(json).unwrap()
}

const BY_DAY: &str = r#"{"event_name":"page_view","from":"2026-01-31T18:15:00Z","to":"2026-02-22T09:40:29Z","tz":"Asia/Kathmandu",
"group_by":"day,channel","source":"rollups","total_events":1234567,"unique_users":45678,"unique_users_error":0.0077,
"unique_users_range":[44975,46381],"overflowed":true,"groups":[
{"start":"2026-01-31T18:15:00Z","end":"2026-02-01T18:15:00Z","channel":"web","total_events":1200000,"unique_users":45000,"unique_users_error":0.0077,"unique_users_range":[44307,45693]},
{"start":"2026-01-31T18:15:00Z","end":"2026-02-01T18:15:00Z","channel":"日本","total_events":300000,"unique_users":600,"unique_users_error":0},
{"start":"2026-02-01T18:15:00Z","end":"2026-02-02T18:15:00Z","other":true,"total_events":1,"unique_users":1,"unique_users_error":0},
{"start":"2026-02-02T18:15:00Z","end":"2026-02-03T18:15:00Z","channel":"web","total_events":0,"unique_users":0,"unique_users_error":0}]}"#;

#[test]
fn a_table_lines_up_and_scales_its_bars() {
    let rendered = table::render(&answer(BY_DAY), &zone("Asia/Kathmandu"), 60);
    let expected = "\
page_view: 2026-02-01 00:00 to 2026-02-22 15:25:29, Asia/Kathmandu, from rollups

day         channel     events   users
2026-02-01  web      1,200,000  45,000  ±0.8%  █████████████
2026-02-01  日本       300,000     600         ███▎
2026-02-02  (other)          1       1         ▏
2026-02-03  web              0       0
total                1,234,567  45,678  ±0.8%

± is the standard error of an estimate. 95 times in 100 the total of users is between 44,975 and 46,381; --exact counts them.
Some days have more pairs of name and channel than --rollup-pairs-max; there, events were counted one by one.";
    assert_eq!(rendered, expected);
    let narrow = table::render(&answer(BY_DAY), &zone("Asia/Kathmandu"), 50);
    assert!(!narrow.contains(['█', '▏']), "{narrow}");
}

#[test]
fn a_table_without_groups_is_its_totals() {
    let json = r#"{"event_name":"a","from":"2026-02-01T00:00:00Z","to":"2026-02-02T00:00:00Z","total_events":3,"unique_users":2}"#;
    assert_eq!(
        table::render(&answer(json), &zone("UTC"), 80),
        "\
a: 2026-02-01 00:00 to 2026-02-02 00:00, UTC

       events  users
total       3      2"
    );
}

#[test]
fn a_table_says_what_is_not_counted_yet() {
    let json = r#"{"from":"2026-02-01T00:00:00Z","to":"2026-02-02T00:00:00Z","total_events":3,"unique_users":2,
        "pending_events":320000,"counted_until":"2026-02-01T09:30:00Z"}"#;
    let table = table::render(&answer(json), &zone("UTC"), 80);
    let note =
        "Not in the database yet: 320,000 events; all that the server accepted before 2026-02-01T09:30:00Z is counted.";
    assert_eq!(table.lines().last(), Some(note));
}

#[test]
fn each_unit_of_time_has_its_own_words() {
    let labels = |unit: &str, tz: &str, starts: &[&str]| -> Vec<String> {
        let groups: Vec<String> = starts
            .iter()
            .map(|start| format!(r#"{{"start":"{start}","total_events":1,"unique_users":1}}"#))
            .collect();
        let json = format!(
            r#"{{"from":"","to":"","group_by":"{unit}","total_events":1,"unique_users":1,"groups":[{}]}}"#,
            groups.join(",")
        );
        let table = table::render(&answer(&json), &zone(tz), 80);
        let lines = table.lines().skip(3).take(starts.len());
        lines.map(|line| line.split("  ").next().unwrap().to_owned()).collect()
    };
    let new_year = ["2025-12-31T23:00:00Z"];
    assert_eq!(labels("month", "Europe/Berlin", &new_year), ["2026-01"]);
    assert_eq!(labels("week", "Europe/Berlin", &["2025-12-28T23:00:00Z"]), ["2026-W01"]);
    assert_eq!(labels("day", "Europe/Berlin", &new_year), ["2026-01-01"]);
    assert_eq!(labels("minute", "Europe/Berlin", &new_year), ["2026-01-01 00:00"]);
    // Clocks are set back: two hours have the same local time.
    assert_eq!(
        labels(
            "hour",
            "Europe/Berlin",
            &[
                "2026-10-24T23:00:00Z",
                "2026-10-25T00:00:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T02:00:00Z"
            ]
        ),
        [
            "2026-10-25 01:00",
            "2026-10-25 02:00 +02",
            "2026-10-25 02:00 +01",
            "2026-10-25 03:00"
        ]
    );
}

const HOSTILE: &str = r#"{"event_name":"\u001b]0;x\u0007","from":"2026-02-01T00:00:00Z","to":"2026-02-02T00:00:00Z",
"group_by":"event_name,channel","total_events":5,"unique_users":5,"groups":[
{"event_name":"=1+1","channel":"\u001b[2J","total_events":1,"unique_users":1},
{"event_name":"a,\"b\"","channel":"\r\n@x","total_events":1,"unique_users":1},
{"event_name":"-1","channel":"\u202eevil\u009b1m","total_events":1,"unique_users":1},
{"event_name":"+1","channel":"\t1","total_events":1,"unique_users":1},
{"event_name":"@SUM(A1)","other":true,"total_events":1,"unique_users":1}]}"#;

#[test]
fn hostile_names_cannot_drive_a_terminal() {
    let table = table::render(&answer(HOSTILE), &zone("UTC"), 80);
    let json = answer::one_line(HOSTILE.replace('\n', "").as_bytes(), true);
    let raw = "{\"a\":\"\u{202e}\u{9b}\u{7f}\u{e0041}é\"}";
    let escaped = answer::one_line(raw.as_bytes(), true);
    assert_eq!(escaped, "{\"a\":\"\\u202e\\u009b\\u007f\\udb40\\udc41é\"}");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&escaped).unwrap(),
        serde_json::from_str::<serde_json::Value>(raw).unwrap()
    );
    let csv = csv::render(&answer(HOSTILE), true);
    for text in [table.replace('\n', ""), json, csv.replace("\r\n", "")] {
        let text = text.trim_end_matches('\r');
        let is_tame = |character: char| !crate::cli::text::acts_on_a_terminal(character);
        assert!(text.chars().all(is_tame), "{text:?}");
    }
    assert!(table.contains("\\u{1b}[2J"), "{table}");
}

#[test]
fn csv_is_quoted_and_no_name_is_a_formula() {
    assert_eq!(
        csv::render(&answer(HOSTILE), false),
        "event_name,channel,other,total_events,unique_users,unique_users_error,unique_users_low,unique_users_high\r\n\
         '=1+1,\u{1b}[2J,false,1,1,0,1,1\r\n\
         \"a,\"\"b\"\"\",\"'\r\n@x\",false,1,1,0,1,1\r\n\
         '-1,\u{202e}evil\u{9b}1m,false,1,1,0,1,1\r\n\
         '+1,'\t1,false,1,1,0,1,1\r\n\
         '@SUM(A1),,true,1,1,0,1,1\r"
    );
    let by_day = csv::render(&answer(BY_DAY), false);
    let lines: Vec<_> = by_day.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "start,end,channel,other,total_events,unique_users,unique_users_error,unique_users_low,unique_users_high",
            "2026-01-31T18:15:00Z,2026-02-01T18:15:00Z,web,false,1200000,45000,0.0077,44307,45693"
        ]
    );
    let total = r#"{"from":"","to":"","total_events":3,"unique_users":2}"#;
    assert_eq!(
        csv::render(&answer(total), false),
        "total_events,unique_users,unique_users_error,unique_users_low,unique_users_high\r\n3,2,0,2,2\r"
    );
}

#[test]
fn json_is_what_the_server_said() {
    assert_eq!(
        answer::one_line("{\"a\":\"\u{202e}\"}\n".as_bytes(), false),
        "{\"a\":\"\u{202e}\"}"
    );
}

#[test]
fn the_question_has_what_was_given_and_nothing_else() {
    let now = Timestamp::parse("2026-03-31T12:00:00Z").unwrap();
    let ask = |line: &[&str]| query_string(&args(line).unwrap(), now);
    assert_eq!(
        ask(&["a b&c=é"]),
        "event_name=a%20b%26c%3D%C3%A9&from=2026%2D03%2D01T12%3A00%3A00Z&to=2026%2D03%2D31T12%3A00%3A00Z"
    );
    let all = ask(&[
        "a",
        "--from=2026-02-01",
        "--to=2026-02-02",
        "--group-by=day,channel",
        "--tz=Asia/Tokyo",
        "--channel=web",
        "--campaign-id=c",
        "--fill=zero",
        "--order=x",
        "--limit=5",
        "--exact",
        "--after=ab1",
    ]);
    assert_eq!(
        all,
        "event_name=a&from=2026%2D01%2D31T15%3A00%3A00Z&to=2026%2D02%2D01T15%3A00%3A00Z&group_by=day%2Cchannel\
         &tz=Asia%2FTokyo&channel=web&campaign_id=c&fill=zero&order=x&limit=5&exact=true&after=ab1"
    );
    for wrong in [
        &["a", "--tz=Nowhere"][..],
        &["a", "--from=today"],
        &[],
        &["a", "--limit=-1"],
    ] {
        assert!(args(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_refusal_is_one_line_and_only_a_wrong_question_is_2() {
    let refusal = |status, body: &str| {
        let failure = answer::refusal(status, body.as_bytes());
        (failure.status, failure.to_string())
    };
    let listed = r#"{"detail":"see `errors`","errors":[{"field":"tz","code":"x","message":"is no zone"},{"field":"from\u001b","code":"x","message":"is\nlate"}]}"#;
    assert_eq!(
        refusal(StatusCode::BAD_REQUEST, listed),
        (ExitStatus::Usage, "tz is no zone; from\\u{1b} is\\u{a}late".to_owned())
    );
    assert_eq!(
        refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"title":"T","detail":"the database does not answer"}"#
        ),
        (ExitStatus::Unavailable, "the database does not answer".to_owned())
    );
    assert_eq!(
        refusal(StatusCode::NOT_FOUND, "<html>"),
        (ExitStatus::Unavailable, "the server answered 404 Not Found".to_owned())
    );
}
