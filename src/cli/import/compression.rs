//! Decompression of input files. The first bytes tell gzip, zstd and plain text apart, whatever the file's name is.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::GzDecoder;

const READ_BYTES: usize = 128 * 1024;
/// Number of first bytes that decide the format.
const MAGIC_BYTES: usize = 4;

/// How the bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Zstd,
}

impl Format {
    /// The format by the first bytes. If these match no format, the extension decides: a file named `.gz` or `.zst`
    /// must be damaged or empty then, and its decoder reports that.
    fn tell(start: &[u8], extension: Option<&str>) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable frame, which parallel compressors put in front.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Self::Zstd,
            _ => match extension {
                Some("gz") => Self::Gzip,
                Some("zst" | "zstd") => Self::Zstd,
                _ => Self::Plain,
            },
        }
    }
}

/// The decompressed text of `input`; `extension` is that of the file's name, in lower case.
pub(super) fn text_of(mut input: impl BufRead + 'static, extension: Option<&str>) -> io::Result<Box<dyn BufRead>> {
    let mut start = Vec::with_capacity(MAGIC_BYTES);
    input.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
    let format = Format::tell(&start, extension);
    let whole = Cursor::new(start).chain(input);
    Ok(match format {
        Format::Plain => Box::new(whole),
        Format::Gzip => Box::new(BufReader::with_capacity(READ_BYTES, Members::new(whole))),
        Format::Zstd => {
            let decoder = zstd::Decoder::with_buffer(whole)?;
            Box::new(BufReader::with_capacity(READ_BYTES, decoder))
        }
    })
}

/// Reads the members of a gzip file one after the other. Zeros after a member are skipped, as in gzip(1): tapes and
/// block devices leave them.
///
/// Anything else after a member is an error. gzip(1) only warns of it, but it may be a member with a damaged beginning.
struct Members<R> {
    /// `None` after the last member.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(input: R) -> Self {
        Self {
            member: Some(GzDecoder::new(input)),
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let mut input = self.member.take().expect("it was just read").into_inner();
            match first_behind_zeros(&mut input)? {
                None => {}
                Some(0x1f) => self.member = Some(GzDecoder::new(input)),
                Some(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "something else than gzip follows the compressed data",
                    ));
                }
            }
        }
        Ok(0)
    }
}

/// Skips zeros. Returns the first other byte without consuming it; `None` at the end.
fn first_behind_zeros(input: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let first = bytes.get(zeros).copied();
        input.consume(zeros);
        if first.is_some() {
            return Ok(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &str) -> Vec<u8> {
        zstd::encode_all(text.as_bytes(), 1).unwrap()
    }

    /// The text, read through a buffer so small that everything crosses its borders.
    fn text(bytes: &[u8], extension: Option<&str>) -> io::Result<String> {
        let input = BufReader::with_capacity(3, Cursor::new(bytes.to_vec()));
        let mut text = String::new();
        text_of(input, extension)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn gzip_and_zstd_are_told_by_their_first_bytes() {
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], &zstd("{}\n")[..]].concat();
        for extension in [None, Some("ndjson"), Some("gz"), Some("zst")] {
            for bytes in [&gzip("{}\n"), &zstd("{}\n"), &skippable] {
                assert_eq!(text(bytes, extension).unwrap(), "{}\n", "{extension:?}");
            }
        }
        for plain in ["", "{", "{}\n", "{}\n{}\n"] {
            assert_eq!(text(plain.as_bytes(), Some("ndjson")).unwrap(), plain);
        }
        // A file named `.gz` that is empty or plain text is an error, and so is a plain one named `.zst`.
        assert!(text(b"", Some("gz")).is_err());
        assert!(text(b"{}\n", Some("gz")).is_err());
        assert!(text(b"{}\n", Some("zst")).is_err());
    }

    #[test]
    fn zeros_behind_the_last_member_are_ignored_and_nothing_else_is() {
        let members = [gzip("a\n"), gzip("b\n")].concat();
        for padding in [0, 1, 511, 100_000] {
            let padded = [members.clone(), vec![0; padding]].concat();
            assert_eq!(text(&padded, Some("gz")).unwrap(), "a\nb\n", "{padding}");
        }
        let between = [gzip("a\n"), vec![0; 7], gzip("b\n")].concat();
        assert_eq!(text(&between, None).unwrap(), "a\nb\n");
        let garbage = [members, b"garbage".to_vec()].concat();
        assert!(text(&garbage, None).unwrap_err().to_string().contains("something else"));
    }
}
