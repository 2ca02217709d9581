//! Commands that ask a database: which one it is, and what they say when it is not there.

use std::fs;
use std::path::Path;

use crate::process::run;

/// Commands that need the embedded database, and would rather not make it.
const ASKING: [&[&str]; 2] = [&["verify"], &["rollup", "rebuild"]];
/// Those that take one that is not there for one that has nothing yet.
const SEEING: [&[&str]; 2] = [&["migrate", "status"], &["migrate", "down", "--all"]];

fn with_data_dir<'a>(command: &[&'a str], data_dir: &'a Path) -> Vec<&'a str> {
    let flag = ["--data-dir", data_dir.to_str().unwrap()];
    [command, &flag].concat()
}

#[test]
fn a_database_that_is_missing_or_cannot_be_opened_is_no_schema_that_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "no directory").unwrap();
    let occupied = dir.path().join("occupied");
    fs::create_dir_all(occupied.join("events.db")).unwrap();
    let garbage = dir.path().join("garbage");
    fs::create_dir(&garbage).unwrap();
    fs::write(garbage.join("events.db"), "no database ".repeat(1000)).unwrap();
    let missing = dir.path().join("missing");

    let all = [ASKING, SEEING].concat();
    let cases: [(&Path, &[&[&str]], &str); 4] = [
        (&missing, &ASKING, "does not exist"),
        (&file.join("below"), &all, "Not a directory"),
        (&occupied, &all, "cannot open"),
        (&garbage, &all, "not a database"),
    ];
    for (data_dir, commands, reason) in cases {
        for command in commands {
            let ended = run(&with_data_dir(command, data_dir));
            let database = data_dir.join("events.db");
            ended.assert_refusal(74, &[reason, database.to_str().unwrap()]);
            assert!(
                !ended.stderr.contains("migrate up"),
                "{command:?}: {ended:?}"
            );
        }
    }
    assert!(!missing.exists(), "nothing is made by asking");
}

#[test]
fn each_command_names_the_database_that_it_asks_and_never_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let commands: [&[&str]; 8] = [
        &["migrate", "up"],
        &["migrate", "status"],
        &["verify"],
        &["rollup", "rebuild"],
        &["wal", "inspect"],
        &["wal", "adopt"],
        &["migrate", "down"],
        &["migrate", "down", "--yes"],
    ];
    let url = "postgres://ann:pass%20word@127.0.0.1:1/shop?application_name=x";
    for command in commands {
        let embedded = run(&with_data_dir(command, dir.path()));
        let named = format!("SQLite {data_dir}/events.db");
        let flags = ["--data-dir", data_dir, "--database-url", url];
        let elsewhere = run(&[command, &flags].concat());
        for (ended, named) in [
            (embedded, &*named),
            (elsewhere, "PostgreSQL database shop at 127.0.0.1:1 as ann"),
        ] {
            let said = format!("{}{}", ended.stdout, ended.stderr);
            let names_it = |line: &str| line.contains("database") && line.ends_with(named);
            assert!(said.lines().any(names_it), "{command:?}: {said}");
            assert!(!said.contains("word"), "{command:?}: {said}");
        }
    }
}
