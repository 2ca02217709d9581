//! The log lines of a server, followed as it writes them.

use std::io::BufRead;
use std::sync::{Condvar, Mutex};

use super::PATIENCE;

/// What a server wrote to stderr.
#[derive(Default)]
pub(super) struct ServerLog {
    state: Mutex<LogState>,
    grown: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    has_ended: bool,
}

impl ServerLog {
    pub(super) fn follow(&self, pipe: impl BufRead) {
        for line in pipe.lines() {
            self.state.lock().unwrap().lines.push(line.unwrap());
            self.grown.notify_all();
        }
        self.state.lock().unwrap().has_ended = true;
        self.grown.notify_all();
    }

    pub(super) fn text(&self) -> String {
        self.state.lock().unwrap().lines.join("\n")
    }

    /// The first line with these words; `None` if the server ended without one, or took too long.
    pub(super) fn wait_for_line(&self, words: &str) -> Option<String> {
        let find = |state: &LogState| state.lines.iter().find(|line| line.contains(words)).cloned();
        let state = self.state.lock().unwrap();
        let (state, _) = self
            .grown
            .wait_timeout_while(state, PATIENCE, |state| !state.has_ended && find(state).is_none())
            .unwrap();
        find(&state)
    }
}
