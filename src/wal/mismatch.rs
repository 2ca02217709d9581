//! The mark that log and database were found not to belong together.
//!
//! The mark is a file in the log's directory, so that it survives restarts: a supervisor that starts the server again
//! and again must not get past the refusal when the numbers happen to fit. Only a person removes it, with
//! `fast-ingest wal adopt`.

use std::io::ErrorKind;
use std::path::Path;

use super::directory;
use super::disk::Disk;
use super::error::WalError;
use super::segment;

/// Name of the mark. Its content is the sentence that says what was found.
pub const MISMATCH_NAME: &str = "MISMATCH";
/// A mark that is being written.
const UNFINISHED_NAME: &str = "mismatch.tmp";
/// More than any sentence takes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Reads the mark of a directory; `None` if it has none.
///
/// # Errors
///
/// [`WalError::Io`]: a mark that cannot be read does not count as absent.
pub fn read<D: Disk>(disk: &D, dir: &Path) -> Result<Option<String>, WalError> {
    let path = dir.join(MISMATCH_NAME);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(WalError::io("open", &path, error)),
    };
    let mut bytes = vec![0; TEXT_BYTES_MAX];
    let length = segment::read_full(&file, &mut bytes, 0).map_err(|error| WalError::io("read", &path, error))?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    Ok(Some(text.trim_end().to_owned()))
}

/// Marks a directory. On return the mark survives a power cut.
///
/// # Errors
///
/// [`WalError::Io`]; then there is no mark, or the earlier one.
pub(super) fn write<D: Disk>(disk: &D, dir: &Path, text: &str) -> Result<(), WalError> {
    let path = dir.join(MISMATCH_NAME);
    let line = format!("{text}\n");
    directory::create_durably(disk, dir, UNFINISHED_NAME, &path, line.as_bytes()).map(drop)
}

/// Removes the mark. On return the removal survives a power cut.
///
/// # Errors
///
/// [`WalError::Io`].
pub(super) fn remove<D: Disk>(disk: &D, dir: &Path) -> Result<(), WalError> {
    directory::remove_if_there(disk, &dir.join(MISMATCH_NAME))?;
    directory::sync_dir(disk, dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::disk::RealDisk;

    #[test]
    fn a_mark_is_read_back_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&RealDisk, dir.path()).unwrap(), None);
        for text in ["the database is ahead", "it is another's"] {
            write(&RealDisk, dir.path(), text).unwrap();
            assert_eq!(read(&RealDisk, dir.path()).unwrap().as_deref(), Some(text));
        }
        let names = RealDisk.list(dir.path()).unwrap();
        assert_eq!(names, [MISMATCH_NAME]);
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(MISMATCH_NAME)).unwrap();
        assert!(read(&RealDisk, dir.path()).is_err());
    }
}
