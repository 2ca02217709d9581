//! What a flush adds to the rollups, and which of its events with an id were stored.
//!
//! Invariant: deltas count exactly the rows that their own transaction stored. Either all events without an id are
//! stored or none is. Events with an id go through a temporary table, because COPY cannot skip rows that exist already,
//! and the merge returns the rows that were stored if some were not. Each of the others must exist already, or the
//! batch fails.

use bytes::{BufMut as _, BytesMut};
use futures_util::future::try_join;
use tokio_postgres::{Client, Row, Statement};

use super::copy::{self, POSTGRES_EPOCH_MICROS, length, put_text};
use super::copy_in::{self, CopyIn, EncodedRows};
use super::error::StatementError;
use super::instant::Instant;
use crate::rollup::fold::{DeltaRef, Fold};
use crate::wal::batch::BatchView;

/// The columns of `rollup_deltas`, in the order in which deltas are written.
pub(super) const COLUMNS: &str = "event_name, channel, bucket, minutes, events, users";

const FIELDS: i16 = 6;

/// Whether a staged row is not in `events` after the merge. A statement of its own, because the snapshot of the merge
/// shows neither its own rows nor those that a concurrent merge committed; planned anew each time, because a plan from
/// when `events` was empty would read all of it.
const DROPPED: &str = "SELECT EXISTS (SELECT FROM events_staging AS staged WHERE NOT EXISTS (
    SELECT FROM events WHERE events.user_id = staged.user_id AND events.ts = staged.ts AND events.event_id = staged.event_id))";

/// The temporary table and its statements, prepared once a connection.
#[derive(Clone)]
pub(super) struct Staging {
    /// Copies events into the temporary table.
    pub(super) copy: Statement,
    merge: Statement,
}

impl Staging {
    /// Must run outside the transaction of a batch: a rollback would remove the table again.
    pub(super) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        client
            .batch_execute("CREATE TEMPORARY TABLE IF NOT EXISTS events_staging (LIKE events) ON COMMIT DELETE ROWS")
            .await?;
        let columns = copy::COLUMNS;
        Ok(Self {
            copy: client
                .prepare(&copy_in::sql("events_staging", columns))
                .await?,
            // Counted by what RETURNING returns: these rows were stored, whatever triggers or rules do to the command
            // tag. The stored rows come back only if they are fewer than the $1 that were sent, so most batches cost
            // one row. The conflict has a target: a row that breaks another unique index, the user's own, is no
            // duplicate, and must not vanish. Sorted, because each insert waits for an equal key that another server is
            // about to commit, and two servers could wait for each other.
            merge: client
                .prepare(&format!(
                    "WITH stored AS (
                         INSERT INTO events ({columns}) SELECT {columns} FROM events_staging ORDER BY ts, user_id, event_id
                         ON CONFLICT (user_id, ts, event_id) WHERE event_id IS NOT NULL DO NOTHING
                         RETURNING ts, event_name, channel, user_id
                     ), counted AS (SELECT count(*) AS rows FROM stored)
                     SELECT rows, NULL::timestamptz, NULL::text, NULL::text, NULL::text FROM counted
                     UNION ALL
                     SELECT NULL, ts, event_name, channel, user_id FROM stored WHERE (SELECT rows FROM counted) <> $1"
                ))
                .await?,
        })
    }

    /// Sends the batch's events with an id and stores those that are new. The merge statement is sent right after the
    /// rows, in the same round trip.
    pub(super) async fn merge(
        &self,
        client: &Client,
        copy: CopyIn,
        batch: BatchView<'_>,
        with_id: usize,
    ) -> Result<Merged, StatementError> {
        let events = batch.events().filter(|event| event.event_id.is_some());
        let sent = i64::try_from(with_id).expect("a batch fits into memory");
        // In this order: if the rows fail, their error is the cause of the error that the merge gets.
        let (copied, rows) = try_join(copy.send(events, copy::put_row), client.query(&self.merge, &[&sent])).await?;
        copied.must_be_all("events_staging")?;
        let mut merged = Merged { count: 0, stored: None };
        let mut stored = Vec::with_capacity(rows.len().saturating_sub(1));
        for row in rows {
            match row.try_get::<_, Option<i64>>(0)? {
                Some(count) => merged.count = count,
                None => stored.push(row),
            }
        }
        if merged.count != sent {
            if client.query_one(DROPPED, &[]).await?.try_get(0)? {
                return Err(copy_in::dropped().into());
            }
            merged.stored = Some(stored);
        }
        Ok(merged)
    }
}

/// What a merge stored.
pub(super) struct Merged {
    count: i64,
    /// The rows that were stored; `None` if all were.
    stored: Option<Vec<Row>>,
}

impl Merged {
    /// Number of rows that were stored.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.count).expect("a count is not negative")
    }

    /// Adds the rows that were stored to a fold.
    pub(super) fn fold_into<'a>(&'a self, fold: &mut Fold<'a>, batch: BatchView<'a>) -> Result<(), StatementError> {
        let Some(stored) = &self.stored else {
            let events = batch.events().filter(|event| event.event_id.is_some());
            events.for_each(|event| fold.add(&event));
            return Ok(());
        };
        for row in stored {
            let Instant(timestamp) = row.try_get(1)?;
            fold.add_one(row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, timestamp);
        }
        Ok(())
    }
}

/// Ends a fold; returns its deltas as they will be sent.
pub(super) fn encode(fold: Fold<'_>) -> EncodedRows {
    EncodedRows::of(fold.finish().into_iter(), put_row)
}

/// Stores the deltas of a fold.
pub(super) async fn write(client: &Client, statement: &Statement, deltas: EncodedRows) -> Result<(), StatementError> {
    if deltas.is_empty() {
        return Ok(());
    }
    let copy = copy_in::start(client, statement).await?;
    copy.send_encoded(deltas).await?.must_be_all("rollup_deltas")
}

/// Appends one delta in the form of [`copy`]: `bucket` like `ts`, `minutes` an i16, `events` an i64, `users` its bytes.
///
/// # Panics
///
/// Beyond 2^63 events.
fn put_row(out: &mut BytesMut, delta: &DeltaRef<'_>) {
    out.put_i16(FIELDS);
    put_text(out, delta.event_name);
    put_text(out, delta.channel);
    out.put_i32(8);
    out.put_i64(delta.bucket.start.as_micros() - POSTGRES_EPOCH_MICROS);
    out.put_i32(2);
    out.put_i16(delta.bucket.width.minutes());
    out.put_i32(8);
    out.put_i64(i64::try_from(delta.events).expect("a count fits into 63 bits"));
    let users = delta.users.encode();
    out.put_i32(length(users.len()));
    out.put_slice(&users);
}
