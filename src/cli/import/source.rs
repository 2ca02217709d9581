//! Sources of lines: files, compressed or not, and standard input.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::anyhow;

use super::compression;
use crate::support::exit::{ExitStatus, Failure};

/// Longest line that is kept. The largest event that a server accepts is 256 KiB by default.
pub(super) const LINE_BYTES_MAX: usize = 1024 * 1024;

const READ_BYTES: usize = 128 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file of the command line, as found when the run began, or standard input.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Name in messages.
    pub(super) name: String,
    /// Size on disk; `None` for standard input and pipes.
    pub(super) bytes: Option<u64>,
    /// Bytes read so far, before decompression. Written by the reader's thread.
    pub(super) bytes_read: Arc<AtomicU64>,
    path: PathBuf,
}

/// Checks all files before the first event is sent, so that a misspelt last one is not noticed only an hour later.
///
/// # Errors
///
/// When a file cannot be read; the error names the first one.
pub(super) fn check(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        let error = anyhow!("standard input (`-`) can be read only once");
        return Err(Failure::new(ExitStatus::Config, error));
    }
    let check_one = |path: &PathBuf| {
        let bytes = size(path).map_err(|error| {
            let error = anyhow!("{}: {error}; nothing was sent", path.display());
            Failure::new(ExitStatus::Io, error)
        })?;
        let name = if is_stdin(path) {
            "stdin".to_owned()
        } else {
            path.display().to_string()
        };
        Ok(Source {
            name,
            bytes,
            bytes_read: Arc::default(),
            path: path.clone(),
        })
    };
    paths.iter().map(check_one).collect()
}

fn size(path: &Path) -> io::Result<Option<u64>> {
    if is_stdin(path) {
        return Ok(None);
    }
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        // Opening a pipe and closing it again would end its writer.
        return Ok(None);
    }
    File::open(path)?;
    Ok(Some(metadata.len()))
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Source {
    /// Opens the source for reading, decompressed.
    pub(super) fn open(&self) -> io::Result<Lines<Box<dyn BufRead>>> {
        let extension = self.path.extension().map(OsStr::to_ascii_lowercase);
        let extension = extension.as_ref().and_then(|extension| extension.to_str());
        Ok(Lines::new(if is_stdin(&self.path) {
            compression::text_of(self.counted(io::stdin()), None)?
        } else {
            compression::text_of(self.counted(File::open(&self.path)?), extension)?
        }))
    }

    fn counted<R: Read>(&self, inner: R) -> BufReader<Counted<R>> {
        let bytes_read = Arc::clone(&self.bytes_read);
        BufReader::with_capacity(READ_BYTES, Counted { inner, bytes_read })
    }
}

/// A reader that counts its bytes.
struct Counted<R> {
    inner: R,
    bytes_read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Splits text into lines without ever holding more than [`LINE_BYTES_MAX`] of one.
pub(super) struct Lines<R> {
    text: R,
    number: u64,
}

/// What [`Lines::next`] found; the text of the line is in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Text,
    /// A line that is longer than [`LINE_BYTES_MAX`], and was skipped.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// Lines of `text`.
    pub(super) fn new(text: R) -> Self {
        Self { text, number: 0 }
    }

    /// Number of the last line that was read, from 1; 0 at the start.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line into `buffer`, replacing its content; `None` at the end.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Line>> {
        buffer.clear();
        // Enough for the longest line with its end, so that a longer line can be recognised.
        let room = LINE_BYTES_MAX + BYTE_ORDER_MARK.len() + b"\r\n".len();
        let read = self.text.by_ref().take(room as u64).read_until(b'\n', buffer)?;
        if read == 0 {
            return Ok(None);
        }
        if buffer.last() == Some(&b'\n') {
            buffer.pop();
            if buffer.last() == Some(&b'\r') {
                buffer.pop();
            }
        } else if read == room {
            self.text.skip_until(b'\n')?;
        }
        if self.number == 0 && buffer.starts_with(BYTE_ORDER_MARK) {
            buffer.drain(..BYTE_ORDER_MARK.len());
        }
        self.number += 1;
        let too_long = buffer.len() > LINE_BYTES_MAX;
        Ok(Some(if too_long { Line::TooLong } else { Line::Text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &[u8]) -> Vec<(u64, String)> {
        // A tiny buffer, so that lines cross its borders.
        let mut lines = Lines::new(BufReader::with_capacity(3, text));
        let mut buffer = Vec::new();
        let mut found = Vec::new();
        while let Some(line) = lines.next(&mut buffer).unwrap() {
            assert_eq!(line, Line::Text);
            found.push((lines.number(), String::from_utf8(buffer.clone()).unwrap()));
        }
        found
    }

    fn numbered(lines: &[&str]) -> Vec<(u64, String)> {
        (1..).zip(lines.iter().map(|line| (*line).to_owned())).collect()
    }

    #[test]
    fn lines_end_in_lf_or_crlf_and_the_last_one_in_nothing() {
        assert_eq!(split(b"one\ntwo\r\n\nfour"), numbered(&["one", "two", "", "four"]));
        assert_eq!(split(b"one\n"), numbered(&["one"]));
        assert_eq!(split(b""), []);
    }

    #[test]
    fn a_carriage_return_within_a_line_stays() {
        assert_eq!(split(b"a\rb\r\r\nc\r"), numbered(&["a\rb\r", "c\r"]));
    }

    #[test]
    fn a_byte_order_mark_counts_only_at_the_start() {
        assert_eq!(
            split(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo"),
            numbered(&["one", "\u{feff}two"])
        );
    }

    #[test]
    fn a_line_too_long_is_passed_over_and_counted() {
        let longest = "x".repeat(LINE_BYTES_MAX);
        let text = format!("\u{feff}{longest}\r\n{longest}y\nlast");
        let mut lines = Lines::new(text.as_bytes());
        let mut buffer = Vec::new();
        let mut found = Vec::new();
        while let Some(line) = lines.next(&mut buffer).unwrap() {
            found.push((lines.number(), line));
        }
        assert_eq!(found, [(1, Line::Text), (2, Line::TooLong), (3, Line::Text)]);
        assert_eq!(buffer, b"");
        let endless = vec![b'x'; 3 * LINE_BYTES_MAX];
        let mut lines = Lines::new(endless.as_slice());
        assert_eq!(lines.next(&mut buffer).unwrap(), Some(Line::TooLong));
        assert!(buffer.len() <= LINE_BYTES_MAX + 5);
        assert_eq!(lines.next(&mut buffer).unwrap(), None);
    }

    #[test]
    fn a_missing_file_and_a_directory_are_found_before_the_start() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("missing.ndjson"), dir.path().to_owned()] {
            let failure = check(std::slice::from_ref(&path)).unwrap_err();
            assert_eq!(failure.status, ExitStatus::Io);
            assert!(
                failure.to_string().starts_with(&path.display().to_string()),
                "{failure}"
            );
        }
        assert!(check(&["-".into(), "-".into()]).is_err());
    }
}
