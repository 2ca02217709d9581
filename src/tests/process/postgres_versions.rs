//! One story on each release of PostgreSQL that `make postgres-versions` put under `target/postgres`: the schema is
//! made, events come in, the server is killed, duplicates are left out, metrics and rollups are right. `make torture
//! POSTGRES=17` runs its plans on one of them.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::support::postgres::{Cluster, as_unprivileged_user, release_in};
use crate::support::process::stored::Database;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

#[test]
fn the_story_of_postgresql_16() {
    story_on(16);
}

#[test]
fn the_story_of_postgresql_17() {
    story_on(17);
}

#[test]
fn the_story_of_postgresql_18() {
    story_on(18);
}

#[track_caller]
fn story_on(release: u32) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = root.join(format!("target/postgres/{release}/bin"));
    if let Err(reason) = look_for(release, &programs) {
        // Written past the capture of a passing test's output, so that the skip is seen and counted.
        let line = format!("postgres-versions: skipped, PostgreSQL {release} {reason}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let cluster = Cluster::start_of(&programs, false);
    let database = Database::migrated(&cluster);
    let version = database.rows("SELECT current_setting('server_version_num')::int / 10000");
    assert_eq!(version, [release.to_string()]);
    story(&database);
    database.migrate(&["down", "--all", "--yes"]);
    database.migrate(&["up"]);
}

fn look_for(release: u32, programs: &Path) -> Result<(), String> {
    if release_in(programs) != Some(release) {
        return Err("is not in target/postgres: see `make postgres-versions`".to_owned());
    }
    let mut command = as_unprivileged_user();
    command.arg(programs.join("postgres")).arg("--version");
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status.expect("`env` or its like starts").success() {
        true => Ok(()),
        false => Err(format!("in {} cannot be run by another user", programs.display())),
    }
}

#[track_caller]
fn story(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let mut report = Report::new("story");
    let launch = Rig::busy(dir.path(), database);
    let mut rig = Rig::start(dir.path(), database, launch.clone());
    rig.load().wait_for_acks(50);
    rig.take_server(&mut report).kill();
    report.fired("kill");
    rig.restart();
    rig.finish(&mut report);
    report.assert_held();

    let before: u64 = database.rows("SELECT count(*) FROM events")[0].parse().unwrap();
    let server = launch.start();
    let event = |id: &str| {
        format!(
            r#"{{"event_name":"view","channel":"web","user_id":"ann","timestamp":"2026-02-01T09:30:00Z","event_id":"{id}"}}"#
        )
    };
    for ids in [["one", "two"], ["two", "three"]] {
        let bulk = format!("[{},{}]", event(ids[0]), event(ids[1]));
        let answer = server.request("POST", "/events/bulk?wait=applied", &bulk);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(server.health()["events"]["duplicates"], 1);
    for parameters in ["", "&group_by=day,channel&tz=Asia/Kathmandu", "&exact=true"] {
        let question = format!("/metrics?event_name=*&from=2020-01-01T00:00:00Z&to=2030-01-01T00:00:00Z{parameters}");
        let answer = server.request("GET", &question, "");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["total_events"], before + 3, "{answer:?}");
    }
    server.stop();
    database.assert_rollups_are_right();
}
