//! Rows streamed through a prepared COPY, in messages of a good size.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::{Client, CopyInSink, Statement};

use super::copy;
use super::error::Failure;
use crate::store::StoreError;

/// Size of one COPY message. Large enough that messages cost nothing, small enough that both ends work at the same time.
const CHUNK_BYTES: usize = 128 * 1024;
/// Room for the row that crosses the end of a chunk; a larger row grows the buffer.
const ROW_BYTES: usize = 4 * 1024;

/// The statement that takes rows of these columns.
pub(super) fn sql(table: &str, columns: &str) -> String {
    format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)")
}

/// Starts a prepared COPY. Dropped without [`CopyIn::send`], it fails and stores nothing.
pub(super) async fn start(
    client: &Client,
    statement: &Statement,
) -> Result<CopyIn, tokio_postgres::Error> {
    Ok(CopyIn(Box::pin(client.copy_in(statement).await?)))
}

/// A COPY that the server waits for.
pub(super) struct CopyIn(Pin<Box<CopyInSink<Bytes>>>);

impl CopyIn {
    /// Sends rows, each encoded by `put_row`, and ends the COPY.
    pub(super) async fn send<T: Send>(
        mut self,
        rows: impl Iterator<Item = T> + Send,
        put_row: fn(&mut BytesMut, &T),
    ) -> Result<Copied, tokio_postgres::Error> {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES + ROW_BYTES);
        copy::put_header(&mut chunk);
        let mut sent = 0;
        for row in rows {
            put_row(&mut chunk, &row);
            sent += 1;
            if chunk.len() >= CHUNK_BYTES {
                self.0.feed(chunk.split().freeze()).await?;
                chunk.reserve(CHUNK_BYTES + ROW_BYTES);
            }
        }
        copy::put_trailer(&mut chunk);
        self.0.feed(chunk.freeze()).await?;
        let taken = self.0.as_mut().finish().await?;
        Ok(Copied { sent, taken })
    }
}

/// What became of the rows of a COPY.
#[derive(Debug, Clone, Copy)]
#[must_use = "rows that the server left out must not be counted"]
pub(super) struct Copied {
    sent: u64,
    taken: u64,
}

impl Copied {
    /// # Errors
    ///
    /// [`StoreError::Schema`] when the server left rows out, which only a trigger can do. Nothing tells which ones, so the rollups
    /// could only disagree with the events.
    pub(super) fn must_be_all(self, table: &str) -> Result<(), Failure> {
        let Self { sent, taken } = self;
        if sent == taken {
            return Ok(());
        }
        Err(StoreError::Schema(format!(
            "of {sent} rows for the table {table} the database kept {taken}, so a trigger on {table} leaves rows out and they cannot \
             be counted: remove the triggers on {table} that do so; nothing of the batch was stored"
        ))
        .into())
    }
}
