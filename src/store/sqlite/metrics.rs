//! The metrics query on SQLite: `query`'s answer from one read transaction, on a blocking thread.

use futures_util::FutureExt as _;

use super::error::store_error;
use super::readers::Readers;
use super::snapshot::SqliteSnapshot;
use crate::query::error::AnswerError;
use crate::query::memory::Holding;
use crate::query::{self, MetricsQuery, MetricsReport};
use crate::store::QueryError;

/// Answers one query.
pub(super) async fn answer(
    readers: &Readers,
    memory: Holding,
    query: &MetricsQuery,
) -> Result<MetricsReport, QueryError> {
    let query = query.clone();
    let reading = readers.read_until(move |reader, limit| {
        SqliteSnapshot::with(reader, memory, |snapshot| {
            snapshot.end_at(limit);
            let answer = query::answer(snapshot, &query)
                .now_or_never()
                .expect("SQLite never waits");
            match answer {
                // The readers handle these errors: after any of them the connection is not used again.
                Err(AnswerError::Store(error)) => Err(error),
                answer => Ok(answer.map_err(|error| QueryError::from(error.map_store(|error| store_error(&error))))),
            }
        })
    });
    reading.await?
}
