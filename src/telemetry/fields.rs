//! The fields of a log line as text: the sentence (the message), then the fields whose values it does not contain.
//!
//! A program reads all fields as JSON; a person reads the sentence, which contains most values, and would find each of
//! these twice. Control characters are escaped: a database's error message may carry what a client sent, and a line
//! break or an escape sequence in it must not be able to forge a log line or control a terminal.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Writes fields for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct SaidOnce;

impl<'writer> FormatFields<'writer> for SaidOnce {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line::default();
        fields.record(&mut line);
        let mut space = "";
        if !line.sentence.is_empty() {
            write!(Escaping(&mut writer), "{}", line.sentence)?;
            space = " ";
        }
        for Said { name, value, shown } in &line.others {
            if !says(&line.sentence, value) {
                write!(writer, "{space}{name}=")?;
                write!(Escaping(&mut writer), "{shown}")?;
                space = " ";
            }
        }
        Ok(())
    }
}

/// The sentence of one log line and its other fields.
#[derive(Default)]
struct Line {
    sentence: String,
    others: Vec<Said>,
}

/// One field beside the sentence.
struct Said {
    name: &'static str,
    /// The value as a sentence contains it: a text without quotes.
    value: String,
    /// The value as it is written after `name=`: a text in quotes.
    shown: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let shown = format!("{value:?}");
        if field.name() == "message" {
            self.sentence = shown;
            return;
        }
        self.others.push(Said {
            name: field.name(),
            value: shown.clone(),
            shown,
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.sentence);
            return;
        }
        self.others.push(Said {
            name: field.name(),
            value: value.to_owned(),
            shown: format!("{value:?}"),
        });
    }
}

/// Whether the sentence contains `words`, and not only inside longer words.
fn says(sentence: &str, words: &str) -> bool {
    if words.is_empty() {
        return false;
    }
    let ends_a_word = |text: &str| !text.ends_with(char::is_alphanumeric);
    let begins_a_word = |text: &str| !text.starts_with(char::is_alphanumeric);
    sentence
        .match_indices(words)
        .any(|(at, _)| ends_a_word(&sentence[..at]) && begins_a_word(&sentence[at + words.len()..]))
}

/// Passes text on with control characters and bidirectional overrides written as `\u{…}`.
struct Escaping<W>(W);

impl<W: fmt::Write> fmt::Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let deceptive = matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if character.is_control() || deceptive {
                write!(self.0, "{}", character.escape_unicode())?;
            } else {
                self.0.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_level(false)
            .fmt_fields(SaidOnce)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().trim().to_owned()
    }

    #[test]
    fn no_log_line_says_a_field_twice() {
        let error = "no route to host";
        let lines = [
            logged(|| tracing::warn!(%error, pause_ms = 5_u64, "cannot accept: {error}")),
            logged(|| tracing::warn!(error, "cannot accept: {error}")),
            logged(|| tracing::info!(events = 12_u64, bytes = 2_u64, "12 events stored")),
            logged(|| tracing::info!(store = "sqlite", empty = "", "ready")),
            logged(|| tracing::info!(wal_id = 7_u64)),
        ];
        let expected = [
            "cannot accept: no route to host pause_ms=5",
            "cannot accept: no route to host",
            "12 events stored bytes=2",
            "ready store=\"sqlite\" empty=\"\"",
            "wal_id=7",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn control_characters_cannot_leave_the_line() {
        let evil = "a\n{\"level\":\"error\"}\x1b[31m\u{202e}é";
        let good = "a\\u{a}{\"level\":\"error\"}\\u{1b}[31m\\u{202e}é";
        assert_eq!(logged(|| tracing::info!("{evil}")), good);
        assert_eq!(logged(|| tracing::info!(text = %evil)), format!("text={good}"));
    }
}
