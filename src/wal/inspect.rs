//! Looks at a log without changing it and without its lock: what is in each segment, and what a start would do about
//! it.

use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};
use super::error::WalError;
use super::recovery::{self, Findings};
use super::segment::{self, RecordScanner, ScanError};
use super::tail::TailKind;
use super::{directory, segment::SegmentHeader};
use crate::wal::id::Sequence;

/// What was found in a log's directory.
#[derive(Debug)]
pub struct Inspection {
    /// Every segment, oldest first.
    pub segments: Vec<SegmentReport>,
    /// What a start would do.
    pub verdict: Verdict,
}

/// One segment, read from end to end.
#[derive(Debug)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// Length of the file.
    pub file_bytes: u64,
    /// Its header, unless that is unreadable.
    pub header: Option<SegmentHeader>,
    /// Valid records, markers not counted.
    pub records: u64,
    /// Events in these records.
    pub events: u64,
    /// Sequence of the last event.
    pub last_sequence: Option<Sequence>,
    /// Where and why reading stopped before the file's end.
    pub trouble: Option<Trouble>,
}

/// Where and why a segment cannot be read further.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// Byte offset in the file.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

/// What a start would do.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing: there is no log yet.
    Empty,
    /// Serve.
    Sound(Findings),
    /// Refuse.
    Refused(WalError),
    /// Serve, because a start reads only the newest segment, and stop when the flush reaches this damage.
    StoppedLater(WalError),
}

/// Reads the whole log.
///
/// # Errors
///
/// Only when the directory itself cannot be read; whatever is wrong with a file is part of the report.
pub fn inspect<D: Disk>(disk: &D, dir: &Path) -> Result<Inspection, WalError> {
    let mut segments = Vec::new();
    let mut damage = None;
    let sequences = directory::list_segments(disk, dir)?;
    for (index, &first_sequence) in sequences.iter().enumerate() {
        let path = segment::path_of(dir, first_sequence);
        let report = read_segment(disk, &path)?;
        if report.header.is_none() && !directory::list_segments(disk, dir)?.contains(&first_sequence) {
            // A server has removed the segment meanwhile.
            continue;
        }
        // The last segment may end with a torn tail: that is for recovery to judge, below.
        let is_last = index + 1 == sequences.len();
        if let (false, None, Some(trouble), Some(header)) = (is_last, &damage, &report.trouble, &report.header) {
            let sequence = report.last_sequence.map_or(header.first_sequence, |last| last + 1);
            damage = Some(WalError::damage(
                &path,
                trouble.offset,
                sequence,
                trouble.reason.clone(),
            ));
        }
        segments.push(report);
    }
    let found = recovery::examine_live(disk, dir);
    // Zeros that were written ahead are no trouble.
    if let (Ok(Findings { tail: Some(tail), .. }), Some(last)) = (&found, segments.last_mut())
        && tail.kind == TailKind::Blank
    {
        last.trouble = None;
    }
    let verdict = match (found, damage) {
        (Err(error), _) => Verdict::Refused(error),
        (Ok(_), Some(error)) => Verdict::StoppedLater(error),
        (Ok(findings), None) if findings.wal_id.is_none() => Verdict::Empty,
        (Ok(findings), None) => Verdict::Sound(findings),
    };
    Ok(Inspection { segments, verdict })
}

fn read_segment<D: Disk>(disk: &D, path: &Path) -> Result<SegmentReport, WalError> {
    let mut report = SegmentReport {
        path: path.to_owned(),
        file_bytes: 0,
        header: None,
        records: 0,
        events: 0,
        last_sequence: None,
        trouble: None,
    };
    let (file, header) = match segment::open(disk, path) {
        Ok(opened) => opened,
        Err(error) => {
            report.trouble = Some(Trouble {
                offset: 0,
                reason: error.to_string(),
            });
            return Ok(report);
        }
    };
    report.header = Some(header);
    report.file_bytes = file.bytes_len().map_err(|error| WalError::io("measure", path, error))?;
    let mut scanner = RecordScanner::new(file, &header, report.file_bytes);
    let walked = scanner.walk(|record| {
        if record.header.event_count > 0 {
            report.records += 1;
            report.events += u64::from(record.header.event_count);
            report.last_sequence = Some(record.header.last_sequence());
        }
    });
    report.trouble = walked.err().map(|trouble| Trouble {
        offset: scanner.offset(),
        reason: match trouble {
            ScanError::Invalid(reason) => reason.to_owned(),
            ScanError::Io(error) => error.to_string(),
        },
    });
    Ok(report)
}
