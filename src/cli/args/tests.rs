use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

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
    assert_eq!(resolve(&["--port", ""]).unwrap().http.address.port(), 8080);
    assert_eq!(resolve(&["--port", "0"]).unwrap().http.address.port(), 0);
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
    assert!(refused(&["--flush-timeout", "30days"]).contains("1day"));
    assert!(refused(&["--connections-max", "0"]).contains("--connections-max"));
    assert!(refused(&["--flush-rows-max", "0"]).contains("--flush-rows-max"));
    assert!(refused(&["--rollup-pairs-max", "0"]).contains("--rollup-pairs-max"));
    assert!(refused(&["--rollup-interval", "2days"]).contains("1day"));
}

#[test]
fn sync_mode_and_times_explain_themselves() {
    assert_eq!(
        sync_mode("interval=200ms"),
        Ok(SyncMode::Interval(Duration::from_millis(200)))
    );
    assert!(sync_mode("never").unwrap_err().contains("interval=200ms"));
    assert!(
        sync_mode("interval=0s")
            .unwrap_err()
            .contains("longer than 0")
    );
    assert!(positive_duration("10").unwrap_err().contains("10s"));
}
