//! The clients of `deploy/clients`, one per language, each against a real server behind a front that disturbs its
//! connections.

mod front;
mod programs;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::process::stored::Database;
use crate::support::process::{Ended, Launch, Server, run_to_end};
use front::{Front, Treatment, Try};

const ACCEPTED: u16 = 202;
const EVENTS: usize = 100;
/// 2026-02-01T09:30:00Z.
const START_SECONDS: i64 = 1_769_938_200;

macro_rules! each_client {
    ($($language:ident)*) => {$(
        mod $language {
            #[test]
            fn stores_each_event_once_whatever_breaks() {
                super::run(super::programs::$language(), super::stores_each_event_once);
            }

            #[test]
            fn ends_at_once_when_an_event_is_refused() {
                super::run(super::programs::$language(), super::ends_when_refused);
            }

            #[test]
            fn has_no_event_stored_without_an_id() {
                super::run(super::programs::$language(), super::fills_in_or_refuses_null);
            }

            #[test]
            fn keeps_to_the_limits_of_a_request() {
                super::run(super::programs::$language(), super::keeps_to_the_limits);
            }

            #[test]
            fn leaves_a_try_that_hangs() {
                super::run(super::programs::$language(), super::leaves_what_hangs);
            }

            #[test]
            fn hands_back_what_it_gives_up_with_its_ids() {
                super::run(super::programs::$language(), super::hands_back_what_it_gives_up);
            }
        }
    )*};
}

each_client! { shell python javascript go rust php }

/// Runs a test of a client, unless this machine lacks a program that the client needs.
#[track_caller]
fn run(program: Result<Command, String>, test: fn(&mut Stage)) {
    match program {
        Ok(client) => test(&mut Stage::new(client)),
        Err(reason) => programs::say_skipped(&reason),
    }
}

/// A server on SQLite, and a client that only knows the address of the front.
struct Stage {
    client: Command,
    server: Server,
    database: Database,
    front: Front,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new(mut client: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::embedded(dir.path());
        let server = Launch::new(dir.path(), &database).start();
        let front = Front::before(server.address());
        let of_this_machine = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
        for variable in of_this_machine {
            client.env_remove(variable);
        }
        client
            .env("FAST_INGEST_URL", front.url())
            .env("FAST_INGEST_KEY", "a-key")
            .env_remove("FAST_INGEST_TRY_TIMEOUT")
            .env("FAST_INGEST_GIVE_UP_AFTER", "60");
        Self {
            client,
            server,
            database,
            front,
            dir,
        }
    }

    /// Runs the client with these events, one a line, on its standard input.
    fn send(&mut self, lines: &str) -> Ended {
        let path = self.dir.path().join("events.ndjson");
        fs::write(&path, lines).unwrap();
        self.client.stdin(File::open(&path).unwrap());
        run_to_end(&mut self.client)
    }

    /// The requests that reached the front to their end, each of which must name its sender.
    #[track_caller]
    fn tries(&self) -> Vec<Try> {
        let tries = self.front.tries();
        for one in &tries {
            assert_eq!(one.header("content-type"), "application/json");
            assert_eq!(one.header("authorization"), "Bearer a-key");
        }
        tries
    }

    /// The ids of all stored events, once every acknowledged event is in the database.
    fn stored_ids(&self) -> Vec<String> {
        self.server.wait_until_flushed();
        let events = self.database.events().into_iter();
        let mut ids: Vec<_> = events.map(|event| event.event_id.unwrap()).collect();
        ids.sort_unstable();
        ids
    }
}

/// Events that a careless client would spoil: text of all kinds, empty objects, keys `event_id` inside the metadata.
fn events(count: usize) -> Vec<Value> {
    let event = |i: usize| {
        let seconds = START_SECONDS + i64::try_from(i).unwrap();
        let mut event = json!({
            "event_name": "größe \"gewählt\" \\",
            "channel": "wéb/{東京}",
            "user_id": format!("Zoë 🎈 {i}"),
            "timestamp": seconds,
            "tags": ["ünï", "}{"],
            "metadata": {"event_id": "not the event's", "empty": {}, "list": [], "price": 1.5, "of": {"event_id": null}},
        });
        match i % 4 {
            0 => event["timestamp"] = json!(seconds * 1000),
            1 => event["event_id"] = json!(format!("ídentity-{i}")),
            2 => event["timestamp"] = json!(format!("2026-02-01T10:{:02}:00+01:00", i % 60)),
            _ => {}
        }
        event
    };
    (0..count).map(event).collect()
}

fn lines_of(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

fn statuses(tries: &[Try]) -> Vec<u16> {
    tries.iter().map(|one| one.status).collect()
}

/// The ids of a try's events: every event has one, and all differ.
#[track_caller]
fn ids_of(events: &[Value]) -> BTreeSet<String> {
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    let ids: BTreeSet<String> = events.iter().map(id).collect();
    assert_eq!(ids.len(), events.len());
    ids
}

/// The events as given, without the ids that a client has made.
fn without_made_ids(events: &[Value], given: &[Value]) -> Vec<Value> {
    let strip = |(event, given): (&Value, &Value)| {
        let mut event = event.clone();
        if given.get("event_id").is_none() {
            event.as_object_mut().unwrap().remove("event_id");
        }
        event
    };
    events.iter().zip(given).map(strip).collect()
}

fn stores_each_event_once(stage: &mut Stage) {
    stage
        .front
        .treat([Treatment::BreakOff, Treatment::Answer(429, 1), Treatment::LoseAnswer]);
    let events = events(EVENTS);
    let ended = stage.send(&lines_of(&events));
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");

    let tries = stage.tries();
    assert_eq!(statuses(&tries), [429, ACCEPTED, ACCEPTED], "{ended:?}");
    assert_eq!(stage.front.connections(), 4);
    let waited = tries[1].arrived - tries[0].answered;
    assert!(waited >= Treatment::WAITED_MIN, "{waited:?}");
    let ids = ids_of(&tries[0].events);
    for one in &tries {
        // Without assert_eq, which would print 200 events.
        assert!(one.events == tries[0].events, "a try is not the first");
        assert!(without_made_ids(&one.events, &events) == events);
    }
    assert_eq!(stage.stored_ids(), Vec::from_iter(ids));
    assert_eq!(stage.server.health()["events"]["duplicates"], EVENTS);
    for event in stage.database.events() {
        let number = event.user_id.strip_prefix("Zoë 🎈 ").unwrap();
        let sent = &events[number.parse::<usize>().unwrap()];
        assert_eq!(event.event_name, sent["event_name"]);
        assert_eq!(event.channel, sent["channel"]);
        assert_eq!(event.tags.as_ref(), sent.get("tags"));
        assert_eq!(event.metadata.as_ref(), sent.get("metadata"));
    }
}

fn ends_when_refused(stage: &mut Stage) {
    let mut events = events(3);
    events[1].as_object_mut().unwrap().remove("user_id");
    let ended = stage.send(&lines_of(&events));
    ended.assert_refusal(1, &["400", "invalid_event", "nothing was stored", "user_id"]);
    assert_eq!(statuses(&stage.tries()), [400], "{ended:?}");
    let handed_back = read_lines(&ended);
    ids_of(&handed_back);
    assert_eq!(without_made_ids(&handed_back, &events), events);
    assert_eq!(stage.server.health()["events"]["accepted"], 0);
}

/// The shell's client reads no JSON: it adds an id beside the null, which the server must refuse.
fn fills_in_or_refuses_null(stage: &mut Stage) {
    let mut events = events(1);
    events[0]["event_id"] = Value::Null;
    let ended = stage.send(&lines_of(&events));
    let stored = match ended.code() {
        0 => 1,
        _ => {
            ended.assert_refusal(1, &["400", "duplicate_field"]);
            0
        }
    };
    assert_eq!(stage.stored_ids().len(), stored, "{ended:?}");
}

fn keeps_to_the_limits(stage: &mut Stage) {
    let mut events = events(1_080);
    for event in &mut events[..80] {
        event["metadata"]["blob"] = json!("é".repeat(30_000));
    }
    let ended = stage.send(&lines_of(&events));
    assert_eq!(ended.code(), 0, "{ended:?}");
    let tries = stage.tries();
    assert!(statuses(&tries).iter().all(|status| *status == ACCEPTED));
    let sent: Vec<_> = tries.iter().flat_map(|one| one.events.clone()).collect();
    assert!(without_made_ids(&sent, &events) == events);
    // As few requests as the limits allow: 4 MB of large events, 1,000 of any, and the rest.
    assert_eq!(tries.len(), 3, "{ended:?}");
    assert_eq!(stage.stored_ids(), Vec::from_iter(ids_of(&sent)));
}

fn leaves_what_hangs(stage: &mut Stage) {
    stage
        .front
        .treat([Treatment::HangUp, Treatment::StaySilent, Treatment::LoseAnswer]);
    stage.client.env("FAST_INGEST_TRY_TIMEOUT", "1");
    let ended = stage.send(&lines_of(&events(EVENTS)));
    assert_eq!(ended.code(), 0, "{ended:?}");
    // On a busy machine a try may time out, so there may be more tries.
    let tries = stage.tries();
    assert_eq!(statuses(&tries)[..2], [0, ACCEPTED], "{ended:?}");
    assert!(tries.iter().all(|one| one.events == tries[0].events));
    let ids = ids_of(&tries[0].events);
    assert_eq!(stage.stored_ids(), Vec::from_iter(ids));
}

fn hands_back_what_it_gives_up(stage: &mut Stage) {
    stage.front.treat([Treatment::LoseAnswer, Treatment::Answer(503, 60)]);
    stage.client.env("FAST_INGEST_GIVE_UP_AFTER", "30");
    let events = events(EVENTS);
    let ended = stage.send(&lines_of(&events));
    ended.assert_refusal(1, &["gave up after 30", "503", "made_up"]);
    assert_eq!(statuses(&stage.tries()), [ACCEPTED, 503], "{ended:?}");
    assert!(without_made_ids(&read_lines(&ended), &events) == events);

    let again = stage.send(&ended.stdout);
    assert_eq!(again.code(), 0, "{again:?}");
    let tries = stage.tries();
    assert_eq!(statuses(&tries), [ACCEPTED, 503, ACCEPTED], "{again:?}");
    let ids = ids_of(&tries[0].events);
    assert_eq!(ids, ids_of(&tries[2].events));
    assert_eq!(stage.stored_ids(), Vec::from_iter(ids));
}

#[track_caller]
fn read_lines(ended: &Ended) -> Vec<Value> {
    let lines = ended.stdout.lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_readme_has_a_part_for_each_file() {
    let folder = Path::new(programs::FOLDER);
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let has_part = readme.contains(&format!("\n**`{name}`**"));
        assert!(has_part || name == "README.md", "{name}");
    }
}
