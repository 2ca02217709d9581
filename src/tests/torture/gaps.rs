//! Questions of the flush that a person must answer: asked while events are accepted, answered by `wal adopt`,
//! recorded.

use std::ops::RangeInclusive;

use crate::support::ledger::{Ledger, Outcome};
use crate::torture::logs;
use crate::torture::report::Report;
use crate::torture::rig::Rig;

/// Requests that must be acknowledged while the flush waits for an answer.
const ACKS_MEANWHILE: u64 = 20;
const RECORDED: &str = "SELECT first_sequence, last_sequence FROM wal_gaps ORDER BY id DESC";
const CHECKPOINTS: &str = "SELECT wal_id, flushed_through, token FROM wal_checkpoints ORDER BY wal_id";

/// Waits until the server asks, in `words`, lets it accept events meanwhile, and runs `wal adopt` beside it: with the
/// first sequence to be stored, or by default. Returns the sequences that are recorded as skipped.
#[track_caller]
pub(crate) fn answer(rig: &Rig, words: &str, from: Option<u64>) -> RangeInclusive<u64> {
    rig.server().wait_for_health(words, |health| {
        let reason = health["reason"].as_str().unwrap_or_default();
        health["status"] == "degraded" && reason.contains(words) && reason.contains("wal adopt")
    });
    rig.load().wait_for_acks(ACKS_MEANWHILE);
    let (data_dir, database) = (rig.data_dir(), rig.database());
    let look = || [RECORDED, CHECKPOINTS].map(|sql| database.rows(sql));
    let before = look();
    let from = from.map(|from| from.to_string());
    let mut flags: Vec<&str> = from.iter().flat_map(|from| ["--from", from]).collect();
    let shown = logs::adopt(data_dir, database, &flags);
    assert_eq!(shown.code(), 0, "{shown:?}");
    assert!(shown.stdout.contains("nothing was changed"), "{shown:?}");
    assert_eq!(look(), before, "{shown:?}");
    flags.push("--yes");
    let adopted = logs::adopt(data_dir, database, &flags);
    assert_eq!(adopted.code(), 0, "{adopted:?}");
    rig.wait_until_well();
    let [recorded, _] = look();
    assert_eq!(recorded.len(), before[0].len() + 1, "{adopted:?}");
    let (first, last) = recorded[0].split_once('|').unwrap();
    let named = format!("{first} to {last}");
    assert!(shown.stdout.contains(&named), "{named} is not in {shown:?}");
    first.parse().unwrap()..=last.parse().unwrap()
}

/// Stops a server whose database lacks the events of these gaps, and audits that it lacks no others.
#[track_caller]
pub(crate) fn finish_with(gaps: &[RangeInclusive<u64>], rig: Rig, report: &mut Report) {
    let (mut ledger, database) = rig.finish_unchecked(report);
    let skipped: u64 = gaps.iter().map(|gap| gap.end() + 1 - gap.start()).sum();
    let withheld = ledger.withhold(|sequence| gaps.iter().any(|gap| gap.contains(&sequence)));
    let unknown = unknown_events(&ledger);
    assert!(
        withheld <= skipped && skipped <= withheld + unknown,
        "{skipped} sequences were skipped, {withheld} of them acknowledged; {unknown} events have no outcome"
    );
    let stored = database.events();
    report.add(ledger.audit(&stored));
    let checkpoints = database.rows("SELECT flushed_through FROM wal_checkpoints");
    let through = stored.len() as u64 + skipped;
    assert_eq!(checkpoints, [through.to_string()]);
}

fn unknown_events(ledger: &Ledger) -> u64 {
    let entries = ledger.entries.iter();
    let unknown = entries.filter(|entry| entry.outcome == Outcome::Unknown);
    unknown.map(|entry| u64::from(entry.events)).sum()
}
