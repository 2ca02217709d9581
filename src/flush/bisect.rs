//! One batch into the store, around the events that the database refuses.

use std::sync::Arc;

use tokio::task::{spawn_blocking, yield_now};

use super::checkpoint::Checkpoint;
use super::look::Trouble;
use crate::store::{BeforeCommit, EventSink, SinkError, StoreError};
use crate::wal::Log;
use crate::wal::batch::{Batch, BatchView};
use crate::wal::disk::Disk;
use crate::wal::id::Mark;

/// How many other events are tried before an event that is refused for an unclear reason counts as one that the
/// database would take if it could. Few, because while the database itself fails, each of them is tried again with each
/// retry.
const WITNESSES: usize = 8;

/// Flushes a batch; when the database refuses the data, halves it until the one bad event is found, and quarantines
/// that.
///
/// Each part moves the checkpoint in its own transaction, so a crash in the middle goes on from there.
///
/// A refusal for an unclear reason is the event's own only if another event of the batch goes through after the first
/// such refusal. Otherwise the database itself may be what fails, and the error is returned.
pub(super) async fn flush<D: Disk>(
    sink: &mut dyn EventSink,
    batch: BatchView<'_>,
    checkpoint: &mut Checkpoint,
    log: &Arc<Log<D>>,
) -> Result<(), Trouble> {
    // Parts still to do, the next one last: the checkpoint must move through them in order.
    let mut parts = vec![batch];
    let mut is_doubted = false;
    let mut went_through = false;
    while let Some(part) = parts.pop() {
        // What is flushed is in the log, so it can tell.
        let mark = Mark::of_new_commit(log.life_of(part.through()).unwrap_or_default());
        let part = part.with_marks(checkpoint.mark(), mark);
        log.begin_note(checkpoint.commit(part.wal_id(), part.through(), mark))?;
        match sink.flush_and_wait(part, noted(log)).await {
            Ok(flushed) => {
                checkpoint.confirm_applied(part, flushed);
                went_through |= is_doubted && flushed.stored > 0;
            }
            Err(SinkError::Store(StoreError::Data { code, message })) if part.len() == 1 => {
                log.sync_notes()?;
                quarantine(sink, part, &code, &message).await?;
                checkpoint.confirm_quarantined(part);
            }
            Err(SinkError::Store(StoreError::Unclear { code, message })) if part.len() == 1 => {
                went_through = went_through || another_would_go_through(sink, part, &parts).await?;
                if !went_through {
                    return Err(StoreError::Unclear { code, message }.into());
                }
                log.sync_notes()?;
                quarantine(sink, part, &code, &message).await?;
                checkpoint.confirm_quarantined(part);
            }
            Err(SinkError::Store(error @ (StoreError::Data { .. } | StoreError::Unclear { .. }))) => {
                is_doubted |= matches!(error, StoreError::Unclear { .. });
                let (left, right) = part.split_at(part.len() / 2);
                parts.push(right);
                parts.push(left);
            }
            Err(error) => return Err(error.into()),
        }
        // A store that never waits (SQLite) would otherwise not hear of a stop before the last part.
        yield_now().await;
    }
    Ok(())
}

/// Begins to wait, on a thread of its own, until what was noted is on disk.
fn noted<D: Disk>(log: &Arc<Log<D>>) -> BeforeCommit<'static> {
    let log = Arc::clone(log);
    let syncing = spawn_blocking(move || log.sync_notes());
    Box::pin(async move {
        // The log keeps its failure, and ends the flush with it when the next commit is to be noted.
        let failed = |text: String| Err(StoreError::Unavailable(text));
        match syncing.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => failed(format!("not tried, because it cannot be noted: {error}")),
            Err(error) => failed(format!("not tried, because noting it ended: {error}")),
        }
    })
}

/// Whether the database takes any of the next events in the place of the one that it refuses. They cannot be stored
/// before it, because the checkpoint moves in order; without this look the first event of a batch could never be told
/// from a database that fails.
async fn another_would_go_through(
    sink: &mut dyn EventSink,
    refused: BatchView<'_>,
    rest: &[BatchView<'_>],
) -> Result<bool, SinkError> {
    // The next part is the last one.
    let next = rest.iter().rev().flat_map(BatchView::encoded);
    for encoded in next.take(WITNESSES) {
        let mut witness = Batch::new(refused.wal_id(), refused.after());
        witness.push(encoded);
        let view = witness.view().with_marks(refused.from(), refused.to());
        match sink.rehearse(view).await {
            Ok(flushed) if flushed.stored > 0 => return Ok(true),
            Ok(_) | Err(SinkError::Store(StoreError::Data { .. } | StoreError::Unclear { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

async fn quarantine(sink: &mut dyn EventSink, part: BatchView<'_>, code: &str, message: &str) -> Result<(), SinkError> {
    let sequence = part.through();
    // Before it is done: if the answer to its commit gets lost, this line is all that names the event.
    tracing::error!(
        sequence,
        code,
        "the database refuses the event at sequence {sequence}, quarantining it: {message}"
    );
    sink.quarantine(part, code, message).await.map_err(|error| match error {
        SinkError::Store(StoreError::Data { code, message }) => StoreError::Schema(format!(
            "the event at sequence {sequence} is refused by events and by quarantine too: {message} ({code}); look for \
             constraints or triggers on the table quarantine"
        ))
        .into(),
        other => other,
    })
}
