//! A worker: takes batches, and works on each until every line of it is accepted or refused, or the run stops.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

use super::batch::{Batch, EventLine};
use super::client::{Attempt, Connection, Verdict};
use super::outage;
use super::reader::Input;
use super::refused::{Reason, RefusedLine};
use super::run::{Run, Stopped};
use crate::cli::text::counted;

/// Works until the input is used up or the run stops.
pub(super) async fn work(connection: Connection, inputs: Arc<Mutex<Receiver<Input>>>, run: Arc<Run>) {
    let mut worker = Worker {
        connection,
        run,
        refused: Refused::default(),
    };
    // `Stopped` needs no handling: the reason is in `run` already.
    while let Ok(Some(input)) = worker.next(&inputs).await {
        let done = match input {
            Input::Batch(batch) => worker.deliver(batch).await,
            Input::FileRead { file, lines } => {
                worker.run.file_read(file, lines);
                Ok(())
            }
            Input::Failed(failure) => {
                worker.run.input_failed(failure);
                Ok(())
            }
        };
        if done.is_err() {
            return;
        }
    }
}

struct Worker {
    connection: Connection,
    run: Arc<Run>,
    refused: Refused,
}

/// The smallest sizes that the server has refused: it would refuse any request of that size or more.
struct Refused {
    bytes: usize,
    events: usize,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            bytes: usize::MAX,
            events: usize::MAX,
        }
    }
}

impl Worker {
    async fn next(&self, inputs: &Mutex<Receiver<Input>>) -> Result<Option<Input>, Stopped> {
        let next = async { inputs.lock().await.recv().await };
        tokio::select! {
            biased;
            () = self.run.stopping() => Err(Stopped),
            input = next => Ok(input),
        }
    }

    async fn deliver(&mut self, mut batch: Batch) -> Result<(), Stopped> {
        let first_refused = batch.refused.iter().map(|line| line.line).min();
        // If a refused line stops the run, the lines after it are not sent. The lines before it are: the server may
        // refuse one of them, which is then the first refused line.
        let end = first_refused.filter(|_| self.run.stops_at_refused());
        batch.events.retain(|event| end.is_none_or(|end| event.line < end));
        // A stack of requests to send. A request that was too large is replaced by its halves, the first half on top.
        let mut pieces = vec![std::mem::take(&mut batch.events)];
        while let Some(mut events) = pieces.pop() {
            if events.is_empty() {
                continue;
            }
            let body = batch.body(&events);
            let (bytes, count) = (body.len(), events.len());
            let is_too_much = bytes >= self.refused.bytes || count >= self.refused.events;
            if is_too_much && count > 1 {
                halve(&mut pieces, events);
                continue;
            }
            match self.post(body).await? {
                Verdict::Accepted(stored) if stored == count => self.run.accepted(count),
                Verdict::Accepted(stored) => {
                    return Err(self.run.stop_at_foreign_answer(&format!(
                        "202 for {} while {count} were sent",
                        counted(stored as u64, "event")
                    )));
                }
                Verdict::EventsRefused { reasons, invalid_count } => {
                    let Some(lines) = take_refused(&batch, &mut events, reasons) else {
                        return Err(self.run.stop_at_foreign_answer("400 for events that were not sent"));
                    };
                    self.run.refuse(batch.file, &lines, invalid_count)?;
                    pieces.push(events);
                }
                Verdict::RequestRefused(reason) | Verdict::TooLarge(reason) | Verdict::TooMany(reason)
                    if count == 1 =>
                {
                    self.run
                        .refuse(batch.file, &[batch.refuse(&events[0], vec![reason])], 1)?;
                }
                Verdict::RequestRefused(_) => halve(&mut pieces, events),
                Verdict::TooLarge(_) => {
                    self.refused.bytes = bytes;
                    halve(&mut pieces, events);
                }
                Verdict::TooMany(_) => {
                    self.refused.events = count;
                    halve(&mut pieces, events);
                }
                Verdict::NotOurs(answer) => return Err(self.run.stop_at_foreign_answer(&answer)),
            }
        }
        let last_line = end.map_or(batch.last_line, |end| end - 1);
        self.run.lines_done(batch.file, batch.first_line, last_line);
        if first_refused.is_some() {
            let listed = batch.refused.len();
            self.run.refuse(batch.file, &batch.refused, listed)?;
        }
        Ok(())
    }

    /// Sends the same body until there is a verdict. That is safe for events with an id: the server stores each once.
    async fn post(&self, body: Bytes) -> Result<Verdict, Stopped> {
        for attempt in 0.. {
            let answer = tokio::select! {
                biased;
                answer = self.connection.post(body.clone()) => answer,
                () = self.run.out_of_patience() => return Err(Stopped),
            };
            let (why, after) = match answer {
                Attempt::Verdict(verdict) => {
                    self.run.server_answered();
                    return Ok(verdict);
                }
                Attempt::Retry { why, after } => (why, after),
            };
            let left = self.run.attempt_failed(&why)?;
            tokio::select! {
                biased;
                () = self.run.stopping() => return Err(Stopped),
                () = sleep(outage::wait(attempt, after, fastrand::f64()).min(left)) => {}
            }
        }
        Err(Stopped)
    }
}

fn halve(pieces: &mut Vec<Vec<EventLine>>, mut events: Vec<EventLine>) {
    let second_half = events.split_off(events.len() / 2);
    pieces.push(second_half);
    pieces.push(events);
}

/// Takes the refused events out of `events`; `None` if the answer names an event that was not sent, or no event.
fn take_refused(batch: &Batch, events: &mut Vec<EventLine>, reasons: Vec<(usize, Reason)>) -> Option<Vec<RefusedLine>> {
    let mut lines: Vec<RefusedLine> = Vec::new();
    let mut refused = vec![false; events.len()];
    for (index, reason) in reasons {
        let event = events.get(index)?;
        refused[index] = true;
        match lines.last_mut() {
            Some(last) if last.line == event.line => last.reasons.push(reason),
            _ => lines.push(batch.refuse(event, vec![reason])),
        }
    }
    let mut refused = refused.into_iter();
    events.retain(|_| refused.next() != Some(true));
    (!lines.is_empty()).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::batch::BatchLimits;

    fn three_events() -> Batch {
        let limits = BatchLimits {
            events: 10,
            bytes: 1000,
            event_ids: false,
        };
        let mut batch = Batch::behind(0, 0);
        for line in ["{\"n\":1}", "", "{\"n\":3}", "{\"n\":4}"] {
            batch.push(limits, line.as_bytes());
        }
        batch
    }

    fn reason(code: &str) -> Reason {
        Reason::of_line(code, "")
    }

    #[test]
    fn refused_events_are_taken_out_with_all_their_reasons() {
        let batch = three_events();
        let mut events = batch.events.clone();
        let reasons = vec![(0, reason("a")), (1, reason("b")), (1, reason("c"))];
        let lines = take_refused(&batch, &mut events, reasons).unwrap();
        let numbers: Vec<_> = lines.iter().map(|line| (line.line, line.reasons.len())).collect();
        assert_eq!(numbers, [(1, 1), (3, 2)]);
        assert_eq!(batch.body(&events), "[{\"n\":4}]");
    }

    #[test]
    fn an_answer_about_other_events_is_not_trusted() {
        let batch = three_events();
        let mut events = batch.events.clone();
        assert_eq!(take_refused(&batch, &mut events, vec![(3, reason("a"))]), None);
        assert_eq!(take_refused(&batch, &mut events, Vec::new()), None);
    }
}
