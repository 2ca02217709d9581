//! Log lines on stderr: sentences for people or one JSON object a line, control characters escaped in both.
//!
//! The module `sink` writes them to stderr, and drops those that stderr does not take in time.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::fields::SaidOnce;
use super::sink::{QUEUE_LINES, Sink};
use crate::support::words::plural;

/// How long the process waits at its end for the last lines to be written. A stderr that works takes them in
/// milliseconds.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Takes the process's log lines; set once the logger is installed.
static SINK: OnceLock<Sink> = OnceLock::new();

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Sentences for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Installs the process-wide logger. It takes the messages of panics too: on a stderr that blocks, the standard
/// library's hook would hold up the panicking thread, and other threads would not learn of its end.
///
/// # Errors
///
/// A text for the user when `filter` does not parse or the log's thread does not start.
pub fn init_logs(log_format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = parse_filter(filter).map_err(|error| {
        format!("--log {filter:?}: {error}; write for example info, or warn,fast_ingest::flush=debug")
    })?;
    let sink = Sink::start(io::stderr(), QUEUE_LINES, report_dropped)
        .map_err(|error| format!("cannot start the thread that writes the log: {error}"))?;
    let sink = SINK.get_or_init(|| sink);
    panic::set_hook(Box::new(|panic| {
        sink.send(describe_panic(panic).as_bytes());
        // The process may end without another flush.
        sink.flush(FLUSH_TIME_MAX);
    }));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // tracing reports its own errors with `eprintln!`, which panics where stderr fails.
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
            let no_color = std::env::var_os("NO_COLOR");
            let colors = wants_colors(io::stderr().is_terminal(), no_color.as_deref());
            builder.with_ansi(colors).fmt_fields(SaidOnce).init();
        }
    }
    Ok(())
}

/// Refuses a single word that is not a level, such as a misspelt one: `EnvFilter` would take it for the name of a
/// module, and silence all the others.
fn parse_filter(filter: &str) -> Result<EnvFilter, String> {
    let words = filter.split(',').map(str::trim);
    let mut alone = words.filter(|word| !word.contains(['=', '[']));
    let is_level = |word: &str| word.is_empty() || word.parse::<LevelFilter>().is_ok();
    if let Some(word) = alone.find(|word| !is_level(word)) {
        return Err(format!(
            "{word:?} is not a level; they are off, error, warn, info, debug and trace"
        ));
    }
    EnvFilter::try_new(filter).map_err(|error| error.to_string())
}

/// Log lines that could not be written since the start of the process: stderr failed, or did not take them in time.
pub fn log_lines_dropped() -> u64 {
    SINK.get().map_or(0, Sink::dropped)
}

/// Waits until the lines logged so far are written, for a second at most. Called when the process ends.
pub fn flush_logs() {
    if let Some(sink) = SINK.get() {
        sink.flush(FLUSH_TIME_MAX);
    }
}

/// Writes a command's last line to stderr, as it is, after all log lines. Where stderr fails or blocks, it is lost as
/// they are: the exit status says enough.
pub fn say_last(line: &str) {
    flush_logs();
    match SINK.get() {
        Some(sink) => sink.send(format!("{line}\n").as_bytes()),
        None => crate::support::exit::say_aside(line),
    }
    flush_logs();
}

/// The text that the standard library's panic hook would print.
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
        "dropped {}, which could not be written in time",
        plural(lines, "log line")
    );
}

/// Colors are for terminals, and only where `NO_COLOR` is unset or empty (<https://no-color.org>).
fn wants_colors(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused_and_does_not_silence_the_rest() {
        for filter in ["loud", "infoo", "warning", "info,fast_ingest::flush", "info,debg"] {
            let error = parse_filter(filter).expect_err(filter);
            assert!(error.contains("they are off, error, warn"), "{error}");
        }
        assert!(parse_filter("fast_ingest::wal=loud").is_err());
        for filter in [
            "info",
            "DEBUG",
            "off",
            "",
            "warn,fast_ingest::flush=debug",
            "[span]=info",
        ] {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn no_color_is_honoured() {
        let wants = |is_terminal, no_color: Option<&str>| wants_colors(is_terminal, no_color.map(OsStr::new));
        assert!(wants(true, None) && wants(true, Some("")));
        assert!(!wants(true, Some("1")) && !wants(true, Some("false")));
        assert!(!wants(false, None));
    }
}
