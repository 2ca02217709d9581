//! `fast-ingest wal adopt`: a person's answer to what the flush must not decide by itself.
//!
//! It works beside a running server. The answer is a checkpoint: first written into the log's directory, then put into the database by
//! compare-and-set. A flush that finds there exactly what the directory says goes on from it. If either is missing, nothing has changed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::AdoptArgs;
use super::found::{ANSWERED, Contact, FoundCheckpoint, FoundLog};
use crate::batch::{CheckpointRow, DatabaseId, LifeId, Mark, Sequence, WalId};
use crate::exit::{ExitStatus, Failure, OrExit, say};
use crate::flush::checkpoint::{Question, Standing};
use crate::store::{Adoption, StoreError};
use crate::wal::disk::{Disk, RealDisk};
use crate::wal::flushed::Commit;
use crate::wal::{WalError, adopted, directory, recovery};

/// Held while an answer is given.
const ANSWER_LOCK_NAME: &str = "ADOPT.LOCK";
/// A running server takes an answer up within this: it looks every few seconds, and may be waiting for its database.
const TAKE_UP_TIME: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What would be done.
struct Plan {
    wal_id: WalId,
    seen: Option<CheckpointRow>,
    /// The first sequence to be stored.
    from: Sequence,
    reason: &'static str,
}

/// Says what the flush asks, and answers it.
///
/// # Errors
///
/// 65 for a damaged log, 69 when the database does not answer, 75 when another answer is being given, 78 for an answer that cannot be.
pub(super) fn run(args: &AdoptArgs) -> Result<(), Failure> {
    let dir = args.database.wal_dir();
    let findings = recovery::examine(&RealDisk, &dir).map_err(log_failure)?;
    let log = FoundLog::read(&dir, &findings).map_err(log_failure)?;
    let log = log
        .ok_or_else(|| anyhow!("there is no log in {}", dir.display()))
        .or_exit(ExitStatus::Config)?;
    let _lock = RealDisk
        .try_lock(&dir.join(ANSWER_LOCK_NAME))
        .or_exit(ExitStatus::Io)?
        .ok_or_else(|| anyhow!("another `wal adopt` works on this log"))
        .or_exit(ExitStatus::Locked)?;
    let mut contact = Contact::make(&args.database)
        .map_err(anyhow::Error::msg)
        .or_exit(ExitStatus::Unavailable)?;
    let found = contact
        .checkpoint(log.wal_id_in_databases())
        .map_err(store_failure)?;
    say(format_args!(
        "log         {}  id {}",
        dir.display(),
        log.wal_id_in_databases()
    ))?;
    print_lives(&log)?;
    if contact.has_answer_of(&log).map_err(store_failure)? {
        return say(format_args!("answered    {ANSWERED}"));
    }
    let standing = log.judge(|lineage| lineage.judge(found.database, found.row.as_ref()));
    let Some(plan) = plan(&log, &found, &standing, args.from).or_exit(ExitStatus::Config)? else {
        return say(format_args!(
            "lineage     log and database fit together; nothing to answer"
        ));
    };
    let adoption = plan.adoption(&log);
    print_plan(&plan, &adoption, &log, found.database)?;
    if !args.yes {
        return say(format_args!(
            "            nothing was changed; the same command with --yes does it"
        ));
    }
    carry_out(&log, &mut contact, found.database, &adoption)
}

/// Decides where the flush shall go on; `None` where there is nothing to decide.
fn plan(
    log: &FoundLog,
    found: &FoundCheckpoint,
    standing: &Standing,
    from: Option<Sequence>,
) -> anyhow::Result<Option<Plan>> {
    let (oldest, end, seen) = (log.oldest(), log.end, found.row);
    let stored_through = seen.map_or(0, |row| row.flushed_through);
    let as_it_is = |from, reason| Plan {
        wal_id: log.wal_id_in_databases(),
        seen,
        from,
        reason,
    };
    let by_default = match standing {
        Standing::Matches | Standing::New if log.mismatch.is_none() => {
            anyhow::ensure!(
                from.is_none(),
                "log and database fit together, so --from would skip events that can be stored; nothing was changed"
            );
            return Ok(None);
        }
        Standing::Matches => as_it_is(stored_through + 1, "log and database fit together again"),
        Standing::New => as_it_is(1, "log and database fit together again"),
        Standing::Asks(Question::Gap { last, .. }) => as_it_is(
            last + 1,
            "the database has gone back behind what the log holds",
        ),
        Standing::Asks(Question::NoCheckpoint { stored_through }) => as_it_is(
            (stored_through + 1).max(oldest),
            "the checkpoint was missing",
        ),
        Standing::Asks(Question::OtherDatabase { stored_through, .. }) => {
            match seen.map(|row| log.judge(|lineage| lineage.judge_row(found.database, &row))) {
                None => as_it_is(
                    (stored_through + 1).max(oldest),
                    "they are in another database",
                ),
                Some(Standing::Mismatch(text)) => return own_log(log, &text, from).map(Some),
                // It was flushed here before.
                Some(_) => as_it_is(
                    (seen.map_or(0, |row| row.flushed_through) + 1).max(oldest),
                    "they are in another database",
                ),
            }
        }
        Standing::Mismatch(text) => return own_log(log, text, from).map(Some),
    };
    let from = from.unwrap_or(by_default.from);
    check_bounds(from, oldest, end)?;
    anyhow::ensure!(
        from > stored_through,
        "this database has the log through sequence {stored_through}: --from must be behind that, or events would be stored twice"
    );
    Ok(Some(Plan { from, ..by_default }))
}

/// The log becomes one of its own, under a new name.
fn own_log(log: &FoundLog, text: &str, from: Option<Sequence>) -> anyhow::Result<Plan> {
    let Some(from) = from else {
        let flushed = log.commits.home().map_or(0, |home| home.confirmed_through);
        anyhow::bail!(
            "{text}. Events that only this copy has can be stored as those of a log of its own: --from SEQUENCE says which is the first \
             of them. This copy knows that everything through sequence {flushed} is stored; what it took in before it was copied \
             may have been stored by the other one since, what its later lives (above) wrote was not"
        );
    };
    check_bounds(from, log.oldest(), log.end)?;
    Ok(Plan {
        wal_id: WalId(uuid::Uuid::new_v4()),
        seen: None,
        from,
        reason: "they are the other copy's",
    })
}

fn check_bounds(from: Sequence, oldest: Sequence, end: Sequence) -> anyhow::Result<()> {
    anyhow::ensure!(
        (oldest..=end + 1).contains(&from),
        "--from must be from {oldest}, the oldest sequence that the log has, to {}, the next one",
        end + 1
    );
    Ok(())
}

impl Plan {
    fn adoption(&self, log: &FoundLog) -> Adoption {
        let through = self.from - 1;
        let life = directory::life_in(&log.segments, through, log.end);
        Adoption {
            wal_id: self.wal_id,
            seen: self.seen,
            through,
            mark: Mark::of_new_commit(life.unwrap_or(LifeId::UNKNOWN)),
            reason: self.reason,
        }
    }
}

fn carry_out(
    log: &FoundLog,
    contact: &mut Contact,
    database: DatabaseId,
    adoption: &Adoption,
) -> Result<(), Failure> {
    let commit = Commit {
        database,
        wal_id: adoption.wal_id,
        is_known: true,
        confirmed_through: adoption.through,
        through: adoption.through,
        mark: adoption.mark,
    };
    adopted::write(&RealDisk, &log.dir, log.wal_id, commit).map_err(log_failure)?;
    contact.adopt(adoption).map_err(store_failure)?;
    let is_running = RealDisk
        .try_lock(&log.dir.join(directory::LOCK_NAME))
        .or_exit(ExitStatus::Io)?
        .is_none();
    if !is_running {
        return say(format_args!(
            "done        the next start of the server goes on from there"
        ));
    }
    let given = Instant::now();
    let is_taken_up = || -> Result<bool, WalError> {
        let waiting = adopted::read(&RealDisk, &log.dir, log.wal_id)?;
        Ok(waiting != Some(commit))
    };
    while !is_taken_up().map_err(log_failure)? {
        if given.elapsed() > TAKE_UP_TIME {
            return Err(Failure::new(
                ExitStatus::Unavailable,
                anyhow!(
                    "the answer is given, but the server has not taken it up within {TAKE_UP_TIME:?}; it does once it reaches the database"
                ),
            ));
        }
        thread::sleep(LOOK_AGAIN);
    }
    say(format_args!("done        the server goes on from there"))
}

/// Which life wrote what, for whoever has to tell a copy's own events.
fn print_lives(log: &FoundLog) -> Result<(), Failure> {
    let mut segments = log.segments.iter().peekable();
    while let Some(segment) = segments.next() {
        let first = segment.first_sequence;
        while segments.next_if(|next| next.life == segment.life).is_some() {}
        let last = segments
            .peek()
            .map_or(log.end, |next| next.first_sequence - 1);
        if last >= first {
            say(format_args!(
                "life        {} wrote {first} to {last}",
                segment.life
            ))?;
        }
    }
    Ok(())
}

fn print_plan(
    plan: &Plan,
    adoption: &Adoption,
    log: &FoundLog,
    database: DatabaseId,
) -> Result<(), Failure> {
    let (from, first) = (plan.from, adoption.seen_through() + 1);
    if plan.wal_id != log.wal_id_in_databases() {
        say(format_args!(
            "new log     {}: the events from sequence {from} on become those of a log of its own",
            plan.wal_id
        ))?;
    }
    if adoption.skipped() > 0 {
        say(format_args!(
            "skips       {} sequences, {first} to {}, in database {database}: {}",
            adoption.skipped(),
            from - 1,
            plan.reason
        ))?;
    }
    let waiting = (log.end + 1).saturating_sub(from);
    say(format_args!(
        "goes on     at sequence {from}; {waiting} events to be flushed"
    ))
}

fn log_failure(error: WalError) -> Failure {
    let status = match error {
        WalError::Io { .. } => ExitStatus::Io,
        WalError::Locked { .. } => ExitStatus::Locked,
        WalError::NewerVersion { .. } => ExitStatus::Config,
        WalError::Damage { .. } => ExitStatus::Data,
    };
    Failure::new(status, error)
}

fn store_failure(error: StoreError) -> Failure {
    match error {
        StoreError::Schema(_) => Failure::new(ExitStatus::Config, error),
        StoreError::CheckpointMoved => Failure::new(
            ExitStatus::Unavailable,
            anyhow!("the checkpoint was moved meanwhile, so nothing was changed; look again"),
        ),
        other => Failure::new(ExitStatus::Unavailable, other),
    }
}
