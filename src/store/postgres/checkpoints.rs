//! How far logs are flushed, for requests that wait until a database has their events.
//!
//! All these requests share one session: tokio-postgres answers many callers on one connection, so that polling neither
//! opens connections nor takes those of the metrics queries.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::connect::{Connector, Session};
use super::error::{StatementError, bounded};
use crate::store::{StoreError, Stretch};
use crate::wal::id::{LifeId, Sequence};

/// Time for connecting, and again for one read.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Each stretch of a life, and where the next life begins. The last line of the statement is for receipts of releases
/// that knew no lives.
const STORED_OF: &str = "\
    SELECT l.first_sequence, c.flushed_through, \
    (SELECT min(n.first_sequence) FROM wal_lives n WHERE n.wal_id = l.wal_id AND n.first_sequence > l.first_sequence) \
    FROM wal_lives l JOIN wal_checkpoints c USING (wal_id) WHERE l.life = $1::text::uuid \
    UNION ALL SELECT 1, flushed_through, NULL FROM wal_checkpoints WHERE wal_id = $1::text::uuid";

/// Reads checkpoints.
pub(super) struct Checkpoints {
    connector: Connector,
    /// Made by the first read, dropped by the first read that fails. Locked while connecting, so that only one caller
    /// connects.
    reader: Mutex<Option<Arc<Reader>>>,
}

struct Reader {
    session: Session,
    statement: Statement,
}

impl Checkpoints {
    /// Connects to nothing yet.
    pub(super) fn new(connector: Connector) -> Self {
        Self {
            connector,
            reader: Mutex::new(None),
        }
    }

    /// The sequences of a life that are in the database, without waiting for a lock.
    pub(super) async fn stored_of(&self, life: LifeId) -> Result<Vec<Stretch>, StoreError> {
        match self.look(life).await {
            // The session was idle for too long, or the server has restarted: a new session may do.
            Err(StatementError::SessionEnded(reason)) => {
                tracing::debug!("reading the checkpoints again on a new session: {reason}");
                Ok(self.look(life).await?)
            }
            looked => Ok(looked?),
        }
    }

    async fn look(&self, life: LifeId) -> Result<Vec<Stretch>, StatementError> {
        let reader = bounded(LOOK_TIMEOUT, self.reader()).await?;
        let id = life.to_string();
        let values: [&(dyn ToSql + Sync); 1] = [&id];
        let reading = reader.session.client.query(&reader.statement, &values);
        let rows = match bounded(LOOK_TIMEOUT, reading).await {
            Ok(rows) => rows,
            Err(failure) => {
                self.forget(&reader).await;
                return Err(failure);
            }
        };
        rows.iter().map(stretch).collect()
    }

    async fn reader(&self) -> Result<Arc<Reader>, StatementError> {
        let mut slot = self.reader.lock().await;
        if let Some(reader) = slot.as_ref()
            && !reader.session.client.is_closed()
        {
            return Ok(Arc::clone(reader));
        }
        let session = self.connector.connect().await?;
        let statement = session.client.prepare(STORED_OF).await?;
        let reader = Arc::new(Reader { session, statement });
        *slot = Some(Arc::clone(&reader));
        Ok(reader)
    }

    async fn forget(&self, failed: &Arc<Reader>) {
        let mut slot = self.reader.lock().await;
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
            *slot = None;
        }
    }
}

fn stretch(row: &Row) -> Result<Stretch, StatementError> {
    let columns = || Ok::<_, StatementError>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    let (first, flushed_through, next): (i64, i64, Option<i64>) = columns()?;
    let sequences = || {
        let next = next.map(Sequence::try_from).transpose().ok()?;
        let (first, through) = (first.try_into().ok()?, flushed_through.try_into().ok()?);
        Some(Stretch::new(first, through, next))
    };
    sequences().ok_or_else(|| {
        StoreError::Schema(format!(
            "wal_lives or wal_checkpoints hold numbers that are not sequences: {first}, {flushed_through}, {next:?}; find out what changed these tables"
        ))
        .into()
    })
}
