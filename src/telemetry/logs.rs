//! Log lines on stderr: `key=value` text for people or one JSON object a line, control characters escaped in both.
//!
//! The escape is ours for text (the JSON formatter does it anyway): a database's error message may carry what a client sent, and
//! a line break or an escape sequence in it must not be able to forge a log line or drive somebody's terminal.
//! How lines get to stderr, and what becomes of those that do not, is the sink's business.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format;

use super::sink::{QUEUE_LINES, Sink};

/// How long the end of the process waits for the last lines. A stderr that takes lines at all takes these in milliseconds.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// The process's way to stderr, once the logger is installed.
static SINK: OnceLock<Sink> = OnceLock::new();

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Installs the process-wide logger. It takes the messages of panics too: the standard library's own hook would wait for a stderr that
/// blocks, and with it the thread whose panic others are to be told of.
///
/// # Errors
///
/// A text for the user when `filter` does not parse or the log's thread does not start.
pub fn init_logs(log_format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("--log {filter:?}: {error}; try --log info"))?;
    let sink = Sink::start(io::stderr(), QUEUE_LINES, report_dropped)
        .map_err(|error| format!("cannot start the thread that writes the log: {error}"))?;
    let sink = SINK.get_or_init(|| sink);
    panic::set_hook(Box::new(|panic| {
        sink.send(describe_panic(panic).as_bytes());
        // The process may be about to end without a further word.
        sink.flush(FLUSH_TIME_MAX);
    }));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // What tracing says about itself it says with `eprintln!`, which panics where stderr fails.
        .log_internal_errors(false)
        .with_writer(|| sink.clone());
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

/// Log lines that could not be written since the start of the process: stderr failed, or did not take them in time.
pub fn log_lines_dropped() -> u64 {
    SINK.get().map_or(0, Sink::dropped)
}

/// Waits until the lines logged so far are written, but not for long. For the end of the process.
pub fn flush_logs() {
    if let Some(sink) = SINK.get() {
        sink.flush(FLUSH_TIME_MAX);
    }
}

/// Puts a command's last word, as it is, on stderr behind all log lines. Where stderr fails or blocks it is lost as they are: the
/// exit status says enough.
pub fn say_last(line: &str) {
    flush_logs();
    match SINK.get() {
        Some(sink) => sink.send(format!("{line}\n").as_bytes()),
        None => crate::exit::say_aside(line),
    }
    flush_logs();
}

/// The words of the standard library's hook.
fn describe_panic(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            format!("\nthread '{name}' {panic}\nstack backtrace:\n{backtrace}\n")
        }
        _ => format!("\nthread '{name}' {panic}\n"),
    }
}

fn report_dropped(lines: u64) {
    tracing::warn!(
        lines,
        "{lines} log lines were dropped: they could not be written in time"
    );
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
