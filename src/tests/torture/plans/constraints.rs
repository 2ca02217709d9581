//! Constraints that users put on `events`: unique indexes, checks, triggers that drop rows or raise errors, detached
//! partitions. Each refuses some events; these are quarantined with the reason, all others are stored, and clients
//! notice nothing.

use std::ops::Range;
use std::thread;

use crate::support::ledger::event_of;
use crate::support::postgres::Cluster;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::plans::legs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Refusals of a leg on one store; the stores take turns.
const FAULTS_A_LEG: u32 = 8;
/// Requests that must be acknowledged between two refusals.
const ACKS_MEANWHILE: u64 = 20;
/// How many requests ahead of a client's stored ones the unique index applies: their events must not be stored when the
/// index is made.
const REQUESTS_AHEAD: u64 = 300;
const FEBRUARY: &str = "FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:00+00')";

/// A constraint that is added and removed again.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    UniqueIndex,
    Check,
    /// A trigger that does this to some rows.
    Trigger(&'static str),
    Detached,
    /// `DETACH … CONCURRENTLY` while a transaction makes it wait.
    DetachPending,
}

/// The constraint, its name, and the code in `quarantine` that shows it.
type Fault = (Refusal, &'static str, &'static str);

const ON_POSTGRES: [Fault; 8] = [
    (Refusal::UniqueIndex, "unique index", "23505"),
    (Refusal::Check, "check", "23514"),
    (Refusal::Trigger("RETURN NULL"), "dropping trigger", "dropped"),
    (Refusal::Trigger("RAISE 'no'"), "raising trigger", "P0001"),
    (
        Refusal::Trigger("RAISE 'no' USING ERRCODE = 'check_violation'"),
        "trigger raising a check",
        "23514",
    ),
    (
        Refusal::Trigger("RAISE 'no' USING ERRCODE = 'FI001'"),
        "trigger with a code of its own",
        "FI001",
    ),
    (Refusal::Detached, "detached partition", "detached"),
    (Refusal::DetachPending, "detach pending", "detached"),
];

const ON_SQLITE: [Fault; 4] = [
    (
        Refusal::UniqueIndex,
        "unique index on SQLite",
        "SQLITE_CONSTRAINT_UNIQUE",
    ),
    (
        Refusal::Trigger("RAISE(ABORT, 'no')"),
        "raising trigger on SQLite",
        "SQLITE_CONSTRAINT_TRIGGER",
    ),
    (
        Refusal::Trigger("RAISE(IGNORE)"),
        "dropping trigger on SQLite",
        "dropped",
    ),
    (
        Refusal::Trigger("json('{')"),
        "failing trigger on SQLite",
        "SQLITE_ERROR",
    ),
];

pub(crate) fn run(random: &mut Random, cycles: u32, report: &mut Report) {
    for (leg, faults) in legs(cycles, FAULTS_A_LEG).enumerate() {
        let dir = tempfile::tempdir().unwrap();
        if leg.is_multiple_of(2) {
            let database = Database::migrated(Cluster::shared());
            let launch = Rig::busy(dir.path(), &database);
            let rig = Rig::start_paced(dir.path(), &database, launch);
            refuse(rig, &database, &ON_POSTGRES, faults, random, report);
        } else {
            let database = Database::embedded(dir.path());
            let launch = Rig::busy(dir.path(), &database);
            let rig = Rig::start_paced(dir.path(), &database, launch);
            refuse(rig, &database, &ON_SQLITE, faults, random, report);
        }
    }
}

/// Every kind of refusal by turns, then the audit: an event that is not in `events` is in `quarantine`.
fn refuse(
    rig: Rig,
    database: &Database,
    kinds: &[Fault],
    faults: Range<u32>,
    random: &mut Random,
    report: &mut Report,
) {
    let mut left = Vec::new();
    for _ in faults {
        rig.load().wait_for_acks(1 + random.below(ACKS_MEANWHILE));
        if left.is_empty() {
            left = kinds.to_vec();
        }
        let index = random.below(left.len() as u64);
        let (refusal, name, code) = left.swap_remove(usize::try_from(index).unwrap());
        let quarantined = count(database, code);
        put_on_and_take_off(refusal, database, || {
            database.wait_for(name, |database| {
                let health = rig.server().health();
                assert_ne!(health["flush"]["state"], "stopped", "{name}: {health}");
                count(database, code) > quarantined
            });
        });
        report.fired(name);
        rig.wait_until_well();
    }
    let (ledger, database) = rig.finish_unchecked(report);
    let mut kept = database.events();
    let stored = kept.len();
    for readable in database.rows("SELECT readable FROM quarantine") {
        let event: serde_json::Value = serde_json::from_str(&readable).unwrap();
        kept.push(event_of(event["user_id"].as_str().unwrap()));
    }
    report.add(ledger.audit(&kept));
    ledger.assert_all_acknowledged();
    let checkpoints = database.rows("SELECT flushed_through FROM wal_checkpoints");
    assert_eq!(checkpoints, [kept.len().to_string()], "{stored} are stored");
}

fn count(database: &Database, code: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM quarantine WHERE code = '{code}'");
    database.rows(&sql)[0].parse().unwrap()
}

fn put_on_and_take_off(refusal: Refusal, database: &Database, wait_until_seen: impl FnOnce()) {
    let is_postgres = matches!(database, Database::Postgres(_));
    match refusal {
        Refusal::UniqueIndex => {
            // On PostgreSQL an index of the whole table must include the time, which no two events share.
            let table = if is_postgres { "events_2026_02" } else { "events" };
            let users = users_to_come(database);
            change(
                database,
                &format!("CREATE UNIQUE INDEX own ON {table} (channel) WHERE user_id IN ({users})"),
            );
            wait_until_seen();
            change(database, "DROP INDEX own");
        }
        Refusal::Check => {
            change(
                database,
                "ALTER TABLE events ADD CONSTRAINT own CHECK (user_id NOT LIKE '%-e29') NOT VALID",
            );
            wait_until_seen();
            change(database, "ALTER TABLE events DROP CONSTRAINT own");
        }
        Refusal::Trigger(act) if is_postgres => {
            change(
                database,
                &format!(
                    "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.user_id LIKE '%-e29' THEN {act}; END IF; RETURN NEW; END $$;
                 CREATE TRIGGER own BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION own()"
                ),
            );
            wait_until_seen();
            change(database, "DROP TRIGGER own ON events; DROP FUNCTION own()");
        }
        Refusal::Trigger(act) => {
            change(
                database,
                &format!(
                    "CREATE TRIGGER own BEFORE INSERT ON events WHEN NEW.user_id LIKE '%-e29' BEGIN SELECT {act}; END"
                ),
            );
            wait_until_seen();
            change(database, "DROP TRIGGER own");
        }
        Refusal::Detached => {
            change(database, "ALTER TABLE events DETACH PARTITION events_2026_02");
            wait_until_seen();
            attach(database);
        }
        Refusal::DetachPending => {
            let held = database.hold("SELECT count(*) FROM events");
            let detaching = thread::spawn({
                let database = database.clone();
                move || {
                    database.execute("ALTER TABLE events DETACH PARTITION events_2026_02 CONCURRENTLY");
                }
            });
            wait_until_seen();
            drop(held);
            detaching.join().unwrap();
            attach(database);
        }
    }
}

/// Changes the schema. Takes PostgreSQL's locks at once and from the parent down, like the flush: otherwise the two
/// would sometimes deadlock.
fn change(database: &Database, sql: &str) {
    match database {
        Database::Postgres(_) => {
            database.execute(&format!("BEGIN; LOCK TABLE events; {sql}; COMMIT"));
        }
        Database::Sqlite(_) => database.execute(sql),
    }
}

/// Attaches the archive again: the rollups count its events, so the audit needs them.
fn attach(database: &Database) {
    change(
        database,
        &format!("ALTER TABLE events ATTACH PARTITION events_2026_02 {FEBRUARY}"),
    );
}

/// Users of one client whose events are not sent yet, as an SQL list.
fn users_to_come(database: &Database) -> String {
    // Users are named c0-r57-e3.
    let start = "substr(user_id, 5)";
    let request = match database {
        Database::Postgres(_) => format!("split_part({start}, '-', 1)::bigint"),
        Database::Sqlite(_) => format!("CAST({start} AS INTEGER)"),
    };
    let sql = format!("SELECT max({request}) FROM events WHERE user_id LIKE 'c0-r%'");
    let last: u64 = database.rows(&sql)[0].parse().unwrap();
    let first = last + REQUESTS_AHEAD;
    let users = (first..first + 20).flat_map(|request| (0..10).map(move |index| format!("'c0-r{request}-e{index}'")));
    users.collect::<Vec<_>>().join(",")
}
