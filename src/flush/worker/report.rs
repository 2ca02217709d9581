//! What the flush logs and publishes when it cannot go on.

use std::time::Duration;

use super::{Flusher, HOW_TO_ANSWER, Question};
use crate::store::SinkError;
use crate::store::outage::Failed;
use crate::wal::disk::Disk;

impl<D: Disk> Flusher<D> {
    /// Reports what a person has to decide, once and then now and again.
    pub(super) fn report_question(&mut self, question: Question) {
        let (text, wal_id) = (format!("{question}. {HOW_TO_ANSWER}"), self.log.wal_id());
        if let Question::Gap { first, .. } = question {
            // The database no longer has the events from here on, whatever was confirmed before.
            self.progress.set_flushed_through(first - 1);
        }
        let backlog = self.progress.flush_lag();
        if self.progress.set_asking(&text) | self.outage.is_due() {
            tracing::error!(%wal_id, backlog, "flushing stopped: {text}");
        }
    }

    /// Reports what went wrong, once and then now and again. Returns how long to wait.
    pub(super) fn report(&mut self, error: &SinkError) -> Duration {
        self.progress.look();
        let backlog = self.progress.flush_lag();
        let Failed { wait, is_due } = self.outage.note_failure(error.schema());
        if let Some(reason) = error.schema() {
            if self.progress.set_stopped(reason) || is_due {
                tracing::error!(backlog, "flushing stopped, ingestion goes on: {reason}");
            }
            return wait;
        }
        let failing_for = self.progress.set_retrying(&error.to_string());
        if is_due {
            let failing_for_s = failing_for.as_secs();
            tracing::warn!(
                backlog,
                failing_for_s,
                "cannot flush, trying again, ingestion goes on: {error}"
            );
        }
        wait
    }
}
