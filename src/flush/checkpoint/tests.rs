use uuid::Uuid;

use super::*;
use crate::wal::flushed::tests::commits_of;
use crate::wal::id::EventOutcomes;

const FIRST: LifeId = LifeId(Uuid::from_u128(1));
const SECOND: LifeId = LifeId(Uuid::from_u128(2));
const ELSEWHERE: LifeId = LifeId(Uuid::from_u128(3));
const LOG: WalId = WalId(Uuid::nil());
const HOME: DatabaseId = DatabaseId(Uuid::from_u128(8));
const OTHER: DatabaseId = DatabaseId(Uuid::from_u128(9));

fn life_of(sequence: Sequence) -> Option<LifeId> {
    match sequence {
        40..=60 => Some(FIRST),
        61..=100 => Some(SECOND),
        _ => None,
    }
}

/// A log that holds 41 to 100: the first life wrote up to 60, the second, which runs, the rest.
fn judge(commits: &Commits, database: DatabaseId, row: Option<CheckpointRow>) -> Standing {
    let lineage = Lineage {
        wal_id: LOG,
        oldest: 41,
        end: 100,
        life_of: &life_of,
        commits,
    };
    lineage.judge(database, row.as_ref())
}

fn row(flushed_through: Sequence, life: LifeId, token: u128) -> CheckpointRow {
    CheckpointRow {
        flushed_through,
        mark: Mark {
            life,
            token: Uuid::from_u128(token),
        },
        counts: EventOutcomes::default(),
    }
}

/// A commit that was tried, once the one before it was confirmed.
fn commit(confirmed_through: Sequence, row: CheckpointRow) -> Commit {
    Commit {
        database: HOME,
        wal_id: LOG,
        is_known: true,
        confirmed_through,
        through: row.flushed_through,
        mark: row.mark,
    }
}

#[track_caller]
fn assert_mismatch(standing: &Standing, words: &str) {
    let is_it = matches!(standing, Standing::Mismatch(text) if text.contains(words));
    assert!(is_it, "no {words:?} in {standing:?}");
}

#[test]
fn the_first_look_goes_on_from_any_place_that_the_log_knows_by_its_life() {
    let nothing = Commits::default();
    let judge = |through, life| judge(&nothing, HOME, Some(row(through, life, 7)));
    assert_eq!(judge(40, FIRST), Standing::Matches, "just retired");
    assert_eq!(judge(60, FIRST), Standing::Matches);
    assert_eq!(judge(61, SECOND), Standing::Matches);
    assert_eq!(judge(100, SECOND), Standing::Matches);
    for (through, life) in [(60, SECOND), (61, FIRST), (80, ELSEWHERE), (101, SECOND)] {
        assert_mismatch(&judge(through, life), &through.to_string());
    }
    let gap = Question::Gap { first: 39, last: 40 };
    assert_eq!(judge(38, FIRST), Standing::Asks(gap), "in neither");
}

#[test]
fn only_commits_that_were_tried_here_pass_for_this_logs_own() {
    let (stored, tried) = (row(70, SECOND, 1), row(90, SECOND, 2));
    let commits = commits_of([commit(60, stored), commit(70, tried)]);
    let judge = |row: CheckpointRow| judge(&commits, HOME, Some(row));
    assert_eq!(judge(stored), Standing::Matches);
    assert_eq!(judge(tried), Standing::Matches);
    assert_eq!(
        judge(row(65, SECOND, 8)),
        Standing::Matches,
        "a replica took over that lacks more commits than are remembered"
    );
    for forked in [
        row(90, SECOND, 3),
        row(70, SECOND, 3),
        row(80, SECOND, 2),
        row(95, SECOND, 4),
    ] {
        assert_mismatch(&judge(forked), "never tried");
    }
    let copied = judge(row(90, ELSEWHERE, 2));
    assert_mismatch(&copied, "here life");
}

#[test]
fn a_missing_checkpoint_is_made_for_a_new_log_and_asked_for_otherwise() {
    let asks = |stored_through, tried_through| {
        Standing::Asks(Question::NoCheckpoint {
            stored_through,
            tried_through,
        })
    };
    let nothing = Commits::default();
    assert_eq!(judge(&nothing, HOME, None), asks(40, 40), "it was retired once");
    let fresh = Lineage {
        wal_id: LOG,
        oldest: 1,
        end: 100,
        life_of: &life_of,
        commits: &nothing,
    };
    assert_eq!(fresh.judge(HOME, None), Standing::New);
    let tried = Commit {
        is_known: false,
        ..commit(0, row(0, FIRST, 1))
    };
    let commits = commits_of([tried]);
    let tried = Lineage {
        commits: &commits,
        ..fresh
    };
    assert_eq!(tried.judge(HOME, None), Standing::New, "it did not happen");
    let commits = commits_of([commit(70, row(90, SECOND, 2))]);
    assert_eq!(judge(&commits, HOME, None), asks(70, 90));
}

#[test]
fn another_database_is_told_by_its_identity_whatever_it_holds() {
    let stored = row(70, SECOND, 1);
    let commits = commits_of([commit(60, stored), commit(70, row(90, SECOND, 2))]);
    let asks = Standing::Asks(Question::OtherDatabase {
        home: HOME,
        found: OTHER,
        stored_through: 70,
        tried_through: 90,
    });
    assert_eq!(judge(&commits, OTHER, None), asks);
    assert_eq!(judge(&commits, OTHER, Some(stored)), asks);
}
