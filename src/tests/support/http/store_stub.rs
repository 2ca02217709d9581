//! A store for servers whose tests are not about a database.

use async_trait::async_trait;
use fast_ingest::query::{MetricsQuery, MetricsReport};
use fast_ingest::store::{EventSink, EventStore, QueryError, RollupStore, StoreError, Stretch};
use fast_ingest::wal::id::LifeId;

/// Answers metrics queries with the function's result; stores nothing.
pub(crate) struct StoreStub<F = fn(&MetricsQuery) -> Result<MetricsReport, QueryError>>(pub(crate) F);

impl Default for StoreStub {
    fn default() -> Self {
        Self(|_| Ok(MetricsReport::default()))
    }
}

#[async_trait]
impl<F> EventStore for StoreStub<F>
where
    F: Fn(&MetricsQuery) -> Result<MetricsReport, QueryError> + Send + Sync,
{
    fn name(&self) -> &'static str {
        "stub"
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn open_sink(&self) -> Result<Box<dyn EventSink>, StoreError> {
        Err(StoreError::Unavailable("the HTTP layer must not flush".to_owned()))
    }

    async fn open_rollups(&self) -> Result<Box<dyn RollupStore>, StoreError> {
        Err(StoreError::Unavailable("not to be asked".to_owned()))
    }

    async fn stored_of(&self, _: LifeId) -> Result<Vec<Stretch>, QueryError> {
        Err(QueryError::Store(StoreError::Unavailable("not to be asked".to_owned())))
    }

    async fn metrics(&self, query: &MetricsQuery) -> Result<MetricsReport, QueryError> {
        (self.0)(query)
    }
}
