//! The reader: a thread that turns files into batches, a few ahead of the workers.
//!
//! It is a thread because decompression and JSON need CPU time, and because reading standard input can block for ever.
//! Nothing joins the thread; it ends when the other side of the channel is gone.

use std::io;
use std::thread;

use anyhow::anyhow;
use tokio::sync::mpsc::Sender;

use super::batch::{Batch, BatchLimits};
use super::source::{Line, Source};
use crate::support::exit::{ExitStatus, Failure};

/// What workers take from the channel.
#[derive(Debug)]
pub(super) enum Input {
    /// Lines to send.
    Batch(Batch),
    /// A file is read to its end; all its lines are in batches before this.
    FileRead {
        /// Index of the file on the command line.
        file: usize,
        /// Number of its lines.
        lines: u64,
    },
    /// A file cannot be read any further. This is the last input.
    Failed(InputFailure),
}

/// Why a file cannot be read any further.
#[derive(Debug)]
pub(super) struct InputFailure {
    pub(super) failure: Failure,
    /// Whether the content of the file is bad, so that reading it again would fail again; otherwise the system failed.
    pub(super) is_content: bool,
}

/// Starts the thread. Batches come in the order of files and lines.
pub(super) fn spawn(sources: Vec<Source>, limits: BatchLimits, sender: Sender<Input>) -> io::Result<()> {
    let read = move || {
        for (file, source) in sources.iter().enumerate() {
            let input = match read_file(file, source, limits, &sender) {
                Ok(Some(lines)) => Input::FileRead { file, lines },
                Ok(None) => return,
                Err(failure) => Input::Failed(failure),
            };
            let failed = matches!(input, Input::Failed(_));
            if sender.blocking_send(input).is_err() || failed {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("import-reader".to_owned())
        .spawn(read)
        .map(drop)
}

/// Reads one file. Returns the number of its lines, or `None` if the workers are gone.
fn read_file(
    file: usize,
    source: &Source,
    limits: BatchLimits,
    sender: &Sender<Input>,
) -> Result<Option<u64>, InputFailure> {
    let failed = |after: u64, error: &io::Error| {
        // Errors of the decompression have no error number of the system.
        let is_content = error.raw_os_error().is_none();
        let error = anyhow!("{}: cannot be read after line {after}: {error}", source.name);
        InputFailure {
            failure: Failure::new(ExitStatus::Io, error),
            is_content,
        }
    };
    let mut lines = source.open().map_err(|error| failed(0, &error))?;
    let mut text = Vec::new();
    let mut batch = Batch::behind(file, 0);
    loop {
        let next = lines.next(&mut text);
        let full = matches!(next, Ok(Some(_))) && batch.is_full(limits, text.len());
        // Lines that were read before an error are still sent.
        let last = !matches!(next, Ok(Some(_)));
        if (full || last) && !batch.is_empty() {
            let line = batch.last_line;
            let filled = std::mem::replace(&mut batch, Batch::behind(file, line));
            if sender.blocking_send(Input::Batch(filled)).is_err() {
                return Ok(None);
            }
        }
        match next {
            Ok(Some(Line::Text)) => batch.push(limits, &text),
            Ok(Some(Line::TooLong)) => batch.push_too_long(),
            Ok(None) => return Ok(Some(lines.number())),
            Err(error) => return Err(failed(lines.number(), &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::cli::import::source;

    const LIMITS: BatchLimits = BatchLimits {
        events: 2,
        bytes: 10_000,
        event_ids: true,
    };

    fn read(paths: &[&Path]) -> Vec<Input> {
        let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
        let (sender, mut inputs) = tokio::sync::mpsc::channel(1);
        spawn(source::check(&paths).unwrap(), LIMITS, sender).unwrap();
        std::iter::from_fn(|| inputs.blocking_recv()).collect()
    }

    #[test]
    fn batches_cover_each_file_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "{}\n\n{}\n\nx\n").unwrap();
        std::fs::write(&two, "\n").unwrap();
        let seen: Vec<_> = read(&[&one, &two])
            .into_iter()
            .map(|input| match input {
                Input::Batch(batch) => (batch.file, batch.first_line, batch.last_line, batch.events.len()),
                Input::FileRead { file, lines } => (file, lines, lines, usize::MAX),
                Input::Failed(failure) => panic!("{failure:?}"),
            })
            .collect();
        let end = usize::MAX;
        assert_eq!(
            seen,
            [(0, 1, 3, 2), (0, 4, 5, 0), (0, 5, 5, end), (1, 1, 1, 0), (1, 1, 1, end)]
        );
    }

    #[test]
    fn what_stands_before_a_damaged_place_is_sent_and_the_place_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.ndjson.gz");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gzip.write_all(&b"{}\n".repeat(3)).unwrap();
        let mut bytes = gzip.finish().unwrap();
        bytes.truncate(bytes.len() - 4);
        std::fs::write(&path, bytes).unwrap();
        let inputs = read(&[&path]);
        let events: usize = inputs
            .iter()
            .map(|input| {
                if let Input::Batch(batch) = input {
                    batch.events.len()
                } else {
                    0
                }
            })
            .sum();
        assert_eq!(events, 3);
        let Some(Input::Failed(failure)) = inputs.last() else {
            panic!("{inputs:?}")
        };
        let InputFailure { failure, is_content } = failure;
        assert_eq!((failure.status, *is_content), (ExitStatus::Io, true));
        assert!(failure.to_string().contains("after line 3"), "{failure}");
    }
}
