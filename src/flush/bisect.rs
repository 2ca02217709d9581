//! Flushes one batch into the store, and quarantines the events that the database refuses.

use std::sync::Arc;

use tokio::task::{spawn_blocking, yield_now};

use super::checkpoint::Checkpoint;
use super::look::Trouble;
use crate::store::{BeforeCommit, EventSink, SinkError, StoreError};
use crate::wal::Log;
use crate::wal::batch::{Batch, BatchView};
use crate::wal::disk::Disk;
use crate::wal::id::Mark;

/// How many other events are tried after one was refused for an unclear reason. If the database takes none of them, it
/// is the database that fails, not the event. Few, because while the database itself fails, every retry tries each of
/// them again.
const WITNESSES: usize = 8;

/// Flushes a batch; when the database refuses the data, halves the batch until the one bad event is found, and
/// quarantines that event.
///
/// Each part moves the checkpoint in its own transaction, so after a crash in the middle the flush goes on from the
/// last part that was stored.
///
/// A refusal for an unclear reason counts against the event only if the database takes another event of the batch after
/// the first such refusal. Otherwise the database itself may be failing, and the error is returned.
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
        // The event is in the log, so the log knows which life wrote it.
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
        // Without this, a store that never waits (SQLite) would not notice a stop before the last part.
        yield_now().await;
    }
    Ok(())
}

/// Starts to sync the log's notes on a thread of its own; the returned future waits until they are on disk.
fn noted<D: Disk>(log: &Arc<Log<D>>) -> BeforeCommit<'static> {
    let log = Arc::clone(log);
    let syncing = spawn_blocking(move || log.sync_notes());
    Box::pin(async move {
        // The log remembers the failure: noting the next commit fails with it, which ends the flush.
        let failed = |text: String| Err(StoreError::Unavailable(text));
        match syncing.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => failed(format!("commit not tried, because its note cannot be synced: {error}")),
            Err(error) => failed(format!("commit not tried, because syncing its note broke off: {error}")),
        }
    })
}

/// Whether the database would take any of the next events in place of the refused one. The next events cannot be stored
/// first, because the checkpoint moves in order; without this rehearsal a bad first event of a batch could not be told
/// from a failing database.
async fn another_would_go_through(
    sink: &mut dyn EventSink,
    refused: BatchView<'_>,
    rest: &[BatchView<'_>],
) -> Result<bool, SinkError> {
    // The next part is the last one of `rest`.
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
    // Logged before the quarantine: if the answer to its commit gets lost, only this line names the event.
    tracing::error!(
        sequence,
        code,
        "the database refuses the event at sequence {sequence}, quarantining it: {message}"
    );
    sink.quarantine(part, code, message).await.map_err(|error| match error {
        SinkError::Store(StoreError::Data { code, message }) => StoreError::Schema(format!(
            "the event at sequence {sequence} is refused by the table events and also by quarantine: {message} \
             ({code}); look for constraints or triggers on the table quarantine"
        ))
        .into(),
        other => other,
    })
}
