//! The state of one run, shared by its workers: the counts, the outage, why the run ends, and what may still be sent.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Error, anyhow};
use tokio::sync::watch;
use tokio::time::sleep;

use super::ImportArgs;
use super::ledger::Ledger;
use super::outage::{Decision, Outage};
use super::progress::Display;
use super::reader::InputFailure;
use super::refused::{RefusedLine, RefusedLog};
use super::source::Source;
use crate::cli::text::{counted, grouped};
use crate::support::exit::{ExitStatus, Failure};
use crate::support::words::plural;

/// Time for requests in flight once the run stops: long enough for a healthy server, short enough for a user who
/// pressed Ctrl-C.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The run stops; [`Run`] holds the reason.
#[derive(Debug)]
pub(super) struct Stopped;

/// One run of `import`.
#[derive(Debug)]
pub(super) struct Run {
    /// Shows progress and messages.
    pub(super) display: Display,
    /// The files, as they were at the start.
    pub(super) sources: Vec<Source>,
    /// When the run began; rates are counted from here.
    pub(super) started: Instant,
    url: String,
    event_ids: bool,
    give_up_after: Duration,
    ledger: Mutex<Ledger>,
    outage: Mutex<Outage>,
    refused_log: Option<Mutex<RefusedLog>>,
    end: Mutex<End>,
    phase: watch::Sender<Phase>,
}

/// Why the run ends early. Written by workers and on Ctrl-C.
#[derive(Debug, Default)]
struct End {
    /// Why the run was stopped; [`Run::stop`] decides which of several reasons counts.
    stop: Option<Stop>,
    /// A file that could not be read to its end; the lines before that are still sent.
    input: Option<InputFailure>,
}

#[derive(Debug)]
enum Stop {
    Interrupted,
    Refused { file: usize, line: u64, text: String },
    Failed(Failure),
}

/// What may still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// New requests may be sent.
    Running,
    /// Only requests in flight may finish, within [`LAST_ANSWERS`].
    Stopping,
    /// Requests in flight are dropped as well.
    Abandoned,
}

impl Run {
    /// A run that has sent nothing yet.
    pub(super) fn new(
        args: &ImportArgs,
        sources: &[Source],
        refused_log: Option<RefusedLog>,
        display: Display,
    ) -> Self {
        Self {
            display,
            sources: sources.to_vec(),
            started: Instant::now(),
            url: args.server.url(),
            event_ids: !args.no_event_id,
            give_up_after: args.give_up_after,
            ledger: Mutex::new(Ledger::new(sources.iter().map(|source| source.name.clone()))),
            outage: Mutex::new(Outage::new(args.give_up_after)),
            refused_log: refused_log.map(Mutex::new),
            end: Mutex::default(),
            phase: watch::Sender::new(Phase::Running),
        }
    }

    /// Events accepted so far.
    pub(super) fn events_accepted(&self) -> u64 {
        lock(&self.ledger).accepted
    }

    /// Notes that the server has accepted `count` events.
    pub(super) fn accepted(&self, count: usize) {
        lock(&self.ledger).accepted += count as u64;
    }

    /// Notes that lines `first..=last` of a file are accepted or skipped.
    pub(super) fn lines_done(&self, file: usize, first: u64, last: u64) {
        lock(&self.ledger).lines_done(file, first, last);
    }

    /// Notes that a file is read to its end and has `lines` lines.
    pub(super) fn file_read(&self, file: usize, lines: u64) {
        lock(&self.ledger).file_read(file, lines);
    }

    /// Notes that a file cannot be read any further. Lines that were read before are still sent.
    pub(super) fn input_failed(&self, failure: InputFailure) {
        lock(&self.end).input = Some(failure);
    }

    /// Whether a refused line ends the run.
    pub(super) fn stops_at_refused(&self) -> bool {
        self.refused_log.is_none()
    }

    /// Handles refused lines of one request, of which `lines` are the first and `invalid_count` is the number: writes
    /// `lines` to the file of `--skip-invalid`, or stops the run.
    pub(super) fn refuse(&self, file: usize, lines: &[RefusedLine], invalid_count: usize) -> Result<(), Stopped> {
        let Some(log) = &self.refused_log else {
            return Err(self.stop(self.first_refused(file, lines, invalid_count)));
        };
        let name = lock(&self.ledger).name(file).to_owned();
        let mut log = lock(log);
        if let Err(error) = log.write(&name, lines) {
            let error = anyhow!("--skip-invalid {}: {error}", log.path().display());
            return Err(self.stop(Stop::Failed(Failure::new(ExitStatus::Io, error))));
        }
        lock(&self.ledger).refused += lines.len() as u64;
        Ok(())
    }

    fn first_refused(&self, file: usize, lines: &[RefusedLine], invalid_count: usize) -> Stop {
        let Some(first) = lines.iter().min_by_key(|line| line.line) else {
            return Stop::Failed(Failure::new(ExitStatus::Software, anyhow!("nothing was refused")));
        };
        let reasons: Vec<_> = first.reasons.iter().map(super::refused::Reason::text).collect();
        let name = lock(&self.ledger).name(file).to_owned();
        let mut text = format!("{name}:{}: {}", first.line, reasons.join("; "));
        if invalid_count > 1 {
            let more = grouped(invalid_count as u64 - 1);
            text.push_str(&format!(" (and {more} more in the same request)"));
        }
        Stop::Refused {
            file,
            line: first.line,
            text,
        }
    }

    /// Stops the run because an answer cannot be one of a fast-ingest server.
    pub(super) fn stop_at_foreign_answer(&self, answer: &str) -> Stopped {
        let error = anyhow!(
            "{} answered {answer}: is this the URL of a fast-ingest server?",
            self.url
        );
        self.stop(Stop::Failed(Failure::new(ExitStatus::Config, error)))
    }

    /// Notes a verdict of the server, and tells the user if that ends an outage.
    pub(super) fn server_answered(&self) {
        if lock(&self.outage).end() {
            self.display.notice(&format!("{} answers again", self.url));
        }
    }

    /// Notes an attempt that may succeed if it is repeated. Returns the time that is left for retries.
    pub(super) fn attempt_failed(&self, why: &str) -> Result<Duration, Stopped> {
        let decision = lock(&self.outage).failed(Instant::now());
        match decision {
            Decision::TryAgain { left, announce } => {
                if announce {
                    let time = humantime::format_duration(Duration::from_secs(left.as_secs().max(1)));
                    self.display
                        .notice(&format!("{}: {why}; trying again for up to {time}", self.url));
                }
                Ok(left)
            }
            Decision::GiveUp => {
                let time = humantime::format_duration(self.give_up_after);
                let error = anyhow!(
                    "{}: {why}; no request was answered for {time} (--give-up-after)",
                    self.url
                );
                Err(self.stop(Stop::Failed(Failure::new(ExitStatus::Unavailable, error))))
            }
        }
    }

    /// Stops the run on Ctrl-C; requests in flight may still finish.
    pub(super) fn interrupt(&self) {
        let Stopped = self.stop(Stop::Interrupted);
        self.display
            .notice("waiting for the requests in flight; Ctrl-C again ends at once");
    }

    /// Drops requests in flight, on a second Ctrl-C.
    pub(super) fn abandon(&self) {
        self.phase.send_replace(Phase::Abandoned);
    }

    /// Resolves when no new request may be sent.
    pub(super) async fn stopping(&self) {
        self.reached(Phase::Stopping).await;
    }

    /// Resolves when requests in flight must be dropped.
    pub(super) async fn out_of_patience(&self) {
        let some_time_later = async {
            self.stopping().await;
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            () = self.reached(Phase::Abandoned) => {}
            () = some_time_later => {}
        }
    }

    async fn reached(&self, wanted: Phase) {
        // Cannot fail while `self` holds the sender.
        let _closed = self.phase.subscribe().wait_for(|phase| *phase >= wanted).await.is_err();
    }

    /// Stops the run. The first reason counts; but of several refused lines, the first one in the input counts.
    fn stop(&self, stop: Stop) -> Stopped {
        let mut end = lock(&self.end);
        let replaces = match (&end.stop, &stop) {
            (None, _) => true,
            (
                Some(Stop::Refused { file, line, .. }),
                Stop::Refused {
                    file: new_file,
                    line: new_line,
                    ..
                },
            ) => (new_file, new_line) < (file, line),
            _ => false,
        };
        if replaces {
            end.stop = Some(stop);
        }
        self.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Running;
            if first {
                *phase = Phase::Stopping;
            }
            first
        });
        Stopped
    }

    /// The summary of a run that reached its end, or why it did not and how far it got.
    pub(super) fn result(&self) -> Result<String, Failure> {
        let end = std::mem::take(&mut *lock(&self.end));
        let ledger = lock(&self.ledger);
        let again = match self.event_ids {
            true => "run the same command again, nothing is stored twice",
            false => "without event ids, running it again may store events twice",
        };
        let how_far = ledger.how_far();
        let stopped = |error: Error, hint: &str| anyhow!("{error:#}\nstopped: {how_far}; {hint}{again}");
        // Without event ids the text about running it again is a warning, not the end of an advice.
        let hint = |first| if self.event_ids { first } else { "" };
        match (end.stop, end.input) {
            (None, None) if ledger.is_complete() => Ok(self.summary(&ledger)),
            (None, None) => {
                let error = stopped(
                    anyhow!("some lines were not sent, which is a defect of fast-ingest"),
                    "",
                );
                Err(Failure::new(ExitStatus::Software, error))
            }
            (Some(Stop::Interrupted), _) => {
                let error = anyhow!("stopped by Ctrl-C: {how_far}; {again}");
                Err(Failure::new(ExitStatus::Interrupted, error))
            }
            (Some(Stop::Refused { text, .. }), _) => {
                let first = "correct the line in place or skip it with --skip-invalid FILE, then ";
                Err(Failure::new(ExitStatus::Data, stopped(anyhow!(text), hint(first))))
            }
            (Some(Stop::Failed(failure)), _) => {
                let error = match failure.status {
                    // The same command would end the same way, so it needs another URL.
                    ExitStatus::Config => stopped(failure.error, hint("with the URL of such a server ")),
                    ExitStatus::Software => anyhow!("{:#}\nstopped: {how_far}", failure.error),
                    _ => stopped(failure.error, ""),
                };
                Err(Failure::new(failure.status, error))
            }
            (None, Some(input)) => {
                let first = if input.is_content { "fix the file, then " } else { "" };
                let error = stopped(input.failure.error, hint(first));
                Err(Failure::new(input.failure.status, error))
            }
        }
    }

    fn summary(&self, ledger: &Ledger) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = grouped((ledger.accepted as f64 / seconds.max(0.001)) as u64);
        let files = plural(ledger.file_count(), "file");
        let accepted = counted(ledger.accepted, "event");
        let refused = grouped(ledger.refused);
        let log = self.refused_log.as_ref().filter(|_| ledger.refused > 0);
        let written = log.map_or_else(String::new, |log| format!(", written to {}", shown(lock(log).path())));
        format!("{accepted} accepted from {files} in {seconds:.1} s ({rate} events/s), {refused} refused{written}")
    }
}

fn shown(path: &Path) -> impl std::fmt::Display {
    path.display().to_string()
}

/// Locks in spite of a panic elsewhere: that ends the run anyway, and the counts are consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
