//! Rows streamed through a prepared COPY, in messages of [`CHUNK_BYTES`].

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::{Client, CopyInSink, Statement};

use super::copy;
use super::error::StatementError;
use crate::store::StoreError;

/// Size of one COPY message. Large enough that the overhead of messages does not matter, small enough that both ends
/// work at the same time.
const CHUNK_BYTES: usize = 128 * 1024;
/// Size of the first message: the sooner it arrives, the sooner the server works as well.
const FIRST_CHUNK_BYTES: usize = 16 * 1024;
/// Room for the row that crosses the end of a chunk; a larger row grows the buffer.
const ROW_BYTES: usize = 4 * 1024;

/// The statement that takes rows of these columns.
pub(super) fn sql(table: &str, columns: &str) -> String {
    format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)")
}

/// Starts a prepared COPY. Dropped without [`CopyIn::send`], it fails and stores nothing.
pub(super) async fn start(client: &Client, statement: &Statement) -> Result<CopyIn, tokio_postgres::Error> {
    Ok(CopyIn {
        sink: Box::pin(client.copy_in(statement).await?),
        sent: 0,
    })
}

/// A COPY that the server waits for.
pub(super) struct CopyIn {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    sent: u64,
}

impl CopyIn {
    /// Sends rows, each encoded by `put_row`, and ends the COPY.
    pub(super) async fn send<T: Send>(
        mut self,
        rows: impl Iterator<Item = T> + Send,
        put_row: fn(&mut BytesMut, &T),
    ) -> Result<Copied, tokio_postgres::Error> {
        self.feed(rows, put_row).await?;
        self.finish().await
    }

    /// Sends all rows, and returns while the server still stores the last of them.
    pub(super) async fn feed<T: Send>(
        &mut self,
        rows: impl Iterator<Item = T> + Send,
        put_row: fn(&mut BytesMut, &T),
    ) -> Result<(), tokio_postgres::Error> {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES + ROW_BYTES);
        copy::put_header(&mut chunk);
        let mut chunk_bytes = FIRST_CHUNK_BYTES;
        for row in rows {
            put_row(&mut chunk, &row);
            self.sent += 1;
            if chunk.len() >= chunk_bytes {
                self.sink.feed(chunk.split().freeze()).await?;
                chunk.reserve(CHUNK_BYTES + ROW_BYTES);
                chunk_bytes = CHUNK_BYTES;
            }
        }
        copy::put_trailer(&mut chunk);
        self.sink.feed(chunk.freeze()).await?;
        self.sink.flush().await
    }

    /// Sends rows that are encoded already, and ends the COPY.
    pub(super) async fn send_encoded(mut self, rows: EncodedRows) -> Result<Copied, tokio_postgres::Error> {
        self.sent = rows.count;
        self.sink.feed(rows.bytes).await?;
        self.finish().await
    }

    /// Ends the COPY.
    pub(super) async fn finish(mut self) -> Result<Copied, tokio_postgres::Error> {
        let taken = self.sink.as_mut().finish().await?;
        let sent = self.sent;
        Ok(Copied { sent, taken })
    }
}

/// All rows of a COPY, as they go over the wire.
pub(super) struct EncodedRows {
    bytes: Bytes,
    count: u64,
}

impl EncodedRows {
    /// Encodes rows by `put_row`.
    pub(super) fn of<T>(rows: impl Iterator<Item = T>, put_row: fn(&mut BytesMut, &T)) -> Self {
        let mut bytes = BytesMut::new();
        let mut count = 0;
        copy::put_header(&mut bytes);
        for row in rows {
            put_row(&mut bytes, &row);
            count += 1;
        }
        copy::put_trailer(&mut bytes);
        Self {
            bytes: bytes.freeze(),
            count,
        }
    }

    /// Whether there are no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
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
    /// Checks the count for rows of `events`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Data`] when the server left rows out. Halving the batch finds out which ones.
    pub(super) fn must_be_all_events(self) -> Result<(), StatementError> {
        if self.sent == self.taken {
            return Ok(());
        }
        Err(dropped().into())
    }

    /// Checks the count for rows of this program's own tables.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] when the server left rows out, which only a trigger can do.
    pub(super) fn must_be_all(self, table: &str) -> Result<(), StatementError> {
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

/// The error for an event that a trigger on `events` left out.
pub(super) fn dropped() -> StoreError {
    StoreError::Data {
        code: "dropped".to_owned(),
        message: "a trigger on events leaves the row out, or changes its user_id, ts or event_id".to_owned(),
    }
}
