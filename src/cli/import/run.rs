//! The state of one run, shared by its workers: the books, the outage, why it ends, and who may still go on.

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

/// Time for requests in flight once the run is over: long enough for a healthy server, short enough for whoever pressed
/// Ctrl-C.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The run is over; why is in [`Run`].
#[derive(Debug)]
pub(super) struct Stopped;

/// One run of `import`.
#[derive(Debug)]
pub(super) struct Run {
    /// Shows progress and messages.
    pub(super) display: Display,
    /// The files, as they were at the start.
    pub(super) sources: Vec<Source>,
    /// When it began.
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

/// Why the run ends early. Written by whoever finds out first.
#[derive(Debug, Default)]
struct End {
    /// Why it was stopped.
    stop: Option<Stop>,
    /// A file that could not be read to its end; what came before it was sent all the same.
    input: Option<InputFailure>,
}

#[derive(Debug)]
enum Stop {
    Interrupted,
    Refused { file: usize, line: u64, text: String },
    Failed(Failure),
}

/// Who may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Everybody.
    Running,
    /// Requests in flight, for [`LAST_ANSWERS`].
    Stopping,
    /// Nobody.
    Abandoned,
}

impl Run {
    /// A run that has not begun.
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

    /// The server has stored `count` events.
    pub(super) fn accepted(&self, count: usize) {
        lock(&self.ledger).accepted += count as u64;
    }

    /// Lines `first..=last` of a file are accepted or skipped.
    pub(super) fn lines_done(&self, file: usize, first: u64, last: u64) {
        lock(&self.ledger).lines_done(file, first, last);
    }

    /// A file is read to its end.
    pub(super) fn file_read(&self, file: usize, lines: u64) {
        lock(&self.ledger).file_read(file, lines);
    }

    /// A file cannot be read any further. What was read before is still sent.
    pub(super) fn input_failed(&self, failure: InputFailure) {
        lock(&self.end).input = Some(failure);
    }

    /// Whether a refused line ends the run.
    pub(super) fn stops_at_refused(&self) -> bool {
        self.refused_log.is_none()
    }

    /// Lines of one request were refused, `invalid_count` in all of which `lines` are the first: writes them to the
    /// file of `--skip-invalid`, or stops the run.
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

    /// The server gave an answer that makes no sense: stops the run.
    pub(super) fn strange(&self, answer: &str) -> Stopped {
        let error = anyhow!(
            "{} answered {answer}: is this the URL of a fast-ingest server?",
            self.url
        );
        self.stop(Stop::Failed(Failure::new(ExitStatus::Config, error)))
    }

    /// The server judged a request.
    pub(super) fn server_answered(&self) {
        if lock(&self.outage).over() {
            self.display.notice(&format!("{} answers again", self.url));
        }
    }

    /// An attempt failed in a way that may pass. Returns the time that is left for trying.
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
                let error = anyhow!("{}: {why}; nothing got through for {time} (--give-up-after)", self.url);
                Err(self.stop(Stop::Failed(Failure::new(ExitStatus::Unavailable, error))))
            }
        }
    }

    /// Ctrl-C: ends the run, requests in flight may still finish.
    pub(super) fn interrupt(&self) {
        let Stopped = self.stop(Stop::Interrupted);
        self.display
            .notice("waiting for the requests in flight; Ctrl-C again ends at once");
    }

    /// A second Ctrl-C: nobody may finish anything.
    pub(super) fn abandon(&self) {
        self.phase.send_replace(Phase::Abandoned);
    }

    /// Resolves when no new request may be sent.
    pub(super) async fn stopping(&self) {
        self.reached(Phase::Stopping).await;
    }

    /// Resolves when a request in flight must be given up.
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

    /// The first reason counts, but of several refused lines the first one in the input.
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
        // What is said of running it again without event ids stands for itself.
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
                    // The same command would end the same way.
                    ExitStatus::Config => stopped(failure.error, hint("with the URL of such a server ")),
                    ExitStatus::Software => anyhow!("{:#}\nstopped: {how_far}", failure.error),
                    _ => stopped(failure.error, ""),
                };
                Err(Failure::new(failure.status, error))
            }
            (None, Some(input)) => {
                let first = if input.is_content { "mend the file, then " } else { "" };
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

/// A panic elsewhere ends the run anyway; the counts it leaves are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
