//! Log lines on stderr: `key=value` text for people or one JSON object a line, control characters escaped in both.
//!
//! The escape is ours for text (the JSON formatter does it anyway): a database's error message may carry what a client sent, and
//! a line break or an escape sequence in it must not be able to forge a log line or drive somebody's terminal.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Installs the process-wide logger.
///
/// # Errors
///
/// A text for the user when `filter` does not parse.
pub fn init_logs(log_format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("--log {filter:?}: {error}; try --log info"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match log_format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init(),
        LogFormat::Text => {
            let fields = format::debug_fn(write_field).delimited(" ");
            builder
                .with_ansi(io::stderr().is_terminal())
                .fmt_fields(fields)
                .init();
        }
    }
    Ok(())
}

fn write_field(
    writer: &mut format::Writer<'_>,
    field: &Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    write!(Escaping(writer), "{value:?}")
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
    use super::*;

    #[test]
    fn control_characters_cannot_leave_the_line() {
        let mut line = String::new();
        write!(
            Escaping(&mut line),
            "a\n{{\"level\":\"error\"}}\x1b[31m\u{202e}é"
        )
        .unwrap();
        assert_eq!(line, "a\\u{a}{\"level\":\"error\"}\\u{1b}[31m\\u{202e}é");
    }
}
