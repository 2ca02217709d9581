//! Batches: the lines that one request carries, and the body made of them.

use std::ops::Range;

use bytes::Bytes;

use super::event_id::{self, GivenId};
use super::refused::{Reason, RefusedLine};
use super::source::LINE_BYTES_MAX;

/// How large a batch may grow, and whether lines are given ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Most events.
    pub(super) events: usize,
    /// Most bytes of body, unless one event alone is larger.
    pub(super) bytes: usize,
    /// Whether a line without an `event_id` is given one.
    pub(super) event_ids: bool,
}

/// Consecutive lines of one file.
#[derive(Debug)]
pub(super) struct Batch {
    /// Index of the file on the command line.
    pub(super) file: usize,
    /// Number of the first line, blank ones included: batches of a file leave no gap.
    pub(super) first_line: u64,
    /// Number of the last line.
    pub(super) last_line: u64,
    /// Lines to send.
    pub(super) events: Vec<EventLine>,
    /// Lines that cannot be sent.
    pub(super) refused: Vec<RefusedLine>,
    /// The text of all of `events`, one after the other.
    text: Vec<u8>,
    /// Bytes of the body, brackets left out.
    body_bytes: usize,
}

/// One line to send, kept as it was read.
#[derive(Debug, Clone)]
pub(super) struct EventLine {
    /// Number of the line in its file, from 1.
    pub(super) line: u64,
    place: Range<usize>,
    given_id: Option<GivenId>,
}

impl Batch {
    /// An empty batch of `file` that continues after line `last_line`.
    pub(super) fn behind(file: usize, last_line: u64) -> Self {
        Self {
            file,
            first_line: last_line + 1,
            last_line,
            events: Vec::new(),
            refused: Vec::new(),
            text: Vec::new(),
            body_bytes: 0,
        }
    }

    /// Whether the batch covers no line, not even a blank one.
    pub(super) fn is_empty(&self) -> bool {
        self.last_line < self.first_line
    }

    /// Whether a further line of `bytes` should go into the next batch.
    pub(super) fn is_full(&self, limits: BatchLimits, bytes: usize) -> bool {
        let longest_id = if limits.event_ids {
            "\"event_id\":\"imp-\",".len() + 32
        } else {
            0
        };
        let lines = self.events.len() + self.refused.len();
        lines >= limits.events || (lines > 0 && self.body_bytes + bytes + longest_id + "[,]".len() > limits.bytes)
    }

    /// Adds the next line.
    pub(super) fn push(&mut self, limits: BatchLimits, text: &[u8]) {
        self.last_line += 1;
        if text.trim_ascii().is_empty() {
            return;
        }
        let line = self.last_line;
        match event_id::check_line(line, text) {
            Ok(given_id) => {
                let given_id = given_id.filter(|_| limits.event_ids);
                let start = self.text.len();
                self.text.extend_from_slice(text);
                self.body_bytes += text.len() + given_id.as_ref().map_or(0, GivenId::len) + 1;
                let place = start..self.text.len();
                self.events.push(EventLine { line, place, given_id });
            }
            Err(reason) => {
                let event = Some(String::from_utf8_lossy(text).into_owned());
                self.body_bytes += text.len();
                self.refused.push(RefusedLine {
                    line,
                    reasons: vec![reason],
                    event,
                });
            }
        }
    }

    /// Adds the next line, which was too long to be kept.
    pub(super) fn push_too_long(&mut self) {
        self.last_line += 1;
        let message = format!("is longer than {LINE_BYTES_MAX} bytes");
        let reasons = vec![Reason::of_line("line_too_long", message)];
        self.refused.push(RefusedLine {
            line: self.last_line,
            reasons,
            event: None,
        });
    }

    /// The body of a request that carries `events`, which must be lines of this batch.
    pub(super) fn body(&self, events: &[EventLine]) -> Bytes {
        let mut body = Vec::with_capacity(self.body_bytes + 2);
        for event in events {
            body.push(if body.is_empty() { b'[' } else { b',' });
            let text = &self.text[event.place.clone()];
            match &event.given_id {
                Some(id) => id.write(text, &mut body),
                None => body.extend_from_slice(text),
            }
        }
        body.push(b']');
        body.into()
    }

    /// A line of this batch as refused for `reasons`, with its text as it was read.
    pub(super) fn refuse(&self, event: &EventLine, reasons: Vec<Reason>) -> RefusedLine {
        let text = String::from_utf8_lossy(&self.text[event.place.clone()]).into_owned();
        RefusedLine {
            line: event.line,
            reasons,
            event: Some(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits {
        events: 3,
        bytes: 1000,
        event_ids: true,
    };

    fn batch(limits: BatchLimits, lines: &[&str]) -> Batch {
        let mut batch = Batch::behind(0, 10);
        for line in lines {
            batch.push(limits, line.as_bytes());
        }
        batch
    }

    #[test]
    fn a_body_holds_the_chosen_events_with_ids() {
        let batch = batch(LIMITS, &["{\"n\":1}", "", "nonsense", "{\"n\":2,\"event_id\":\"x\"}"]);
        assert_eq!((batch.first_line, batch.last_line), (11, 14));
        assert_eq!(batch.refused.len(), 1);
        assert_eq!(batch.refused[0].line, 13);
        let body: Vec<serde_json::Value> = serde_json::from_slice(&batch.body(&batch.events)).unwrap();
        assert_eq!(body.len(), 2);
        assert!(body[0]["event_id"].as_str().unwrap().starts_with("imp-"));
        assert_eq!(body[1]["event_id"], "x");
        let second = batch.body(&batch.events[1..]);
        assert_eq!(second, "[{\"n\":2,\"event_id\":\"x\"}]");
        let refused = batch.refuse(&batch.events[0], Vec::new());
        assert_eq!((refused.line, refused.event.as_deref()), (11, Some("{\"n\":1}")));
    }

    #[test]
    fn without_ids_lines_are_sent_as_they_are() {
        let limits = BatchLimits {
            event_ids: false,
            ..LIMITS
        };
        let batch = batch(limits, &["{\"n\":1}", "{\"n\":2}"]);
        assert_eq!(batch.body(&batch.events), "[{\"n\":1},{\"n\":2}]");
    }

    #[test]
    fn a_body_never_outgrows_the_limit() {
        let line = format!("{{\"a\":\"{}\"}}", "x".repeat(200));
        let mut batch = Batch::behind(0, 0);
        while !batch.is_full(BatchLimits { events: 100, ..LIMITS }, line.len()) {
            batch.push(LIMITS, line.as_bytes());
        }
        let body = batch.body(&batch.events);
        assert!(body.len() <= LIMITS.bytes, "{}", body.len());
        assert!(body.len() + line.len() + 52 > LIMITS.bytes, "{}", body.len());
        assert!(
            !Batch::behind(0, 0).is_full(LIMITS, 5000),
            "one large line has a batch of its own"
        );
    }
}
