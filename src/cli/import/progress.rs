//! What is shown while an import runs: a bar on a terminal, a line every few seconds elsewhere, both on stderr.

use std::io::{self, IsTerminal};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::source::Source;
use crate::cli::text::{counted, grouped};
use crate::support::exit::say_aside;

/// Time between updates of a bar: short enough to look smooth.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// Time between lines: long enough for the log of a nightly job.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Where progress and messages go.
#[derive(Debug)]
pub(super) enum Display {
    /// Messages only, with `--quiet`.
    Quiet,
    /// A bar, if stderr is a terminal.
    Bar(ProgressBar),
    /// Lines, if stderr is a pipe or a file.
    Lines,
}

impl Display {
    /// Chooses the display, and shows the bar if stderr is a terminal.
    pub(super) fn start(sources: &[Source], quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !io::stderr().is_terminal() {
            return Self::Lines;
        }
        let total = bytes_total(sources);
        let template = match total {
            Some(_) => "{bar:32} {percent:>3} %  {msg}, {eta} left",
            None => "{spinner} {bytes} read  {msg}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        bar.set_style(style);
        Self::Bar(bar)
    }

    /// Prints a message above the bar, if there is one.
    pub(super) fn notice(&self, text: &str) {
        match self {
            // Hides the bar while the line is printed.
            Self::Bar(bar) => bar.suspend(|| say_aside(format_args!("fast-ingest: {text}"))),
            Self::Quiet | Self::Lines => say_aside(format_args!("fast-ingest: {text}")),
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Shows progress until the future is dropped: bytes read from the sources, and `accepted` events since `started`.
pub(super) async fn report(display: &Display, sources: &[Source], started: Instant, accepted: impl Fn() -> u64) {
    let interval = match display {
        Display::Quiet => return,
        Display::Bar(_) => BAR_INTERVAL,
        Display::Lines => LINE_INTERVAL,
    };
    loop {
        tokio::time::sleep(interval).await;
        let read = sources
            .iter()
            .map(|source| source.bytes_read.load(Ordering::Relaxed))
            .sum();
        let elapsed = started.elapsed();
        let events = accepted();
        let rate = (events as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
        let counted = format!("{} accepted, {} events/s", counted(events, "event"), grouped(rate));
        match display {
            Display::Quiet => {}
            Display::Bar(bar) => {
                bar.set_message(counted);
                bar.set_position(read);
                bar.tick();
            }
            Display::Lines => {
                let left = left(elapsed, read, bytes_total(sources));
                say_aside(format_args!("fast-ingest: {counted}{left}"));
            }
        }
    }
}

/// Bytes of all files; `None` if one of them is a pipe.
fn bytes_total(sources: &[Source]) -> Option<u64> {
    sources.iter().map(|source| source.bytes).sum()
}

/// `, 45 % read, about 1m 3s left`; empty if the total is not known.
fn left(elapsed: Duration, read: u64, total: Option<u64>) -> String {
    let Some(total) = total.filter(|&total| total > 0 && read > 0) else {
        return String::new();
    };
    // A file may have grown since the start.
    let part = (read as f64 / total as f64).min(1.0);
    let left = Duration::from_secs((elapsed.as_secs_f64() * (1.0 - part) / part) as u64);
    format!(
        ", {:.0} % read, about {} left",
        part * 100.0,
        humantime::format_duration(left)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_estimated_from_the_part_that_is_read() {
        let elapsed = Duration::from_secs(30);
        assert_eq!(left(elapsed, 25, Some(100)), ", 25 % read, about 1m 30s left");
        assert_eq!(left(elapsed, 120, Some(100)), ", 100 % read, about 0s left");
        assert_eq!(left(elapsed, 25, None), "");
        assert_eq!(left(elapsed, 0, Some(0)), "");
    }
}
