//! `fast-ingest wal inspect`: the state of the log in a few lines, for a person who has to decide something.

use std::collections::VecDeque;
use std::path::Path;

use bytesize::ByteSize;

use super::WalCommand;
use super::args::DatabaseArgs;
use crate::batch::{CheckpointRow, Sequence, WalId};
use crate::config::{StoreLocation, StoreSettings};
use crate::exit::{ExitStatus, Failure, OrExit, say};
use crate::flush::checkpoint::{Lineage, Standing};
use crate::flush::worker::WHAT_TO_DO;
use crate::store::{self, StoreError};
use crate::wal::directory::{self, Segment};
use crate::wal::disk::RealDisk;
use crate::wal::inspect::{Inspection, SegmentReport, Verdict, inspect};
use crate::wal::mismatch;

/// Runs a log command.
///
/// # Errors
///
/// When the directory cannot be read (74), or a start would be refused (65).
pub fn run(command: WalCommand) -> Result<(), Failure> {
    let WalCommand::Inspect(args) = command;
    let dir = args.wal_dir();
    let inspection = inspect(&RealDisk, &dir).or_exit(ExitStatus::Io)?;
    let wal_id = inspection
        .segments
        .iter()
        .find_map(|segment| segment.header)
        .map(|header| header.wal_id);
    say(format_args!(
        "log         {}{}",
        dir.display(),
        wal_id.map_or_else(String::new, |id| format!("  id {id}"))
    ))?;

    let checkpoint = wal_id.map(|id| read_checkpoint(&args, id));
    let row = checkpoint.as_ref().and_then(|read| *read.as_ref().ok()?);
    let flushed_through = row.map(|row| row.flushed_through);
    print_segments(&inspection.segments, flushed_through)?;
    if let Some(checkpoint) = checkpoint {
        say(format_args!(
            "checkpoint  {}",
            describe_checkpoint(&checkpoint, &inspection)
        ))?;
    }
    say(format_args!(
        "recovery    {}",
        describe_verdict(&inspection.verdict)
    ))?;
    let mismatch = find_mismatch(&dir, &inspection, wal_id, row)?;
    if let Some(text) = &mismatch {
        say(format_args!("lineage     {text}. {WHAT_TO_DO}"))?;
    }
    match inspection.verdict {
        Verdict::Refused(_) | Verdict::StoppedLater(_) => Err(Failure::new(
            ExitStatus::Data,
            anyhow::anyhow!("this log is damaged, or written by a newer version"),
        )),
        Verdict::Empty | Verdict::Sound(_) if mismatch.is_some() => Err(Failure::new(
            ExitStatus::Data,
            anyhow::anyhow!("this log and the database do not belong together"),
        )),
        Verdict::Empty | Verdict::Sound(_) => Ok(()),
    }
}

/// Why the log and the database do not belong together: what a server found, or else what the checkpoint says now.
fn find_mismatch(
    dir: &Path,
    inspection: &Inspection,
    wal_id: Option<WalId>,
    row: Option<CheckpointRow>,
) -> Result<Option<String>, Failure> {
    if let Some(text) = mismatch::read(&RealDisk, dir).or_exit(ExitStatus::Io)? {
        return Ok(Some(text));
    }
    let (Some(wal_id), Some(row)) = (wal_id, row) else {
        return Ok(None);
    };
    let reports = inspection.segments.iter();
    let segments: VecDeque<_> = reports
        .filter_map(|report| report.header.as_ref())
        .map(Segment::active)
        .collect();
    let end =
        newest_sequence(inspection).max(segments.back().map_or(0, |last| last.first_sequence - 1));
    let lineage = Lineage {
        wal_id,
        life: None,
        oldest: segments.front().map_or(1, |first| first.first_sequence),
        end,
        life_of: &|sequence| directory::life_in(&segments, sequence, end),
    };
    Ok(match lineage.judge(&row) {
        Standing::Matches => None,
        Standing::Gap(first, last) => Some(format!(
            "the database has gone back: the events from sequence {first} to {last} are neither in it nor in the log"
        )),
        Standing::Mismatch(text) => Some(text),
    })
}

fn newest_sequence(inspection: &Inspection) -> Sequence {
    let reports = inspection.segments.iter();
    reports
        .filter_map(|segment| segment.last_sequence)
        .max()
        .unwrap_or(0)
}

/// What the database says of this log; `Ok(None)` when it does not know it.
fn read_checkpoint(args: &DatabaseArgs, wal_id: WalId) -> Result<Option<CheckpointRow>, String> {
    let location = args.location().map_err(|error| error.to_string())?;
    if let StoreLocation::Sqlite(path) = &location
        && !path.exists()
    {
        return Err(format!("{} does not exist", path.display()));
    }
    let timeout = std::time::Duration::from_secs(5);
    let settings = StoreSettings {
        location,
        query_connections: 1,
        query_timeout: timeout,
        flush_timeout: timeout,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let read: Result<_, StoreError> = runtime.block_on(async {
        store::open(&settings)?
            .open_sink()
            .await?
            .checkpoint(wal_id)
            .await
    });
    read.map_err(|error| error.to_string())
}

fn print_segments(
    segments: &[SegmentReport],
    flushed_through: Option<Sequence>,
) -> Result<(), Failure> {
    if segments.is_empty() {
        return Ok(());
    }
    say(format_args!(
        "{:<26} {:>14} {:>14} {:>12} {:>10} {:>10}  state",
        "segment", "first", "last", "events", "records", "size"
    ))?;
    for (index, report) in segments.iter().enumerate() {
        let name = report
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let first = report.header.map_or_else(
            || "?".to_owned(),
            |header| header.first_sequence.to_string(),
        );
        let last = report
            .last_sequence
            .map_or_else(|| "-".to_owned(), |last| last.to_string());
        let size = ByteSize::b(report.file_bytes).to_string();
        let state = describe_segment(report, index + 1 == segments.len(), flushed_through);
        say(format_args!(
            "{name:<26} {first:>14} {last:>14} {:>12} {:>10} {size:>10}  {state}",
            report.events, report.records
        ))?;
    }
    Ok(())
}

fn describe_segment(
    report: &SegmentReport,
    is_last: bool,
    flushed_through: Option<Sequence>,
) -> String {
    let place = if is_last { "newest" } else { "sealed" };
    let stored = match (report.last_sequence, flushed_through) {
        (Some(last), Some(through)) if last <= through => ", all in the database",
        (Some(_), Some(through))
            if report
                .header
                .is_some_and(|header| header.first_sequence <= through) =>
        {
            ", partly in the database"
        }
        (Some(_), _) => ", to be flushed",
        (None, _) => ", no events",
    };
    let trouble = report.trouble.as_ref().map_or_else(String::new, |trouble| {
        format!("; at byte {}: {}", trouble.offset, trouble.reason)
    });
    format!("{place}{stored}{trouble}")
}

fn describe_checkpoint(
    checkpoint: &Result<Option<CheckpointRow>, String>,
    inspection: &Inspection,
) -> String {
    match checkpoint {
        Err(reason) => format!("unknown: {reason}"),
        Ok(None) => {
            "none: the database does not know this log; a start would store all it holds".to_owned()
        }
        Ok(Some(row)) => {
            let lag = newest_sequence(inspection).saturating_sub(row.flushed_through);
            let (through, life) = (row.flushed_through, row.mark.life);
            format!(
                "through sequence {through}, written by life {life}; {lag} events to be flushed"
            )
        }
    }
}

fn describe_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Empty => "no log yet; a start would make one".to_owned(),
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
                    "a start would cut a torn tail of {} bytes at byte {} of {} and go on at sequence {next} (or the server is \
                     writing just now)",
                    tail.bytes,
                    tail.offset,
                    tail.segment.display()
                ),
            }
        }
    }
}
