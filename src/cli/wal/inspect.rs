//! `fast-ingest wal inspect`: the state of the log in a few lines, for a person who has to decide something.

use bytesize::ByteSize;

use super::super::args::DatabaseArgs;
use super::super::serve::log_failure;
use super::found::{ANSWERED, Contact, FoundCheckpoint, FoundLog};
use crate::flush::checkpoint::{HOW_TO_ANSWER, Standing, WHAT_TO_DO};
use crate::support::exit::{ExitStatus, Failure, OrExit, say};
use crate::support::words::plural;
use crate::wal::disk::RealDisk;
use crate::wal::id::Sequence;
use crate::wal::inspect::{Inspection, SegmentReport, Verdict, inspect};

/// Prints the segments of the directory, the checkpoint, and what a start would do.
///
/// # Errors
///
/// When the directory cannot be read (74), or a start would be refused (65).
pub(super) fn run(args: &DatabaseArgs) -> Result<(), Failure> {
    let dir = args.wal_dir();
    super::say_database(args)?;
    let inspection = inspect(&RealDisk, &dir).or_exit(ExitStatus::Io)?;
    let log = match &inspection.verdict {
        Verdict::Sound(findings) => FoundLog::read(&dir, findings).map_err(log_failure)?,
        _ => None,
    };
    let wal_id = inspection
        .segments
        .iter()
        .find_map(|segment| segment.header)
        .map(|header| log.as_ref().map_or(header.wal_id, FoundLog::wal_id_in_databases));
    say(format_args!(
        "log         {}{}",
        dir.display(),
        wal_id.map_or_else(String::new, |id| format!("  id {id}"))
    ))?;

    let mut is_answered = false;
    let mut trouble = log.as_ref().and_then(describe_recorded_mismatch);
    let checkpoint = wal_id.map(|id| {
        let mut contact = Contact::make(args)?;
        let answered = log.as_ref().map(|log| contact.has_answer_of(log));
        is_answered = answered.is_some_and(|answered| answered.unwrap_or(false));
        if trouble.is_none() && log.is_some() {
            // Read again, because a server may have moved both while the segments were read.
            let both = contact.look_at_both(&dir).map_err(|failure| failure.to_string())?;
            trouble = both.and_then(|(log, found)| describe_lineage(&log, &found));
        }
        let found = contact.checkpoint(id);
        found.map_err(|error| error.to_string())
    });
    let found = checkpoint.as_ref().and_then(|read| read.as_ref().ok());
    let trouble = trouble.filter(|_| !is_answered);
    let is_refused = trouble.as_ref().is_some_and(|trouble| trouble.is_mismatch);
    let home = log.as_ref().and_then(|log| log.commits.home());
    let row = found.and_then(|found| found.row);
    let done = if is_refused {
        // The checkpoint counts the events of another copy.
        home.map(|home| Done {
            through: home.confirmed_through,
            has_skipped: false,
        })
    } else {
        row.map(|row| Done {
            through: row.flushed_through,
            has_skipped: row.counts.skipped > 0,
        })
    };
    print_segments(&inspection.segments, done, is_refused)?;
    if let Some(checkpoint) = &checkpoint {
        let newest = (!is_refused).then(|| newest_sequence(&inspection));
        say(format_args!("checkpoint  {}", describe_checkpoint(checkpoint, newest)))?;
    }
    if let Some(home) = home {
        say(format_args!(
            "flushed     through sequence {} at least, into database {}",
            home.confirmed_through, home.database
        ))?;
    }
    say(format_args!("recovery    {}", describe_verdict(&inspection.verdict)))?;
    if let Some(Trouble { text, .. }) = &trouble {
        say(format_args!("lineage     {text}"))?;
    }
    if is_answered {
        say(format_args!("answered    {ANSWERED}"))?;
    }
    end(&inspection.verdict, trouble.is_some())
}

fn end(verdict: &Verdict, has_trouble: bool) -> Result<(), Failure> {
    match verdict {
        Verdict::Refused(_) | Verdict::StoppedLater(_) => Err(Failure::new(
            ExitStatus::Data,
            anyhow::anyhow!("this log is damaged, or written by a newer version; see the line `recovery`"),
        )),
        Verdict::Empty | Verdict::Sound(_) if has_trouble => Err(Failure::new(
            ExitStatus::Data,
            anyhow::anyhow!("this log and the database do not fit together; see the line `lineage`"),
        )),
        Verdict::Empty | Verdict::Sound(_) => Ok(()),
    }
}

/// The part of a log that needs no flush any more.
#[derive(Clone, Copy)]
struct Done {
    /// The last sequence of that part.
    through: Sequence,
    /// Whether some of it was skipped, on a person's word; the checkpoint does not say which.
    has_skipped: bool,
}

/// Why the log and the database do not fit together.
struct Trouble {
    text: String,
    /// Whether the log is refused; otherwise the flush waits for a person's answer.
    is_mismatch: bool,
}

impl Trouble {
    fn mismatch(text: &str) -> Self {
        Self {
            text: format!("{text}. {WHAT_TO_DO}"),
            is_mismatch: true,
        }
    }
}

/// The mismatch that a server has recorded.
fn describe_recorded_mismatch(log: &FoundLog) -> Option<Trouble> {
    log.mismatch.as_deref().map(Trouble::mismatch)
}

/// The trouble that the present checkpoint shows.
fn describe_lineage(log: &FoundLog, found: &FoundCheckpoint) -> Option<Trouble> {
    match log.judge(|lineage| lineage.judge(found.database, found.row.as_ref())) {
        Standing::Matches | Standing::New => None,
        Standing::Asks(question) => Some(Trouble {
            text: format!("{question}. {HOW_TO_ANSWER}"),
            is_mismatch: false,
        }),
        Standing::Mismatch(text) => Some(Trouble::mismatch(&text)),
    }
}

fn newest_sequence(inspection: &Inspection) -> Sequence {
    let reports = inspection.segments.iter();
    reports.filter_map(|segment| segment.last_sequence).max().unwrap_or(0)
}

fn print_segments(segments: &[SegmentReport], done: Option<Done>, is_refused: bool) -> Result<(), Failure> {
    if segments.is_empty() {
        return Ok(());
    }
    say(format_args!(
        "{:<26} {:>14} {:>14} {:>12} {:>10} {:>10}  state",
        "segment", "first", "last", "events", "records", "size"
    ))?;
    for (index, report) in segments.iter().enumerate() {
        let name = report.path.file_name().unwrap_or_default().to_string_lossy();
        let first = report
            .header
            .map_or_else(|| "?".to_owned(), |header| header.first_sequence.to_string());
        let last = report
            .last_sequence
            .map_or_else(|| "-".to_owned(), |last| last.to_string());
        let size = ByteSize::b(report.file_bytes).to_string();
        let is_last = index + 1 == segments.len();
        let state = describe_segment(report, is_last, done, is_refused);
        say(format_args!(
            "{name:<26} {first:>14} {last:>14} {:>12} {:>10} {size:>10}  {state}",
            report.events, report.records
        ))?;
    }
    Ok(())
}

fn describe_segment(report: &SegmentReport, is_last: bool, done: Option<Done>, is_refused: bool) -> String {
    let place = if is_last { "newest" } else { "sealed" };
    let begins_by = |through| {
        let header = report.header;
        header.is_some_and(|header| header.first_sequence <= through)
    };
    let stored = match (report.last_sequence, done) {
        (Some(last), Some(done)) if last <= done.through => match done.has_skipped {
            true => ", all in the database or skipped",
            false => ", all in the database",
        },
        (Some(_), Some(done)) if begins_by(done.through) => match done.has_skipped {
            true => ", partly in the database or skipped",
            false => ", partly in the database",
        },
        (Some(_), _) if is_refused => ", waits for a person's word",
        (Some(_), _) => ", to be flushed",
        (None, _) => ", no events",
    };
    let trouble = report.trouble.as_ref().map_or_else(String::new, |trouble| {
        format!("; at byte {}: {}", trouble.offset, trouble.reason)
    });
    format!("{place}{stored}{trouble}")
}

/// The checkpoint, and how much is still to be flushed of a log that ends at `newest`, which is `None` for a refused
/// log.
fn describe_checkpoint(checkpoint: &Result<FoundCheckpoint, String>, newest: Option<Sequence>) -> String {
    match checkpoint {
        Err(reason) => format!("unknown: {reason}"),
        Ok(FoundCheckpoint { database, row: None }) => {
            format!("none: database {database} does not know this log")
        }
        Ok(FoundCheckpoint {
            database,
            row: Some(row),
        }) => {
            let (through, life) = (row.flushed_through, row.mark.life);
            let lag = newest.map(|newest| newest.saturating_sub(through));
            let rest = lag.map_or_else(
                || "not by this copy of the log".to_owned(),
                |lag| format!("{} to be flushed", plural(lag, "event")),
            );
            format!("through sequence {through}, written by life {life}, in database {database}; {rest}")
        }
    }
}

fn describe_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Empty => "no log yet; a start would create one".to_owned(),
        Verdict::Refused(error) => format!("refused: {error}"),
        Verdict::StoppedLater(error) => format!(
            "a start would serve until the flush reaches the damage, and then stop (only the newest segment is read at start): \
             {error}"
        ),
        Verdict::Sound(findings) => {
            let next = findings.next_sequence;
            match findings.torn_tail() {
                None => format!("sound; a start would go on at sequence {next}"),
                Some(tail) => format!(
                    "a start would cut {tail}, and go on at sequence {next}. A crash in the middle of a write leaves such a tail, and its \
                     events were never answered; damage to the newest events looks the same (so does a server that is writing now)"
                ),
            }
        }
    }
}
