//! A log's directory as a person handles it: copied, inspected, refused.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::support::process::stored::Database;
use crate::support::process::{Ended, run};
use crate::support::random::Random;
use crate::torture::rig::Rig;

/// Exit status when a log is damaged or does not belong to its database (`sysexits`).
pub(crate) const DATA: i32 = 65;
/// Exit status of an answer that cannot be given as it is (`sysexits`).
pub(crate) const CONFIG: i32 = 78;
/// The inspection's words for damage that a start does not find.
pub(crate) const FOUND_LATER: &str = "a start would serve until";
/// Words in every message about a mismatch.
const MISMATCHED: &str = " has stored log ";
/// Words in a refusal for a mismatch.
const MISMATCH: &str = "do not belong together";
/// Words before the next sequence in an inspection.
const NEXT: &str = "go on at sequence ";

/// Copies the log of a data directory.
pub(crate) fn copy(data_dir: &Path, to: &Path) {
    let (from, to, names) = begin_copy(data_dir, to);
    for name in names {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Copies a log file by file, in any order, as `cp -r` does with the log of a running server: files removed meanwhile
/// are not copied. Calls `meanwhile` at one moment of the copy.
pub(crate) fn copy_running(data_dir: &Path, to: &Path, random: &mut Random, meanwhile: impl FnOnce()) {
    let (from, to, mut names) = begin_copy(data_dir, to);
    random.shuffle(&mut names);
    let copy = |name: OsString| match fs::copy(from.join(&name), to.join(&name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        copied => {
            copied.unwrap();
        }
    };
    let moment = random.below(names.len() as u64);
    let later = names.split_off(usize::try_from(moment).unwrap());
    names.into_iter().for_each(copy);
    meanwhile();
    later.into_iter().for_each(copy);
}

/// Makes the directory of a copy. Returns source, destination, and the names of the files.
fn begin_copy(data_dir: &Path, to: &Path) -> (PathBuf, PathBuf, Vec<OsString>) {
    let (from, to) = (data_dir.join("wal"), to.join("wal"));
    fs::create_dir(&to).unwrap();
    let files = fs::read_dir(&from).unwrap();
    let names = files.map(|file| file.unwrap().file_name()).collect();
    (from, to, names)
}

/// The oldest sequence still in a log that may be in use, by the names of its segments.
pub(crate) fn oldest_of(data_dir: &Path) -> u64 {
    let files = fs::read_dir(data_dir.join("wal")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let sequences = names.filter_map(|name| name.strip_suffix(".wal")?.parse().ok());
    sequences.min().expect("there is always a segment")
}

/// Removes the log of a data directory.
pub(crate) fn remove(data_dir: &Path) {
    fs::remove_dir_all(data_dir.join("wal")).unwrap();
}

/// The last sequence of a log that no server uses; an error when it is damaged.
pub(crate) fn end_of(data_dir: &Path) -> Result<u64, Ended> {
    let inspected = inspect(data_dir, None);
    let next = inspected.stdout.split_once(NEXT).map(|(_, rest)| {
        let digits = rest.find(|c: char| !c.is_ascii_digit());
        rest[..digits.unwrap_or(rest.len())].parse::<u64>().unwrap()
    });
    match next {
        Some(next) => Ok(next - 1),
        None => {
            assert_eq!(inspected.code(), DATA, "{inspected:?}");
            Err(inspected)
        }
    }
}

/// Asserts that a rig's server refuses events and gives the reason in every place, and that `wal inspect` agrees.
#[track_caller]
pub(crate) fn assert_refused(rig: &Rig) {
    let answer = rig.load().probe("").unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["code"], "log_mismatch", "{answer:?}");
    // The gate closes a moment before the reason is recorded.
    rig.server().wait_for_health("refused in words", |health| {
        let reason = health["reason"].as_str().unwrap_or_default();
        reason.contains(MISMATCH) && reason.contains(MISMATCHED)
    });
    let health = rig.server().request("GET", "/health", "");
    assert_eq!(health.status, 503, "{health:?}");
    assert_eq!(health.json()["status"], "unavailable", "{health:?}");
    let found = rig.data_dir().join("wal/MISMATCH");
    assert!(found.exists(), "nothing is kept over restarts");
    let inspected = inspect(rig.data_dir(), Some(rig.database()));
    assert_eq!(inspected.code(), DATA, "{inspected:?}");
    assert!(inspected.stdout.contains(MISMATCHED), "{inspected:?}");
}

/// `fast-ingest wal adopt`: says what it would do; with `--yes`, does it.
pub(crate) fn adopt(data_dir: &Path, database: &Database, flags: &[&str]) -> Ended {
    let mut adopt = vec!["wal", "adopt", "--data-dir", data_dir.to_str().unwrap()];
    if let Database::Postgres(url) = database {
        adopt.extend(["--database-url", url]);
    }
    adopt.extend(flags);
    run(&adopt)
}

/// `fast-ingest wal inspect`, with or without its database.
pub(crate) fn inspect(data_dir: &Path, database: Option<&Database>) -> Ended {
    let inspect = ["wal", "inspect", "--data-dir", data_dir.to_str().unwrap()];
    match database {
        Some(Database::Postgres(url)) => run(&[&inspect[..], &["--database-url", url]].concat()),
        Some(Database::Sqlite(_)) | None => run(&inspect),
    }
}
