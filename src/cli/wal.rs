//! `fast-ingest wal inspect`: the state of the log in a few lines, for a person who has to decide something.

use bytesize::ByteSize;

use super::WalCommand;
use super::args::DatabaseArgs;
use crate::batch::{Sequence, WalId};
use crate::config::{StoreLocation, StoreSettings};
use crate::exit::{ExitStatus, Failure, OrExit, say};
use crate::store::{self, StoreError};
use crate::wal::disk::RealDisk;
use crate::wal::inspect::{Inspection, SegmentReport, Verdict, inspect};

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
    let flushed_through = checkpoint.as_ref().and_then(|read| *read.as_ref().ok()?);
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
    match inspection.verdict {
        Verdict::Refused(_) | Verdict::StoppedLater(_) => Err(Failure::new(
            ExitStatus::Data,
            anyhow::anyhow!("this log is damaged, or written by a newer version"),
        )),
        Verdict::Empty | Verdict::Sound(_) => Ok(()),
    }
}

/// What the database says of this log; `Ok(None)` when it does not know it.
fn read_checkpoint(args: &DatabaseArgs, wal_id: WalId) -> Result<Option<Sequence>, String> {
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
    checkpoint: &Result<Option<Sequence>, String>,
    inspection: &Inspection,
) -> String {
    match checkpoint {
        Err(reason) => format!("unknown: {reason}"),
        Ok(None) => {
            "none: the database does not know this log; a start would store all it holds".to_owned()
        }
        Ok(Some(through)) => {
            let newest = inspection
                .segments
                .iter()
                .filter_map(|segment| segment.last_sequence)
                .max()
                .unwrap_or(0);
            let lag = newest.saturating_sub(*through);
            format!("through sequence {through}; {lag} events to be flushed")
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
