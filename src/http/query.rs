//! `GET /metrics`: query parameters to a [`MetricsQuery`](crate::query::MetricsQuery), a report to JSON.
//!
//! The store's future is awaited in the connection's task: when the client goes away hyper drops the handler, which
//! drops the store's future, which cancels the query in the database. The future must not be moved to a task of its
//! own.

pub(crate) mod parameters;
mod report;

use hyper::StatusCode;

use super::App;
use super::applied;
use super::error::ApiError;
use super::response::{self, Response};
use crate::api::metrics::PARAMETERS;
use crate::store::QueryError;

/// Answers a metrics query.
pub(super) async fn metrics(app: &App, query_string: &str) -> Result<Response, ApiError> {
    let (query, after) = parameters::parse(query_string).map_err(|errors| ApiError::BadQuery {
        errors,
        known: PARAMETERS,
    })?;
    if let Some(receipt) = after {
        applied::wait_for(app, receipt).await?;
    }
    // Before the query: events that are flushed meanwhile may be counted as well, but none is missed.
    let behind = app.progress.behind();
    match app.store.metrics(&query).await {
        Ok(report) => Ok(response::json(StatusCode::OK, &report::answer(&query, &report, behind))),
        Err(error) => {
            match &error {
                // Limits of a query: nothing is broken.
                QueryError::Timeout(_)
                | QueryError::TooManyGroups
                | QueryError::TooLarge(_)
                | QueryError::Memory(_) => {
                    tracing::info!(%error, "metrics query failed: {error}")
                }
                QueryError::Store(_) | QueryError::Busy(_) => tracing::warn!(%error, "metrics query failed: {error}"),
            }
            Err(error.into())
        }
    }
}
