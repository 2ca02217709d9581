//! The flush: batches of events into PostgreSQL by binary COPY, exactly once.
//!
//! One transaction a batch, and its first statement moves the checkpoint by compare-and-set. Whatever else happens to a
//! transaction of ours (its reply lost, its session a zombie), another one that stored the same events must have moved the same
//! row first, so at most one of them commits. The last rows of the transaction are the rollups' deltas, folded from exactly the events
//! that it stores. Settings ride in the same message as BEGIN, so a batch costs six round trips, and two more if events carry ids.
//!
//! It runs on tokio-postgres itself, because diesel-async has no COPY and hides the SQLSTATE that errors are classified by.

use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, CopyInSink, Row, SimpleQueryMessage, Statement};

use super::connect::Session;
use super::copy;
use super::deltas;
use super::error::{Failure, bounded};
use super::instant::Instant;
use super::partitions::{self, Partitions};
use crate::batch::{BatchView, Sequence, WalId};
use crate::event::Timestamp;
use crate::rollup::fold::Fold;
use crate::store::{EventSink, Flushed, StoreError, quarantine};

/// Longest wait for a lock, most of all for the checkpoint's row while a lost session still holds it.
pub(super) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'";
/// A transaction whose client falls silent between two statements ends by itself after this time, and lets go of the
/// checkpoint. In the middle of a COPY no timeout of the server applies: there its keepalives find out that the client is gone.
const IDLE_TIMEOUT: &str = "SET LOCAL idle_in_transaction_session_timeout = '30s'";
/// Size of one COPY message. Large enough that messages cost nothing, small enough that both ends work at the same time.
const CHUNK_BYTES: usize = 128 * 1024;
/// Room for the row that crosses the end of a chunk; a larger row grows the buffer.
const ROW_BYTES: usize = 4 * 1024;

/// A connection that flushes.
pub(super) struct PostgresSink {
    session: Session,
    flush_timeout: Duration,
    partitions: Partitions,
    statements: Option<Statements>,
}

/// What is prepared once a connection.
struct Statements {
    copy_events: Statement,
    copy_deltas: Statement,
    /// For events with an `event_id`; made when the first one comes.
    staging: Option<Staging>,
}

/// Events with an id go through a temporary table, because COPY cannot skip what is there already.
#[derive(Clone)]
struct Staging {
    copy: Statement,
    merge: Statement,
}

impl PostgresSink {
    /// A sink over a fresh session.
    pub(super) fn new(session: Session, flush_timeout: Duration) -> Self {
        Self {
            session,
            flush_timeout,
            partitions: Partitions::default(),
            statements: None,
        }
    }

    fn client(&self) -> &Client {
        &self.session.client
    }

    /// BEGIN and the settings of every transaction here, each statement ended by a semicolon.
    fn begin(&self) -> String {
        // A server whose default is off would confirm what it may still lose, and the log is deleted on its word.
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on; {LOCK_TIMEOUT}; {IDLE_TIMEOUT}; \
             SET LOCAL statement_timeout = {}; ",
            self.flush_timeout.as_millis().max(1)
        )
    }

    /// Begins the transaction of a batch and moves the checkpoint over it.
    async fn begin_and_move(&self, batch: BatchView<'_>) -> Result<(), Failure> {
        let moved = format!(
            "{begin}UPDATE wal_checkpoints SET flushed_through = {through}, updated_at = now() \
             WHERE wal_id = '{wal_id}' AND flushed_through = {after}",
            begin = self.begin(),
            through = batch.through(),
            wal_id = batch.wal_id(),
            after = batch.after(),
        );
        let replies = bounded(self.flush_timeout, self.client().simple_query(&moved)).await?;
        match last_row_count(&replies) {
            1 => Ok(()),
            0 => Err(StoreError::CheckpointMoved.into()),
            // The primary key forbids it; if it is gone, nothing here may be trusted.
            rows => Err(StoreError::Schema(format!(
                "wal_checkpoints holds {rows} rows for one log"
            ))
            .into()),
        }
    }

    async fn commit(&self) -> Result<(), Failure> {
        bounded(self.flush_timeout, self.client().batch_execute("COMMIT")).await
    }

    /// Ends a transaction that failed. Where the caller may go on with this connection, it must be clean.
    async fn rollback_after(&self, failure: Failure) -> Failure {
        let goes_on = matches!(
            failure,
            Failure::NoPartition(_)
                | Failure::Store(StoreError::Data { .. } | StoreError::CheckpointMoved)
        );
        if !goes_on {
            return failure;
        }
        match bounded(self.flush_timeout, self.client().batch_execute("ROLLBACK")).await {
            Ok(()) => failure,
            Err(broken) => broken,
        }
    }

    async fn ensure_partitions(&mut self, months: &[partitions::Month]) -> Result<(), Failure> {
        let Self {
            session,
            partitions,
            flush_timeout,
            ..
        } = self;
        bounded(*flush_timeout, partitions.ensure(&session.client, months)).await
    }

    /// Prepares what the batch needs, outside its transaction: a rollback would take the temporary table along.
    async fn prepare(&mut self, staging_needed: bool) -> Result<(), Failure> {
        let client = &self.session.client;
        if self.statements.is_none() {
            let (events, deltas) = (
                copy_sql("events", copy::COLUMNS),
                copy_sql("rollup_deltas", deltas::COLUMNS),
            );
            self.statements = Some(Statements {
                copy_events: bounded(self.flush_timeout, client.prepare(&events)).await?,
                copy_deltas: bounded(self.flush_timeout, client.prepare(&deltas)).await?,
                staging: None,
            });
        }
        let statements = self.statements.as_mut().expect("prepared above");
        if staging_needed && statements.staging.is_none() {
            statements.staging = Some(bounded(self.flush_timeout, prepare_staging(client)).await?);
        }
        Ok(())
    }

    /// One attempt at the transaction.
    async fn store(&self, batch: BatchView<'_>, shape: &Shape) -> Result<Flushed, Failure> {
        self.begin_and_move(batch).await?;
        let statements = self
            .statements
            .as_ref()
            .expect("prepared before the transaction");
        let with_id = shape.with_id as u64;
        let merged = match &statements.staging {
            Some(staging) if with_id > 0 => self.merge(staging, batch).await?,
            _ => Merged::default(),
        };
        let mut fold = Fold::new(Timestamp::now());
        match &merged.rows {
            None => batch
                .events()
                .filter(|event| event.event_id.is_some())
                .for_each(|event| fold.add(&event)),
            Some(rows) => {
                for row in rows {
                    let Instant(ts) = row.try_get(1)?;
                    fold.add_one(row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, ts);
                }
            }
        }
        let plain = batch.len() as u64 - with_id;
        if plain > 0 {
            // Folded on the way, while the server is busy with the rows before.
            let events = batch
                .events()
                .filter(|event| event.event_id.is_none())
                .inspect(|event| fold.add(event));
            let copied = self
                .copy_in(&statements.copy_events, events, |out, event| {
                    copy::put_row(out, &event);
                })
                .await?;
            if copied != plain {
                // The rollups could not know which.
                return Err(StoreError::Schema(format!(
                    "{} of {plain} events were dropped on their way into the table: look for triggers or rules on events",
                    plain - copied.min(plain)
                ))
                .into());
            }
        }
        let deltas = fold.finish().into_iter();
        self.copy_in(&statements.copy_deltas, deltas, |out, delta| {
            deltas::put_row(out, &delta);
        })
        .await?;
        self.commit().await?;
        Ok(Flushed {
            stored: plain + merged.stored,
            duplicates: with_id - merged.stored,
        })
    }

    /// Stores the events with an id that are not there yet.
    async fn merge(&self, staging: &Staging, batch: BatchView<'_>) -> Result<Merged, Failure> {
        let events = batch.events().filter(|event| event.event_id.is_some());
        self.copy_in(&staging.copy, events, |out, event| {
            copy::put_row(out, &event);
        })
        .await?;
        let merge = self.client().query(&staging.merge, &[]);
        let mut rows = bounded(self.flush_timeout, merge).await?;
        let mut stored = None;
        for row in &rows {
            stored = stored.or(row.try_get::<_, Option<i64>>(0)?);
        }
        rows.retain(|row| row.try_get::<_, Option<i64>>(0).is_ok_and(|n| n.is_none()));
        let stored = stored.and_then(|stored| u64::try_from(stored).ok());
        let stored = stored.expect("the statement counts");
        let staged = batch
            .events()
            .filter(|event| event.event_id.is_some())
            .count() as u64;
        Ok(Merged {
            stored,
            rows: (stored != staged).then_some(rows),
        })
    }

    /// Streams rows through a prepared COPY, each put by `put`; returns how many the server took.
    async fn copy_in<T>(
        &self,
        statement: &Statement,
        rows: impl Iterator<Item = T> + Send,
        put: impl Fn(&mut BytesMut, T) + Send,
    ) -> Result<u64, Failure> {
        bounded(
            self.flush_timeout,
            copy_in(self.client(), statement, rows, put),
        )
        .await
    }

    async fn store_in_quarantine(
        &self,
        batch: BatchView<'_>,
        code: &str,
        message: &str,
    ) -> Result<(), Failure> {
        let encoded = batch.encoded().next().expect("a batch of one event");
        let event = batch.events().next().expect("a batch of one event");
        self.begin_and_move(batch).await?;
        let (wal_id, sequence) = (batch.wal_id().to_string(), as_bigint(batch.through()));
        let (code, message) = (
            quarantine::without_nul(code),
            quarantine::without_nul(message),
        );
        let readable = quarantine::readable(&event);
        let insert = "INSERT INTO quarantine (wal_id, sequence, code, message, readable, encoded) \
                      VALUES ($1::text::uuid, $2, $3, $4, $5, $6)";
        let values: [&(dyn ToSql + Sync); 6] =
            [&wal_id, &sequence, &code, &message, &readable, &encoded];
        bounded(self.flush_timeout, self.client().execute(insert, &values)).await?;
        self.commit().await
    }
}

#[async_trait]
impl EventSink for PostgresSink {
    async fn checkpoint(&mut self, wal_id: WalId) -> Result<Option<Sequence>, StoreError> {
        let read = format!(
            "{}SELECT flushed_through FROM wal_checkpoints WHERE wal_id = '{wal_id}' FOR UPDATE; COMMIT",
            self.begin()
        );
        let replies = bounded(self.flush_timeout, self.client().simple_query(&read)).await?;
        let row = replies.iter().find_map(|reply| match reply {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        match row {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(sequence) => Ok(Some(sequence)),
                Err(_) => Err(StoreError::Schema(format!(
                    "the checkpoint of log {wal_id} is no sequence: {text}"
                ))),
            },
        }
    }

    async fn create_checkpoint(
        &mut self,
        wal_id: WalId,
        flushed_through: Sequence,
    ) -> Result<(), StoreError> {
        // The row count of COMMIT must not hide that of INSERT, hence two messages.
        let insert = format!(
            "{}INSERT INTO wal_checkpoints (wal_id, flushed_through) VALUES ('{wal_id}', {flushed_through}) \
             ON CONFLICT DO NOTHING",
            self.begin()
        );
        let replies = bounded(self.flush_timeout, self.client().simple_query(&insert)).await?;
        self.commit().await?;
        // Somebody else flushes this log: let the caller read where they are.
        if last_row_count(&replies) == 1 {
            Ok(())
        } else {
            Err(StoreError::CheckpointMoved)
        }
    }

    async fn flush(&mut self, batch: BatchView<'_>) -> Result<Flushed, StoreError> {
        if batch.is_empty() {
            return Ok(Flushed {
                stored: 0,
                duplicates: 0,
            });
        }
        let shape = Shape::of(batch);
        self.prepare(shape.with_id > 0).await?;
        self.ensure_partitions(&shape.months).await?;
        let failure = match self.store(batch, &shape).await {
            Ok(flushed) => return Ok(flushed),
            Err(failure) => self.rollback_after(failure).await,
        };
        let Failure::NoPartition(message) = failure else {
            return Err(failure.into());
        };
        tracing::warn!(message, "a partition vanished; making it again");
        self.partitions.forget();
        self.ensure_partitions(&shape.months).await?;
        match self.store(batch, &shape).await {
            Ok(flushed) => Ok(flushed),
            Err(failure) => Err(self.rollback_after(failure).await.into()),
        }
    }

    async fn quarantine(
        &mut self,
        batch: BatchView<'_>,
        code: &str,
        message: &str,
    ) -> Result<(), StoreError> {
        assert_eq!(batch.len(), 1, "quarantine takes one event");
        match self.store_in_quarantine(batch, code, message).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.rollback_after(failure).await.into()),
        }
    }
}

/// What became of the events with an id.
#[derive(Default)]
struct Merged {
    /// Number of those that were not there yet.
    stored: u64,
    /// Time, name, channel and user of each of them from the second column on; `None` when none was left out.
    rows: Option<Vec<Row>>,
}

/// What has to be known of a batch before its transaction begins.
struct Shape {
    months: Vec<partitions::Month>,
    with_id: usize,
}

impl Shape {
    fn of(batch: BatchView<'_>) -> Self {
        Self {
            months: partitions::months(batch),
            with_id: batch
                .events()
                .filter(|event| event.event_id.is_some())
                .count(),
        }
    }
}

fn copy_sql(table: &str, columns: &str) -> String {
    format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)")
}

async fn prepare_staging(client: &Client) -> Result<Staging, tokio_postgres::Error> {
    client
        .batch_execute("CREATE TEMPORARY TABLE IF NOT EXISTS events_staging (LIKE events) ON COMMIT DELETE ROWS")
        .await?;
    let columns = copy::COLUMNS;
    Ok(Staging {
        copy: client.prepare(&copy_sql("events_staging", columns)).await?,
        // Counted by what RETURNING returns: that is what was stored, whatever triggers or rules do to the command tag. The rows
        // themselves come back only when some were left out, because only then does it matter which.
        merge: client
            .prepare(&format!(
                "WITH stored AS (
                     INSERT INTO events ({columns}) SELECT {columns} FROM events_staging ON CONFLICT DO NOTHING
                     RETURNING ts, event_name, channel, user_id
                 ), counted AS (SELECT count(*) AS n FROM stored)
                 SELECT n, NULL::timestamptz, NULL, NULL, NULL FROM counted
                 UNION ALL
                 SELECT NULL, ts, event_name, channel, user_id FROM stored
                 WHERE (SELECT n FROM counted) <> (SELECT count(*) FROM events_staging)"
            ))
            .await?,
    })
}

async fn copy_in<T>(
    client: &Client,
    statement: &Statement,
    rows: impl Iterator<Item = T> + Send,
    put: impl Fn(&mut BytesMut, T) + Send,
) -> Result<u64, tokio_postgres::Error> {
    let sink: CopyInSink<Bytes> = client.copy_in(statement).await?;
    let mut sink = pin!(sink);
    let mut chunk = BytesMut::with_capacity(CHUNK_BYTES + ROW_BYTES);
    copy::put_header(&mut chunk);
    for row in rows {
        put(&mut chunk, row);
        if chunk.len() >= CHUNK_BYTES {
            sink.feed(chunk.split().freeze()).await?;
            chunk.reserve(CHUNK_BYTES + ROW_BYTES);
        }
    }
    copy::put_trailer(&mut chunk);
    sink.feed(chunk.freeze()).await?;
    sink.finish().await
}

/// The row count of the last statement in a simple query.
fn last_row_count(replies: &[SimpleQueryMessage]) -> u64 {
    let counts = replies.iter().filter_map(|reply| match reply {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    });
    counts.last().unwrap_or(0)
}

/// # Panics
///
/// Beyond 2^63 events, which takes longer than there was time so far.
fn as_bigint(sequence: Sequence) -> i64 {
    i64::try_from(sequence).expect("a sequence fits into 63 bits")
}
