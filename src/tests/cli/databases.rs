//! Commands that ask a database: which database they use, and what they say when it does not exist.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::process::command::run_with;
use crate::support::process::{Ended, run};

/// Commands that need the embedded database, but must not create it.
const ASKING: [&[&str]; 2] = [&["verify"], &["rollup", "rebuild"]];
/// Commands that treat a missing database as an empty one.
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
            assert!(!ended.stderr.contains("migrate up"), "{command:?}: {ended:?}");
        }
    }
    assert!(!missing.exists(), "the command made a database");
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

#[test]
fn settings_of_an_env_file_are_taken_where_it_is_named_and_nothing_else_says_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (file, elsewhere) = (path(".env.dev"), path("elsewhere"));
    let in_file = path("in-file");
    let text = format!(
        "# of this project\r\n  # and indented\r\nexport FAST_INGEST_DATA_DIR = '{in_file}'\r\nDATABASE_URL=\r\nNOT_OURS=x\r\n"
    );
    fs::write(&file, text).unwrap();
    let names = |ended: &Ended, database: &str| {
        let said = ended.stderr.lines().any(|line| line.ends_with(database));
        assert!(said, "no {database} in {ended:?}");
    };
    let (of_file, of_flag) = (
        format!("SQLite {in_file}/events.db"),
        format!("SQLite {elsewhere}/events.db"),
    );
    names(&run(&["--env-file", &file, "migrate", "status"]), &of_file);
    names(&run(&["migrate", "status", "--env-file", &file]), &of_file);
    names(
        &run(&["migrate", "status", "--env-file", &file, "--data-dir", &elsewhere]),
        &of_flag,
    );
    let variables = [("FAST_INGEST_DATA_DIR", &*elsewhere)];
    names(
        &run_with(&["migrate", "status", "--env-file", &file], &variables),
        &of_flag,
    );
    let empty = [("FAST_INGEST_DATA_DIR", "")];
    names(&run_with(&["migrate", "status", "--env-file", &file], &empty), &of_file);

    // The URL between single quotes is taken literally, and no help text shows the password in it.
    let url = "postgres://ann:p$a ss#1@127.0.0.1:1/shop";
    fs::write(&file, format!("DATABASE_URL='{url}'\n")).unwrap();
    let shop = "PostgreSQL database shop at 127.0.0.1:1 as ann";
    names(&run(&["migrate", "status", "--env-file", &file]), shop);
    let help = run(&["serve", "--help", "--env-file", &file]);
    assert!(help.code() == 0 && !help.stdout.contains("127.0.0.1:1"), "{help:?}");

    for (text, code, reason) in [
        ("PORT=1\nsecret\n", 78, "line 2: has no `=`"),
        ("FAST_INGEST_PROT=1", 78, "FAST_INGEST_PROT is not a setting"),
        ("PORT=many", 2, "invalid value 'many' for '--port <PORT>'"),
    ] {
        fs::write(&file, text).unwrap();
        let ended = run(&["serve", "--env-file", &file]);
        ended.assert_refusal(code, &[reason]);
        assert!(!ended.stderr.contains("secret"), "{ended:?}");
    }
    run(&["serve", "--env-file", &path("missing")]).assert_refusal(74, &["--env-file", "missing"]);
}

#[test]
fn make_hands_the_env_file_on_where_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let makefile = concat!(env!("CARGO_MANIFEST_DIR"), "/Makefile");
    let shown = |target: &str| {
        let mut make = Command::new("make");
        make.args(["-n", "-f", makefile, target]).current_dir(dir.path());
        String::from_utf8(make.output().unwrap().stdout).unwrap()
    };
    let targets = ["run", "migrate-up", "migrate-down", "verify", "inspect"];
    for target in targets {
        assert!(!shown(target).contains("--env-file"), "{target}");
    }
    fs::write(dir.path().join(".env.dev"), "PORT=1").unwrap();
    for target in targets {
        assert!(shown(target).contains(" -- --env-file .env.dev "), "{target}");
    }
}
