//! One batch into the store, around the events that the database refuses.

use tokio::task::yield_now;

use super::checkpoint::Checkpoint;
use crate::batch::BatchView;
use crate::store::{EventSink, StoreError};

/// Flushes a batch; when the database refuses the data, halves it until the one bad event is found, and quarantines that.
///
/// Each part moves the checkpoint in its own transaction, so a crash in the middle goes on from there.
pub(super) async fn flush(
    sink: &mut dyn EventSink,
    batch: BatchView<'_>,
    checkpoint: &mut Checkpoint,
) -> Result<(), StoreError> {
    // Parts still to do, the next one last: the checkpoint must move through them in order.
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        checkpoint.attempt(part.through());
        match sink.flush(part).await {
            Ok(_) => checkpoint.confirm(part.through()),
            Err(StoreError::Data { code, message }) if part.len() == 1 => {
                quarantine(sink, part, &code, &message).await?;
                checkpoint.confirm(part.through());
            }
            Err(StoreError::Data { .. }) => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.push(right);
                parts.push(left);
            }
            Err(error) => return Err(error),
        }
        // A store that never waits (SQLite) would otherwise not hear of a stop before the last part.
        yield_now().await;
    }
    Ok(())
}

async fn quarantine(
    sink: &mut dyn EventSink,
    part: BatchView<'_>,
    code: &str,
    message: &str,
) -> Result<(), StoreError> {
    let sequence = part.through();
    // Before it is done: if the answer to its commit gets lost, this line is all that names the event.
    tracing::error!(
        sequence,
        code,
        "the database refuses the event at sequence {sequence}, quarantining it: {message}"
    );
    sink.quarantine(part, code, message).await.map_err(|error| match error {
        StoreError::Data { code, message } => StoreError::Schema(format!(
            "the event at sequence {sequence} is refused by events and by quarantine too: {message} ({code}); look for \
             constraints or triggers on the table quarantine"
        )),
        other => other,
    })
}
