//! How an import ends when not everything goes well: refused lines, damaged files, wrong servers, Ctrl-C.

use super::*;

#[test]
fn it_stops_at_the_first_refused_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(20));
    let server = Server::start(|_, events| judge(events, 100, |event| event["n"] == 8 || event["n"] == 9));
    let ended = import(&server, &path, &["--batch-events", "5", "--connections", "1"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(65), ""), "{ended:?}");
    let name = path.display();
    assert_eq!(
        ended.stderr,
        format!(
            "fast-ingest: {name}:8: user_id: is missing (and 1 more in the same request)\n\
             stopped: {name}: all lines up to line 5 are accepted (5 events accepted in all); correct the line in place or \
             skip it with --skip-invalid FILE, then run the same command again, nothing is stored twice\n"
        )
    );
    assert_eq!(server.store.numbers(), all(5));
    assert_eq!(server.store.requests(), 2, "nothing is sent after the refused request");
}

#[test]
fn a_line_that_is_no_object_is_refused_without_being_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", format!("{}\n{{\"n\":3,\n", lines(1)));
    let server = Server::start(|_, _| Reply::Store);
    let ended = import(&server, &path, &[]);
    assert_eq!(ended.status, Some(65), "{ended:?}");
    assert!(ended.stderr.contains("events.ndjson:3: is not JSON: "), "{ended:?}");
    assert_eq!(server.store.numbers(), all(1), "what is before it is sent");
}

#[test]
fn a_line_that_the_server_refuses_comes_before_a_later_one_that_is_no_object() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", format!("{}not json\n", lines(9)));
    let server = Server::start(|_, events| judge(events, 100, |event| event["n"] == 8));
    let ended = import(&server, &path, &[]);
    assert_eq!(ended.status, Some(65), "{ended:?}");
    assert!(
        ended.stderr.contains("events.ndjson:8: user_id: is missing"),
        "{ended:?}"
    );
}

#[test]
fn an_empty_url_counts_as_unset() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", "not json\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fast-ingest"));
    command.arg("import").arg(path).env("FAST_INGEST_URL", "");
    let output = command.stdin(Stdio::null()).output().unwrap();
    // Import reads up to the bad line, which is sent nowhere.
    assert_eq!(output.status.code(), Some(65), "{output:?}");
}

#[test]
fn skipped_lines_are_written_with_reasons_and_the_rest_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{}not json\n\n{}\n", lines(50), "x".repeat(2 * 1024 * 1024));
    let path = file(&dir, "events.ndjson", text);
    let skipped = dir.path().join("skipped.ndjson");
    let server = Server::start(|_, events| judge(events, 2, |event| event["n"].as_u64().unwrap().is_multiple_of(10)));
    let args = ["--skip-invalid", skipped.to_str().unwrap(), "--batch-events", "40"];
    for _ in 0..2 {
        let ended = import(&server, &path, &args);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(ended.stdout.starts_with("45 events accepted"), "{ended:?}");
        let end = format!(", 7 refused, written to {}\n", skipped.display());
        assert!(ended.stdout.ends_with(&end), "{ended:?}");
    }
    let good: Vec<u64> = (1..=50).filter(|n| n % 10 != 0).collect();
    assert_eq!(server.store.numbers(), good);

    let skipped = fs::read_to_string(skipped).unwrap();
    let mut entries: Vec<Value> = skipped
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    entries.sort_by_key(|entry| entry["line"].as_u64());
    let numbers: Vec<_> = entries.iter().map(|entry| entry["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [10, 20, 30, 40, 50, 51, 53]);
    assert_eq!(
        entries[0],
        json!({"file": path, "line": 10, "errors": [{"field": "user_id", "code": "required", "message": "is missing"}],
               "event": "{\"n\":10,\"event_name\":\"page_view\"}"})
    );
    assert_eq!(entries[5]["event"], "not json");
    assert_eq!(entries[5]["errors"][0]["code"], "not_an_object");
    assert_eq!(entries[6]["event"], Value::Null);
    assert_eq!(entries[6]["errors"][0]["code"], "line_too_long");
}

#[test]
fn a_request_that_is_too_large_is_halved() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(100));
    let skipped = dir.path().join("skipped.ndjson");
    let server = Server::start(|_, events| {
        let unreadable = "{\"code\":\"bad_json\",\"title\":\"Bad JSON\",\"detail\":\"lone surrogate\"}";
        if events.len() > 7 || events.iter().any(|event| event["n"] == 50) {
            Reply::Answer(413, "", String::new())
        } else if events.iter().any(|event| event["n"] == 77) {
            Reply::Answer(400, "", unreadable.to_owned())
        } else {
            Reply::Store
        }
    });
    let ended = import(&server, &path, &["--skip-invalid", skipped.to_str().unwrap()]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let good: Vec<u64> = (1..=100).filter(|n| ![50, 77].contains(n)).collect();
    assert_eq!(server.store.numbers(), good);
    let skipped = fs::read_to_string(skipped).unwrap();
    let codes: Vec<_> = skipped
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|entry| {
            (
                entry["line"].as_u64().unwrap(),
                entry["errors"][0]["code"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(codes, [(50, "too_large".to_owned()), (77, "bad_json".to_owned())]);
}

#[test]
fn a_limit_of_the_server_is_met_once_and_kept_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(1000));
    let too_many = "{\"code\":\"too_many_events\",\"title\":\"Too many events\"}";
    for (status, body) in [(413, ""), (400, too_many)] {
        let server = Server::start(move |_, events| {
            if events.len() > 30 {
                Reply::Answer(status, "", body.to_owned())
            } else {
                Reply::Store
            }
        });
        let args = ["--batch-events", "100", "--connections", "1"];
        let ended = import(&server, &path, &args);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert_eq!(server.store.numbers(), all(1000));
        // Refused are bulks of 100 and of 50 events, and later none of these sizes: four requests of 25 remain of each
        // batch. Bytes vary more than events, so there may be a few more refusals.
        let requests = server.store.requests();
        assert!((42..=46).contains(&requests), "{requests}");
    }
}

#[test]
fn a_missing_file_is_found_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(10));
    let missing = dir.path().join("missing.ndjson");
    let server = Server::start(|_, _| Reply::Store);
    let ended = import(&server, &path, &[missing.to_str().unwrap()]);
    assert_eq!(ended.status, Some(74), "{ended:?}");
    assert!(ended.stderr.contains("missing.ndjson: No such file"), "{ended:?}");
    assert_eq!(server.store.requests(), 0);
}

#[test]
fn a_damaged_file_is_sent_up_to_the_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = zstd::encode_all(lines(1000).as_bytes(), 1).unwrap();
    bytes.truncate(bytes.len() - 3);
    let path = file(&dir, "cut.ndjson.zst", bytes);
    let server = Server::start(|_, _| Reply::Store);
    let ended = import(&server, &path, &["--batch-events", "10"]);
    assert_eq!(ended.status, Some(74), "{ended:?}");
    let read = server.store.numbers().len() as u64;
    assert_eq!(server.store.numbers(), all(read));
    assert!(
        ended.stderr.contains(&format!("cannot be read after line {read}: ")),
        "{ended:?}"
    );
    // The same command would fail on the same damage.
    let advice = "; fix the file, then run the same command again, nothing is stored twice\n";
    assert!(ended.stderr.ends_with(advice), "{ended:?}");
}

#[test]
fn another_kind_of_server_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(10));
    for (status, body) in [(404, "<html>"), (200, "OK"), (202, "{\"accepted\":9}"), (401, "")] {
        let server = Server::start(move |_, _| Reply::Answer(status, "", body.to_owned()));
        let ended = import(&server, &path, &[]);
        assert_eq!(ended.status, Some(78), "{ended:?}");
        assert!(ended.stderr.contains(&format!("answered {status}")), "{ended:?}");
        let advice = "; with the URL of such a server run the same command again, nothing is stored twice\n";
        assert!(ended.stderr.ends_with(advice), "{ended:?}");
        assert_eq!(server.store.requests(), 1);
    }
}

#[test]
fn it_gives_up_on_a_server_that_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(10));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let ended = ended(command(&url, &["--give-up-after", "200ms"]).arg(&path).spawn().unwrap());
    assert_eq!(ended.status, Some(69), "{ended:?}");
    assert!(
        ended
            .stderr
            .starts_with(&format!("fast-ingest: {url}: Connection refused")),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("no line is known to be accepted (0 events accepted in all)"),
        "{ended:?}"
    );
}

/// Interrupts a run whose third request is unanswered, does `then`, and returns how the run ended.
fn interrupted(then: impl FnOnce(&Child, &mpsc::Sender<()>)) -> (Ended, Server) {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "events.ndjson", lines(1000));
    let (arrive, arrived) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let (arrive, released) = (Mutex::new(arrive), Mutex::new(released));
    let server = Server::start(move |number, _| {
        if number == 2 {
            arrive.lock().unwrap().send(()).unwrap();
            // Disconnected when the test ends.
            released.lock().unwrap().recv().unwrap_or_default();
        }
        Reply::Store
    });
    let args = ["--batch-events", "10", "--connections", "1"];
    let mut child = command(&server.url(), &args).arg(&path).spawn().unwrap();
    arrived.recv_timeout(TOO_LONG).unwrap();
    interrupt(&child);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    stderr.read_line(&mut first).unwrap();
    assert!(first.contains("Ctrl-C again ends at once"), "{first}");
    then(&child, &release);
    let mut ended = ended(child);
    stderr.read_to_string(&mut ended.stderr).unwrap();
    (ended, server)
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

#[test]
fn ctrl_c_lets_the_request_in_flight_finish_and_says_how_far_it_got() {
    let (ended, server) = interrupted(|_, release| release.send(()).unwrap());
    assert_eq!(ended.status, Some(130), "{ended:?}");
    assert_eq!(server.store.requests(), 3, "nothing new is sent");
    assert!(
        ended.stderr.starts_with("fast-ingest: stopped by Ctrl-C: "),
        "{ended:?}"
    );
    let how_far = "all lines up to line 30 are accepted (30 events accepted in all); \
                   run the same command again, nothing is stored twice\n";
    assert!(ended.stderr.ends_with(how_far), "{ended:?}");
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let (ended, _server) = interrupted(|child, _| interrupt(child));
    assert_eq!(ended.status, Some(130), "{ended:?}");
    assert!(
        ended.stderr.contains("all lines up to line 20 are accepted"),
        "{ended:?}"
    );
}
