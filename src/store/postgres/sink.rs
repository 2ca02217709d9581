//! The flush: batches of events into PostgreSQL by binary COPY, exactly once.
//!
//! One transaction a batch, and its first statement moves the checkpoint by compare-and-set. Whatever happens to a
//! transaction (its reply lost, its session still open on the server), any other transaction that stores the same
//! events must move the same row first, so at most one of them commits. What the stored events add to the rollups goes
//! into the same transaction.
//!
//! A batch costs six round trips: BEGIN, settings and checkpoint; start and end of the COPY of events (with ids, the
//! end together with the merge); start and end of the COPY of deltas; COMMIT. A batch that mixes events with and
//! without ids costs two more. No COPY is started ahead of a reply: tokio-postgres sends one Sync too many after a COPY
//! that the server would not start, and loses track of the replies.
//!
//! It runs on tokio-postgres itself, because diesel-async has no COPY and hides the SQLSTATE that errors are classified
//! by.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::connect::Session;
use super::copy;
use super::copy_in;
use super::deltas::{self, Staging};
use super::error::{FlushFailure, StatementError, bounded, no_event_to_blame};
use super::lineage::{self, last_row_count};
use super::partitions::{Month, Months, Partitions};
use super::rollups::no_state;
use super::transaction::{DURABLE, IDLE_TIMEOUT, LOCK_TIMEOUT};
use crate::event::Timestamp;
use crate::rollup::UserKey;
use crate::rollup::fold::Fold;
use crate::store::{Adoption, BeforeCommit, EventSink, Flushed, SinkError, StoreError, quarantine};
use crate::wal::batch::BatchView;
use crate::wal::id::{CheckpointRow, DatabaseId, Sequence, WalId};

/// One session that flushes, and what is known about its database.
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
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; {DURABLE}; {LOCK_TIMEOUT}; {IDLE_TIMEOUT}; \
             SET LOCAL statement_timeout = {}; ",
            self.flush_timeout.as_millis().max(1)
        )
    }

    /// Begins the transaction of a batch and moves the checkpoint over it. Counts its events in `column`. Returns the
    /// key for hashing users: changing that key waits for all transactions that have moved a checkpoint.
    async fn begin_and_move(&self, batch: BatchView<'_>, column: &str) -> Result<UserKey, FlushFailure> {
        let (wal_id, after) = (batch.wal_id(), batch.after());
        let (from, to) = (batch.from(), batch.to());
        let expected = format!(
            "wal_id = '{wal_id}' AND flushed_through = {after} AND life = '{}' AND token = '{}'",
            from.life, from.token
        );
        let moved = format!(
            "{begin}UPDATE wal_checkpoints SET flushed_through = {through}, life = '{life}', token = '{token}', \
             {column} = {column} + {len}, flushed_at = now() WHERE {expected} \
             RETURNING (SELECT coalesce(user_key::text, '') FROM rollup_state)",
            begin = self.begin(),
            through = batch.through(),
            life = to.life,
            token = to.token,
            len = batch.len(),
        );
        let moving = bounded(self.flush_timeout, self.client().simple_query(&moved)).await;
        let replies = moving.map_err(|failure| no_event_to_blame("wal_checkpoints", failure))?;
        match last_row_count(&replies) {
            1 => {}
            0 => return Err(FlushFailure::CheckpointMoved),
            // The primary key forbids this; without it nothing in this table can be trusted.
            rows => {
                let text = format!("wal_checkpoints holds {rows} rows for one log");
                return Err(StoreError::Schema(text).into());
            }
        }
        let user_key = lineage::last_row(&replies).and_then(|row| UserKey::parse(row.get(0)?));
        let user_key = user_key.ok_or_else(no_state)?;
        if from.life == to.life {
            return Ok(user_key);
        }
        // Once a life: a round trip of its own does not matter.
        let begin = lineage::begin_life(wal_id, after + 1, to.life);
        bounded(self.flush_timeout, self.client().batch_execute(&begin))
            .await
            .map_err(|failure| no_event_to_blame("wal_lives", failure))?;
        Ok(user_key)
    }

    async fn commit(&self) -> Result<(), StatementError> {
        bounded(self.flush_timeout, self.client().batch_execute("COMMIT")).await
    }

    /// Commits, and first corrects the batch's counts: all its events were counted as new. In one message, so it costs
    /// no round trip.
    async fn commit_with_duplicates(&self, wal_id: WalId, duplicates: u64) -> Result<(), StatementError> {
        if duplicates == 0 {
            return self.commit().await;
        }
        let commit = format!(
            "UPDATE wal_checkpoints SET applied = applied - {duplicates}, duplicates = duplicates + {duplicates} \
             WHERE wal_id = '{wal_id}'; COMMIT"
        );
        bounded(self.flush_timeout, self.client().batch_execute(&commit)).await
    }

    /// Ends a transaction that failed. If the caller may go on with this connection, it must be outside a transaction.
    async fn rollback_after(&self, failure: FlushFailure) -> FlushFailure {
        let goes_on = matches!(
            failure,
            FlushFailure::CheckpointMoved
                | FlushFailure::Statement(
                    StatementError::NoPartition(_)
                        | StatementError::Store(StoreError::Data { .. } | StoreError::Unclear { .. })
                )
        );
        if !goes_on {
            return failure;
        }
        match bounded(self.flush_timeout, self.client().batch_execute("ROLLBACK")).await {
            Ok(()) => failure,
            Err(broken) => broken.into(),
        }
    }

    async fn ensure_partitions(&mut self, months: &[Month]) -> Result<(), StatementError> {
        let Self {
            session,
            partitions,
            flush_timeout,
            ..
        } = self;
        bounded(*flush_timeout, partitions.ensure(&session.client, months)).await
    }

    /// Prepares what the batch needs, outside its transaction: a rollback would take the temporary table along.
    async fn prepare(&mut self, staging_needed: bool) -> Result<(), StatementError> {
        let client = &self.session.client;
        if self.statements.is_none() {
            let events = copy_in::sql("events", copy::COLUMNS);
            let deltas = copy_in::sql("rollup_deltas", deltas::COLUMNS);
            let preparing = try_join(client.prepare(&events), client.prepare(&deltas));
            let (copy_events, copy_deltas) = bounded(self.flush_timeout, preparing).await?;
            self.statements = Some(Statements {
                copy_events,
                copy_deltas,
                staging: None,
            });
        }
        let statements = self.statements.as_mut().expect("prepared above");
        if staging_needed && statements.staging.is_none() {
            statements.staging = Some(bounded(self.flush_timeout, Staging::prepare(client)).await?);
        }
        Ok(())
    }

    /// One attempt at the whole transaction. Takes `before_commit` only when it comes to waiting for it.
    async fn store(
        &self,
        batch: BatchView<'_>,
        shape: &Shape,
        before_commit: &mut Option<BeforeCommit<'_>>,
    ) -> Result<Flushed, FlushFailure> {
        let flushed = self.store_uncommitted(batch, shape).await?;
        if let Some(before_commit) = before_commit.take() {
            before_commit.await?;
        }
        self.commit_with_duplicates(batch.wal_id(), flushed.duplicates).await?;
        Ok(flushed)
    }

    /// The transaction up to its COMMIT.
    async fn store_uncommitted(&self, batch: BatchView<'_>, shape: &Shape) -> Result<Flushed, FlushFailure> {
        let user_key = self.begin_and_move(batch, "applied").await?;
        let statements = self.statements.as_ref().expect("prepared before the transaction");
        let (client, limit) = (self.client(), self.flush_timeout);
        let staging = statements.staging.as_ref().filter(|_| shape.with_id > 0);
        let without_id = batch.len() - shape.with_id;
        // Declared before the fold, which borrows names from it.
        let merged;
        let mut fold = Fold::new(Timestamp::now(), user_key);
        let mut copying = None;
        if without_id > 0 {
            let mut copy = bounded(limit, copy_in::start(client, &statements.copy_events)).await?;
            let events = batch.events().filter(|event| event.event_id.is_none());
            // Folded in the same pass, while the server stores what was sent.
            let events = events.inspect(|event| fold.add(event));
            bounded(limit, copy.feed(events, copy::put_row)).await?;
            copying = Some(copy);
        }
        let stored_all = async {
            match copying {
                Some(copy) => bounded(limit, copy.finish()).await?.must_be_all_events(),
                None => Ok(()),
            }
        };
        let (merged_count, rollup_deltas) = match staging {
            None => {
                // The server is still storing rows, so this costs no time.
                let rollup_deltas = deltas::encode(fold);
                stored_all.await?;
                (0, rollup_deltas)
            }
            Some(staging) => {
                stored_all.await?;
                let copy = bounded(limit, copy_in::start(client, &staging.copy)).await?;
                merged = bounded(limit, staging.merge(client, copy, batch, shape.with_id)).await?;
                merged.fold_into(&mut fold, batch)?;
                (merged.count(), deltas::encode(fold))
            }
        };
        let writing = deltas::write(client, &statements.copy_deltas, rollup_deltas);
        bounded(limit, writing)
            .await
            .map_err(|failure| no_event_to_blame("rollup_deltas", failure))?;
        let duplicates = shape.with_id as u64 - merged_count;
        Ok(Flushed {
            stored: without_id as u64 + merged_count,
            duplicates,
        })
    }

    async fn store_in_quarantine(&self, batch: BatchView<'_>, code: &str, message: &str) -> Result<(), FlushFailure> {
        let encoded = batch.encoded().next().expect("a batch of one event");
        let event = batch.events().next().expect("a batch of one event");
        self.begin_and_move(batch, "quarantined").await?;
        let (wal_id, sequence) = (batch.wal_id().to_string(), as_bigint(batch.through()));
        let (code, message) = (quarantine::without_nul(code), quarantine::without_nul(message));
        let readable = quarantine::readable(&event);
        let insert = "INSERT INTO quarantine (wal_id, sequence, code, message, readable, encoded) \
                      VALUES ($1::text::uuid, $2, $3, $4, $5, $6)";
        let values: [&(dyn ToSql + Sync); 6] = [&wal_id, &sequence, &code, &message, &readable, &encoded];
        bounded(self.flush_timeout, self.client().execute(insert, &values)).await?;
        Ok(self.commit().await?)
    }
}

#[async_trait]
impl EventSink for PostgresSink {
    fn is_closed(&self) -> bool {
        self.client().is_closed()
    }

    async fn checkpoint(&mut self, wal_id: WalId) -> Result<Option<CheckpointRow>, StoreError> {
        lineage::checkpoint(self.client(), &self.begin(), wal_id, self.flush_timeout).await
    }

    async fn database_id(&mut self) -> Result<DatabaseId, StoreError> {
        lineage::database_id(self.client(), self.flush_timeout).await
    }

    async fn adopt(&mut self, adoption: &Adoption) -> Result<(), SinkError> {
        lineage::adopt(self.client(), &self.begin(), adoption, self.flush_timeout).await
    }

    async fn flush_and_wait(
        &mut self,
        batch: BatchView<'_>,
        before_commit: BeforeCommit<'_>,
    ) -> Result<Flushed, SinkError> {
        let mut before_commit = Some(before_commit);
        if batch.is_empty() {
            return Ok(Flushed {
                stored: 0,
                duplicates: 0,
            });
        }
        let shape = Shape::of(batch);
        self.prepare(shape.with_id > 0).await?;
        self.ensure_partitions(shape.months.seen()).await?;
        let failure = match self.store(batch, &shape, &mut before_commit).await {
            Ok(flushed) => return Ok(flushed),
            Err(failure) => self.rollback_after(failure).await,
        };
        let FlushFailure::Statement(StatementError::NoPartition(message)) = failure else {
            return Err(failure.into());
        };
        tracing::warn!("a partition is not attached any more, reading the partitions again: {message}");
        self.partitions.forget();
        self.ensure_partitions(shape.months.seen()).await?;
        match self.store(batch, &shape, &mut before_commit).await {
            Ok(flushed) => Ok(flushed),
            Err(failure) => Err(self.rollback_after(failure).await.into()),
        }
    }

    async fn quarantine(&mut self, batch: BatchView<'_>, code: &str, message: &str) -> Result<(), SinkError> {
        assert_eq!(batch.len(), 1, "quarantine takes one event");
        match self.store_in_quarantine(batch, code, message).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.rollback_after(failure).await.into()),
        }
    }

    async fn rehearse(&mut self, batch: BatchView<'_>) -> Result<Flushed, SinkError> {
        let shape = Shape::of(batch);
        self.prepare(shape.with_id > 0).await?;
        self.ensure_partitions(shape.months.seen()).await?;
        let rehearsed: Result<_, FlushFailure> = async {
            let flushed = self.store_uncommitted(batch, &shape).await?;
            // Deferred constraints must be checked as well.
            let deferred = self.client().batch_execute("SET CONSTRAINTS ALL IMMEDIATE");
            bounded(self.flush_timeout, deferred).await?;
            bounded(self.flush_timeout, self.client().batch_execute("ROLLBACK")).await?;
            Ok(flushed)
        }
        .await;
        match rehearsed {
            Ok(flushed) => Ok(flushed),
            Err(failure) => Err(self.rollback_after(failure).await.into()),
        }
    }
}

/// What has to be known of a batch before its transaction begins.
struct Shape {
    months: Months,
    with_id: usize,
}

impl Shape {
    fn of(batch: BatchView<'_>) -> Self {
        let mut shape = Self {
            months: Months::default(),
            with_id: 0,
        };
        for (timestamp, has_event_id) in batch.heads() {
            shape.months.add(timestamp);
            shape.with_id += usize::from(has_event_id);
        }
        shape
    }
}

/// # Panics
///
/// Beyond 2^63 events, which no log can reach.
fn as_bigint(sequence: Sequence) -> i64 {
    i64::try_from(sequence).expect("a sequence fits into 63 bits")
}
