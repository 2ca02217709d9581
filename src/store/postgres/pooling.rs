//! Whether a session stays with one server process of PostgreSQL.
//!
//! Behind a pooler in transaction mode it does not: after each transaction it goes on in whichever is free, and
//! prepared statements, the temporary table, settings and advisory locks stay behind, or meet those of others. What
//! that leads to says nothing of its reason, so it is looked for. No answer of the server tells that a pooler is there,
//! let alone its mode; two sessions that stand in each other's way do.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::connect::{Connector, Session};
use super::error::{POOLER_REMEDY, StatementError, bounded};
use crate::store::StoreError;

/// Time for each step of the look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// # Errors
///
/// [`StoreError::Schema`] when sessions are shared, [`StoreError::Unavailable`] when the database does not answer.
pub(super) async fn must_keep_sessions(connector: &Connector) -> Result<(), StoreError> {
    let one = connector.connect().await?;
    let other = connector.connect().await?;
    let found_in = process(&one).await?;
    // Of two sessions that are open at the same time, both would be in it; or, while the other one holds on to that
    // process or takes another, the first one would go on elsewhere.
    let is_shared = process(&other).await? == found_in || {
        bounded(LOOK_TIMEOUT, other.client.batch_execute("BEGIN")).await?;
        process(&other).await? == found_in || process(&one).await? != found_in
    };
    if !is_shared {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "{} is a pooler that takes sessions apart, as PgBouncer does in transaction mode (pool_mode=transaction) or in statement mode: \
         prepared statements, temporary tables, settings and locks get lost on the way; {POOLER_REMEDY}",
        connector.address()
    )))
}

/// The server process in which a session is now. Asked without a prepared statement, which might get lost.
async fn process(session: &Session) -> Result<Option<String>, StatementError> {
    let asked = session.client.simple_query("SELECT pg_backend_pid()");
    let replies = bounded(LOOK_TIMEOUT, asked).await?;
    Ok(replies.iter().find_map(|reply| match reply {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
