use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use std::path::PathBuf;

use super::*;
use crate::cli::{Cli, Command};
use crate::http::settings::{host, host_name};
use crate::store::settings::StoreLocation;
use crate::support::settings::{bytes, count, count_between};
use crate::wal::settings::sync_mode;

fn resolve(flags: &[&str]) -> Result<Settings, ConfigError> {
    let argv = ["fast-ingest", "serve"].iter().chain(flags);
    match Cli::try_parse_from(argv).expect("flags parse").command {
        Command::Serve(args) => args.resolve(),
        other => panic!("not serve: {other:?}"),
    }
}

fn refused(flags: &[&str]) -> String {
    resolve(flags).expect_err("must be refused").0
}

#[test]
fn defaults_do_not_contradict_each_other() {
    let settings = resolve(&["--data-dir", "/somewhere"]).unwrap();
    assert_eq!(settings.wal.dir, PathBuf::from("/somewhere/wal"));
    assert_eq!(
        settings.store.location,
        StoreLocation::Sqlite(PathBuf::from("/somewhere/events.db"))
    );
    assert_eq!(settings.wal.sync, SyncMode::Group);
}

#[test]
fn a_url_chooses_postgres_and_an_empty_one_does_not() {
    let chosen = |url| resolve(&["--database-url", url]).map(|settings| settings.store.location);
    assert_eq!(
        chosen("postgres://h/d"),
        Ok(StoreLocation::Postgres("postgres://h/d".to_owned()))
    );
    assert!(matches!(chosen(""), Ok(StoreLocation::Sqlite(_))));
    assert!(refused(&["--database-url", "mysql://h/d"]).contains("postgres://"));
}

#[test]
fn an_empty_port_is_an_unset_one() {
    assert_eq!(resolve(&["--port", ""]).unwrap().http.port, 8080);
    assert_eq!(resolve(&["--port", "0"]).unwrap().http.port, 0);
}

#[test]
fn a_host_may_be_an_address_a_bracketed_one_or_a_name() {
    for (text, address) in [
        ("", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("[::]", "::"),
        ("localhost", "127.0.0.1"),
    ] {
        assert_eq!(host(text), Ok(address.parse().unwrap()), "{text}");
    }
    for text in ["[localhost]", "[::", "no such name"] {
        assert!(host(text).unwrap_err().contains("IP address"), "{text}");
    }
}

#[test]
fn contradictions_are_refused_with_the_flag_to_change() {
    assert!(refused(&["--inflight-bytes-max", "8MiB"]).contains("--inflight-bytes-max"));
    assert!(resolve(&["--inflight-bytes-max", "9MiB"]).is_ok());
    assert!(refused(&["--wal-segment-bytes", "1000B"]).contains("--wal-segment-bytes"));
    assert!(refused(&["--wal-bytes-max", "81MiB"]).contains("--wal-bytes-max"));
    assert!(resolve(&["--wal-bytes-max", "82MiB"]).is_ok());
    for flag in ["--flush-timeout", "--idle-timeout", "--drain-timeout"] {
        let expected = format!("{flag} must be at most 1day");
        assert_eq!(refused(&[flag, "30days"]), expected);
    }
    assert!(refused(&["--sync", "interval=9999years"]).contains("--sync interval must be at most 1day"));
    for slots in ["0", "1000000000000", "9999999999999999999"] {
        assert!(refused(&["--ring-slots", slots]).contains("from 1 to 1048576"));
    }
    assert!(refused(&["--connections-max", "0"]).contains("--connections-max"));
    assert!(refused(&["--flush-rows-max", "0"]).contains("--flush-rows-max"));
    assert!(refused(&["--rollup-pairs-max", "0"]).contains("--rollup-pairs-max"));
    assert!(refused(&["--rollup-interval", "2days"]).contains("1day"));
}

/// Command lines up to each flag that takes a value: the command, its required positional arguments, the flag.
fn flags_with_values(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    let needed = command.get_positionals().filter(|arg| arg.is_required_set());
    let needed: Vec<String> = needed.map(|arg| arg.get_id().to_string()).collect();
    for arg in command.get_arguments() {
        if let (Some(flag), true) = (arg.get_long(), arg.get_action().takes_values()) {
            let flag = format!("--{flag}");
            found.push([path, &needed, &[flag]].concat());
        }
    }
    for sub in command.get_subcommands() {
        let path = [path, &[sub.get_name().to_owned()]].concat();
        flags_with_values(sub, &path, found);
    }
}

#[test]
fn every_flag_answers_a_value_that_it_cannot_read_with_what_is_allowed() {
    let mut lines = Vec::new();
    flags_with_values(&Cli::command(), &["fast-ingest".to_owned()], &mut lines);
    let mut refusing = 0;
    for line in lines {
        for value in ["lots of it", "-1", "99999999999999999999999"] {
            let flag = line.last().unwrap().clone();
            let mut typed = line.clone();
            *typed.last_mut().unwrap() = format!("{flag}={value}");
            let Err(error) = Cli::try_parse_from(typed) else {
                continue;
            };
            if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
                continue;
            }
            refusing += 1;
            let text = error.to_string();
            let is_named = text.contains(&flag) && text.contains(value);
            let says = ["for example", "must be", "makes sense", "possible values"];
            let is_helpful = says.iter().any(|words| text.contains(words));
            // Texts of the parsers of the standard library and of crates.
            let foreign = ["invalid digit", "couldn't parse", "SI unit", "at 0", "time unit needed"];
            let is_ours = !foreign.iter().any(|words| text.contains(words));
            assert!(is_named && is_helpful && is_ours, "{text}");
        }
    }
    assert!(refusing > 60, "only {refusing} values were refused");
}

#[test]
fn a_name_of_a_host_is_kept_as_requests_write_it() {
    for (text, expected) in [
        ("stats.example.org.", "stats.example.org"),
        ("fd00::1", "[fd00::1]"),
        ("[FD00:0::1]", "[fd00::1]"),
        ("10.0.0.5", "10.0.0.5"),
        ("*", "*"),
    ] {
        assert_eq!(host_name(text).as_deref(), Ok(expected), "{text}");
    }
    for text in ["stats.example:443", "[::1]:8080", "http://stats.example", "", "[stats]"] {
        assert!(
            host_name(text).unwrap_err().contains("without scheme and port"),
            "{text}"
        );
    }
}

#[test]
fn a_size_or_a_number_that_cannot_be_read_says_what_is_allowed() {
    let refused = |flag: &str, value: &str| {
        let typed = ["fast-ingest", "serve", flag, value];
        Cli::try_parse_from(typed).unwrap_err().to_string()
    };
    let text = refused("--wal-bytes-max", "lots");
    let expected =
        "invalid value 'lots' for '--wal-bytes-max <BYTES>': expected a number of bytes, KiB, MiB or GiB, for example";
    assert!(text.contains(expected), "{text}");
    assert!(refused("--ring-slots", "4,096").contains("digits alone"));
    assert_eq!(count_between::<1, 256, u16>("256"), Ok(256));
    assert!(count_between::<1, 256, u16>("257").unwrap_err().contains("at most 256"));
    assert!(count_between::<1, 256, u16>("0").unwrap_err().contains("at least 1"));
    assert!(count::<u32>("4294967296").is_err());
    assert_eq!(bytes("1.5GiB"), Ok(3_u64 << 29));
}

#[test]
fn sync_mode_and_times_explain_themselves() {
    assert_eq!(
        sync_mode("interval=200ms"),
        Ok(SyncMode::Interval(Duration::from_millis(200)))
    );
    assert!(sync_mode("never").unwrap_err().contains("interval=200ms"));
    assert!(sync_mode("interval=0s").unwrap_err().contains("at least 1ms"));
    assert!(positive_duration("10").unwrap_err().contains("10s"));
}
