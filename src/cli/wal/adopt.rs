//! `fast-ingest wal adopt`: a person decides what the flush must not decide by itself.
//!
//! It works beside a running server. The answer is a checkpoint: first written into the log's directory, then put into
//! the database by compare-and-set. A flush that finds the same checkpoint in the database as in the directory
//! continues from it. If only one of them has it, nothing has changed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::super::serve::log_failure;
use super::AdoptArgs;
use super::found::{ANSWERED, Contact, FoundCheckpoint, FoundLog, store_failure};
use crate::flush::checkpoint::{Question, Standing};
use crate::store::Adoption;
use crate::support::exit::{ExitStatus, Failure, OrExit, say};
use crate::support::words::plural;
use crate::wal::disk::{Disk, RealDisk};
use crate::wal::flushed::Commit;
use crate::wal::id::{CheckpointRow, DatabaseId, LifeId, Mark, Sequence, WalId};
use crate::wal::{WalError, adopted, directory};

/// Name of the lock file that is held while an answer is carried out.
const ANSWER_LOCK_NAME: &str = "ADOPT.LOCK";
/// How long to wait until a running server acts on the answer: it looks every few seconds, and may be waiting for its
/// database.
const TAKE_UP_TIME: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The recorded reason for skipping events that another database has.
const ELSEWHERE: &str = "they are in another database";

/// What the command does, or without `--yes` would do.
struct Plan {
    wal_id: WalId,
    seen: Option<CheckpointRow>,
    /// The first sequence to be stored.
    from: Sequence,
    reason: &'static str,
}

/// Prints what the flush asks and, with `--yes`, answers it.
///
/// # Errors
///
/// 65 for a damaged log, 69 when the database does not answer, 75 when another `wal adopt` is at work, 78 for an answer
/// that is not possible.
pub(super) fn run(args: &AdoptArgs) -> Result<(), Failure> {
    let dir = args.database.wal_dir();
    super::say_database(&args.database)?;
    let mut contact = Contact::make(&args.database)
        .map_err(anyhow::Error::msg)
        .or_exit(ExitStatus::Unavailable)?;
    if FoundLog::examine(&dir).map_err(log_failure)?.is_none() {
        let none = anyhow!("there is no log in {}", dir.display());
        return Err(Failure::new(ExitStatus::Config, none));
    }
    let Some((log, found)) = contact.look_at_both(&dir)? else {
        return say(format_args!(
            "lineage     a server is storing this log's events; nothing to answer"
        ));
    };
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
    let is_in_use = log.is_in_use().or_exit(ExitStatus::Io)?;
    if matches!(standing, Standing::Mismatch(_)) && is_in_use && log.mismatch.is_none() {
        return say(format_args!(
            "lineage     the running server has not found the mismatch yet; run the command again once it has"
        ));
    }
    let Some(plan) = plan(&log, &found, &standing, args.from).or_exit(ExitStatus::Config)? else {
        return say(format_args!(
            "lineage     log and database fit together; nothing to answer"
        ));
    };
    let adoption = plan.adoption(&log);
    print_plan(&plan, &adoption, &log, found.database, &standing)?;
    if !args.yes {
        return say(format_args!(
            "            nothing was changed; to do it, run the same command with --yes"
        ));
    }
    let lock_path = dir.join(ANSWER_LOCK_NAME);
    let _lock = RealDisk
        .try_lock(&lock_path)
        .or_exit(ExitStatus::Io)?
        .ok_or_else(|| anyhow!("another `wal adopt` is at work on this log; nothing was changed"))
        .or_exit(ExitStatus::Locked)?;
    give_to_owner(&lock_path, &dir);
    carry_out(&log, &mut contact, found.database, &adoption)
}

/// Gives a file to the owner of the log's directory: the server must be able to use files that, say, root has made.
fn give_to_owner(path: &Path, dir: &Path) {
    let given = fs::metadata(dir).and_then(|dir| chown(path, Some(dir.uid()), Some(dir.gid())));
    if let Err(error) = given {
        tracing::warn!("cannot give {} to the owner of its directory: {error}", path.display());
    }
}

/// Decides from where the flush shall continue; `None` if there is nothing to decide.
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
        Standing::Matches | Standing::New => as_it_is(stored_through + 1, "log and database fit together again"),
        Standing::Mismatch(text) => return own_log(log, text, from).map(Some),
        Standing::Asks(Question::Gap { last, .. }) => as_it_is(
            last + 1,
            "the database has gone back to before the oldest event of the log",
        ),
        Standing::Asks(
            question @ (Question::NoCheckpoint {
                stored_through,
                tried_through,
            }
            | Question::OtherDatabase {
                stored_through,
                tried_through,
                ..
            }),
        ) => match &seen {
            None => {
                check_doubt(question, from, *stored_through, *tried_through)?;
                let reason = match question {
                    Question::OtherDatabase { .. } => ELSEWHERE,
                    _ => "the checkpoint was missing",
                };
                as_it_is((stored_through + 1).max(oldest), reason)
            }
            // The log was flushed into this database before. A schema that was undone and created again has a row too,
            // but without the mark.
            Some(row) => {
                let is_forgotten = row.mark == Mark::default() && row.flushed_through <= end;
                let judged = log.judge(|lineage| lineage.judge_row(found.database, row));
                if let (false, Standing::Mismatch(text)) = (is_forgotten, judged) {
                    return own_log(log, &text, from).map(Some);
                }
                as_it_is((row.flushed_through + 1).max(oldest), ELSEWHERE)
            }
        },
    };
    let from = from.unwrap_or(by_default.from);
    check_bounds(from, oldest, end)?;
    anyhow::ensure!(
        from > stored_through,
        "this database has the log through sequence {stored_through}: --from must be greater, or events would be stored twice"
    );
    Ok(Some(Plan { from, ..by_default }))
}

/// If it is unknown whether the last commit took place, requires `--from`: a person must have looked.
fn check_doubt(
    question: &Question,
    from: Option<Sequence>,
    stored_through: Sequence,
    tried_through: Sequence,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        from.is_some() || tried_through == stored_through,
        "{question}. It is unknown whether the last commit took place: look whether its events are stored, then give --from {} if they \
         are, or --from {} if not",
        tried_through + 1,
        stored_through + 1
    );
    Ok(())
}

/// A plan by which the log becomes one of its own, under a new id.
fn own_log(log: &FoundLog, text: &str, from: Option<Sequence>) -> anyhow::Result<Plan> {
    let Some(from) = from else {
        let flushed = log.commits.confirmed_through();
        anyhow::bail!(
            "{text}. Events that only this copy has can be stored as those of a log of its own: give the first of them with --from \
             SEQUENCE. This copy knows that everything through sequence {flushed} is stored. Events that it accepted before it was \
             copied may have been stored by the other copy since; events that its later lives (above) wrote were not"
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

fn carry_out(log: &FoundLog, contact: &mut Contact, database: DatabaseId, adoption: &Adoption) -> Result<(), Failure> {
    let commit = Commit {
        database,
        wal_id: adoption.wal_id,
        is_known: true,
        confirmed_through: adoption.through,
        through: adoption.through,
        mark: adoption.mark,
    };
    adopted::write(&RealDisk, &log.dir, log.wal_id, commit).map_err(log_failure)?;
    give_to_owner(&log.dir.join(adopted::NAME), &log.dir);
    contact.adopt(adoption).map_err(store_failure)?;
    if !log.is_in_use().or_exit(ExitStatus::Io)? {
        return say(format_args!(
            "done        the server goes on from there at its next start"
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
                    "the answer is given, but the server has not acted on it within {TAKE_UP_TIME:?}; it will once it reaches the database"
                ),
            ));
        }
        thread::sleep(LOOK_AGAIN);
    }
    say(format_args!("done        the server goes on from there"))
}

/// Prints which life wrote which sequences, so that a person can tell which events only this copy has.
fn print_lives(log: &FoundLog) -> Result<(), Failure> {
    let mut segments = log.segments.iter().peekable();
    while let Some(segment) = segments.next() {
        let first = segment.first_sequence;
        while segments.next_if(|next| next.life == segment.life).is_some() {}
        let last = segments.peek().map_or(log.end, |next| next.first_sequence - 1);
        if last >= first {
            say(format_args!("life        {} wrote {first} to {last}", segment.life))?;
        }
    }
    Ok(())
}

fn print_plan(
    plan: &Plan,
    adoption: &Adoption,
    log: &FoundLog,
    database: DatabaseId,
    standing: &Standing,
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
            "skips       {}, {first} to {}, in database {database}: {}",
            plural(adoption.skipped(), "sequence"),
            from - 1,
            plan.reason
        ))?;
    }
    if let Standing::Asks(Question::OtherDatabase {
        home, stored_through, ..
    }) = standing
        && from <= *stored_through
    {
        say(format_args!(
            "repeats     {from} to {stored_through}, which database {home} has too"
        ))?;
    }
    let waiting = (log.end + 1).saturating_sub(from);
    say(format_args!(
        "goes on     at sequence {from}; {} to be flushed",
        plural(waiting, "event")
    ))
}
