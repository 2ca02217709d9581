//! A store for servers whose tests are not about a database.

use async_trait::async_trait;
use fast_ingest::query::{MetricsQuery, MetricsReport};
use fast_ingest::store::{EventSink, EventStore, QueryError, RollupStore, StoreError, Stretch};
use fast_ingest::wal::id::LifeId;

/// What a stub answers to metrics queries: a function's result, or whatever an implementation does.
#[async_trait]
pub(crate) trait Metrics: Send + Sync {
    async fn answer(&self, query: &MetricsQuery) -> Result<MetricsReport, QueryError>;
}

#[async_trait]
impl<F> Metrics for F
where
    F: Fn(&MetricsQuery) -> Result<MetricsReport, QueryError> + Send + Sync,
{
    async fn answer(&self, query: &MetricsQuery) -> Result<MetricsReport, QueryError> {
        self(query)
    }
}

/// Answers metrics queries; stores nothing.
pub(crate) struct StoreStub<M = fn(&MetricsQuery) -> Result<MetricsReport, QueryError>>(pub(crate) M);

impl Default for StoreStub {
    fn default() -> Self {
        Self(|_| Ok(MetricsReport::default()))
    }
}

#[async_trait]
impl<M: Metrics> EventStore for StoreStub<M> {
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
        self.0.answer(query).await
    }
}
