//! The README's quick start, pasted into a shell word for word.

use std::process::Command;

use serde_json::Value;

use crate::support::process::Launch;
use crate::support::process::stored::Database;

const README: &str = include_str!("../../../README.md");

/// The first code block of this language after these words.
fn block(behind: &str, language: &str) -> &'static str {
    let (_, rest) = README.split_once(behind).expect("the README says so");
    let (_, rest) = rest.split_once(&format!("```{language}\n")).expect("a block");
    rest.split_once("```").expect("its end").0
}

#[test]
fn the_pasted_quick_start_shows_its_events_at_once() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("SKIPPED: no curl");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Without `wait=applied` this flush would come too late.
    let launch = Launch::new(dir.path(), &Database::embedded(dir.path()));
    let server = launch.with("--flush-interval", "1s").start();
    let pasted = block("in another terminal:", "sh").replace("http://localhost:8080", &server.url());
    let shell = Command::new("sh").args(["-c", &pasted]).output().unwrap();
    let said = String::from_utf8(shell.stdout).unwrap();
    // Answers end with a line feed: each begins on a line of its own, and so does the prompt after the last one.
    assert_eq!(said.matches("\nHTTP/1.1 200 OK").count(), 1, "{said}");
    assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    assert!(said.ends_with("}\n"), "{said}");
    let last = said.lines().last().unwrap();
    let answer: Value = serde_json::from_str(last).unwrap();
    let promised: Value = serde_json::from_str(block("The query counts them:", "json")).unwrap();
    assert_eq!(answer["total_events"], promised["total_events"]);
    assert_eq!(answer["groups"], promised["groups"]);
}
