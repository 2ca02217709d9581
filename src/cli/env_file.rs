//! `--env-file`: settings from a file of `NAME=value` lines, for people who have one for a shell, make or compose.
//!
//! No file is read without the flag: otherwise anybody who may write to the current directory could send the program to
//! another database. Values are literal: nothing is ever expanded in them, so that a password may have a `$`. Errors
//! give the number of the line and never its text, which may have a password.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

/// The flag as it is typed; [`path_in`] looks for it before clap reads the command line.
pub(super) const FLAG: &str = "--env-file";

/// A line that cannot be read, numbered from 1, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    line: usize,
    reason: &'static str,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// The file that a command line names. clap checks the rest of the command line later, with the values of the file.
pub(super) fn path_in(arguments: impl IntoIterator<Item = OsString>) -> Option<PathBuf> {
    let mut arguments = arguments.into_iter().take_while(|argument| argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == FLAG {
            return arguments.next().map(PathBuf::from);
        }
        let bytes = argument.as_encoded_bytes();
        let value = bytes.strip_prefix(FLAG.as_bytes());
        if let Some(value) = value.and_then(|value| value.strip_prefix(b"=")) {
            // Only UTF-8 names are read here; any other name can be given as an argument of its own.
            return Some(PathBuf::from(OsStr::new(std::str::from_utf8(value).ok()?)));
        }
    }
    None
}

/// Reads the lines of a file: values by name; of several lines with one name the last counts.
pub(super) fn parse(text: &[u8]) -> Result<BTreeMap<String, String>, BadLine> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut settings = BTreeMap::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let bad = |reason| BadLine {
            line: index + 1,
            reason,
        };
        let line = str::from_utf8(line).map_err(|_| bad("is not UTF-8"))?;
        settings.extend(parse_line(line.trim()).map_err(bad)?);
    }
    Ok(settings)
}

/// Reads a line without white space around it; `None` if it is blank or a comment.
fn parse_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => line,
    };
    let (name, value) = line
        .split_once('=')
        .ok_or("has no `=`; write NAME=value, or # in front of a comment")?;
    let name = name.trim_end();
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err("the text before the `=` is not the name of a variable; write NAME=value");
    }
    Ok(Some((name.to_owned(), parse_value(value.trim_start())?)))
}

fn parse_value(value: &str) -> Result<String, &'static str> {
    let mut characters = value.chars();
    let quote = match characters.next() {
        Some(quote @ ('\'' | '"')) => quote,
        _ => return Ok(before_comment(value).to_owned()),
    };
    let mut unquoted = String::new();
    loop {
        match characters.next() {
            None => return Err("the quote at the beginning of the value is not closed"),
            Some(character) if character == quote => break,
            Some('\\') if quote == '"' => {
                // As in a shell: a backslash is literal, except in front of these characters.
                let escaped = characters.clone().next().filter(|next| r#""\$`"#.contains(*next));
                unquoted.push(escaped.unwrap_or('\\'));
                if escaped.is_some() {
                    characters.next();
                }
            }
            Some(character) => unquoted.push(character),
        }
    }
    let rest = characters.as_str();
    let is_comment = rest.starts_with(char::is_whitespace) && rest.trim_start().starts_with('#');
    if rest.is_empty() || is_comment {
        Ok(unquoted)
    } else {
        Err(
            "there is text after the closing quote; quote the whole value, with the other kind of quote if this kind is part of the value",
        )
    }
}

/// The value before a comment, which begins with a `#` after white space; any other `#` belongs to the value.
fn before_comment(value: &str) -> &str {
    if value.starts_with('#') {
        return "";
    }
    let comment = value
        .char_indices()
        .find(|(at, character)| *character == '#' && value[..*at].ends_with(char::is_whitespace));
    comment.map_or(value, |(at, _)| value[..at].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str) -> String {
        let settings = parse(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(settings.len(), 1, "{line}");
        settings["X"].clone()
    }

    #[test]
    fn the_usual_forms_of_a_line_are_taken() {
        for (line, expected) in [
            ("X=a b", "a b"),
            ("X=", ""),
            ("export X=a", "a"),
            ("  export\tX = a  ", "a"),
            ("X=a\r", "a"),
            ("\u{feff}X=a", "a"),
            ("X=a # a comment", "a"),
            ("X= # a comment", ""),
            ("X=a#b", "a#b"),
            ("X=postgres://u:p$1#2@h/d?a=b", "postgres://u:p$1#2@h/d?a=b"),
            (r"X='p$1 # ${Y} \n'", r"p$1 # ${Y} \n"),
            (r#"X="p$1 # \"q\" \\ \$ \n" # a comment"#, r#"p$1 # "q" \ $ \n"#),
            ("X=it's", "it's"),
            ("X=''", ""),
            ("X=a=b", "a=b"),
        ] {
            assert_eq!(value(line), expected, "{line}");
        }
        let file = b"# one\n\n   # two\r\nA=1\r\nexport B='2'\n  A=3";
        let settings = parse(file).unwrap();
        let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(settings, [("A", "3"), ("B", "2")]);
        assert_eq!(parse(b""), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_line_and_not_quoted() {
        for (line, words) in [
            ("secret", "no `=`"),
            ("export secret", "no `=`"),
            ("postgres://u:secret@h?a=b", "not the name"),
            ("1X=secret", "not the name"),
            ("X Y=secret", "not the name"),
            ("=secret", "not the name"),
            ("X='secret", "not closed"),
            ("X=\"secret\\\"", "not closed"),
            ("X='secret'more", "after the closing quote"),
        ] {
            let error = parse(format!("A=1\n\n{line}\nB=2").as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 3: ") && error.contains(words), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(parse(b"A=1\nB=\xff").unwrap_err().line, 2);
    }

    #[test]
    fn the_file_is_found_wherever_the_flag_stands() {
        let path = |line: &str| path_in(line.split(' ').map(OsString::from));
        let found = Some(PathBuf::from("x"));
        assert_eq!(path("fast-ingest --env-file x serve"), found);
        assert_eq!(path("fast-ingest wal inspect --env-file=x"), found);
        assert_eq!(path("fast-ingest import -- --env-file x"), None);
        assert_eq!(path("fast-ingest serve --env-file"), None);
        assert_eq!(path("fast-ingest serve --env-files=x"), None);
    }
}
