//! Commands whose stderr cannot be written end as with a working stderr. A server under load is a plan of the fault
//! harness.

use std::fs::{self, File};
use std::io;

use crate::support::process::command::run_with_stderr;
use crate::support::process::run;

/// No server listens there.
const NO_SERVER: &str = "http://127.0.0.1:1";
const NO_DATABASE: &str = "postgres://nobody@127.0.0.1:1/none";

#[test]
fn no_command_notices_that_nobody_reads_what_it_says_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (events, file) = (path("events.jsonl"), path("file"));
    fs::write(&events, "{\"event_name\":\"page_view\"}\nno event\n").unwrap();
    fs::write(&file, "").unwrap();
    let (fresh, absent) = (path("fresh"), path("absent"));
    // Migrated first, so that repeated runs of a command find the same state.
    assert_eq!(run(&["migrate", "up", "--data-dir", &fresh]).code(), 0);
    let commands: &[&[&str]] = &[
        &["health", "--url", NO_SERVER],
        &["metrics", "page_view", "--url", NO_SERVER],
        &["import", &events, "--url", NO_SERVER, "--give-up-after", "1s"],
        &["import", &absent, "--url", NO_SERVER],
        &["migrate", "status", "--database-url", NO_DATABASE],
        &["migrate", "up", "--data-dir", &fresh],
        &["migrate", "status", "--data-dir", &fresh],
        &["verify", "--database-url", NO_DATABASE],
        &["rollup", "rebuild", "--database-url", NO_DATABASE],
        &["wal", "inspect", "--data-dir", &absent],
        &["serve", "--data-dir", &file],
        &["serve", "--data-dir", &fresh, "--port", "0", "--log", "no=filter"],
        &["serve", "--no-such-flag"],
    ];
    for command in commands {
        // Log lines of the libraries too, except where the flag would fail the parse under test.
        let loud: &[&str] = if command.contains(&"--log") {
            &[]
        } else {
            &["--log", "trace"]
        };
        let command = [command, loud].concat();
        let good = run(&command);
        let expected = (good.status.code(), good.stdout);
        assert_ne!(expected.0, Some(101), "{command:?}: {}", good.stderr);

        let full = File::create("/dev/full").unwrap();
        assert_eq!(run_with_stderr(&command, full), expected, "{command:?}, full");
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(run_with_stderr(&command, writer), expected, "{command:?}, no reader");
    }
}
