//! How far logs are flushed, for requests that wait until a database has their events.
//!
//! All of them share one session: tokio-postgres answers many callers on one connection, so that polling neither opens connections
//! nor takes those of the metrics queries.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::connect::{Connector, Session};
use super::error::{Failure, bounded};
use crate::batch::{Sequence, WalId};
use crate::store::StoreError;

/// Time for one look, connecting included.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads checkpoints.
pub(super) struct Checkpoints {
    connector: Connector,
    /// Made by the first look, dropped by the first that fails. Held while connecting, so that only one does.
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

    /// Where a log's checkpoint stands, without waiting for a lock.
    pub(super) async fn flushed_through(
        &self,
        wal_id: WalId,
    ) -> Result<Option<Sequence>, StoreError> {
        let reader = bounded(LOOK_TIMEOUT, self.reader()).await?;
        let id = wal_id.to_string();
        let values: [&(dyn ToSql + Sync); 1] = [&id];
        let reading = reader.session.client.query_opt(&reader.statement, &values);
        let row = match bounded(LOOK_TIMEOUT, reading).await {
            Ok(row) => row,
            Err(failure) => {
                self.forget(&reader).await;
                return Err(failure.into());
            }
        };
        let Some(row) = row else { return Ok(None) };
        let through: i64 = row.try_get(0).map_err(Failure::from)?;
        match Sequence::try_from(through) {
            Ok(through) => Ok(Some(through)),
            Err(_) => Err(StoreError::Schema(format!(
                "the checkpoint of log {wal_id} is no sequence: {through}"
            ))),
        }
    }

    async fn reader(&self) -> Result<Arc<Reader>, Failure> {
        let mut slot = self.reader.lock().await;
        if let Some(reader) = slot.as_ref()
            && !reader.session.client.is_closed()
        {
            return Ok(Arc::clone(reader));
        }
        let session = self.connector.connect().await?;
        let statement = session
            .client
            .prepare("SELECT flushed_through FROM wal_checkpoints WHERE wal_id = $1::text::uuid")
            .await?;
        let reader = Arc::new(Reader { session, statement });
        *slot = Some(Arc::clone(&reader));
        Ok(reader)
    }

    async fn forget(&self, failed: &Arc<Reader>) {
        let mut slot = self.reader.lock().await;
        if slot
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, failed))
        {
            *slot = None;
        }
    }
}
