//! Whether a session stays with one server process of PostgreSQL.
//!
//! Behind a pooler in transaction mode it does not: after each transaction it goes on in any free process, and prepared
//! statements, the temporary table, settings and advisory locks are left in the old one, or mix with those of others.
//! The errors that follow do not name the cause, so it is checked beforehand. No answer of the server shows that there
//! is a pooler, let alone its mode; two sessions that compete for a process do.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::connect::{Connector, Session};
use super::error::{POOLER_REMEDY, StatementError, bounded};
use crate::store::StoreError;

/// Time for each step of the check.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// # Errors
///
/// [`StoreError::Schema`] when sessions are shared, [`StoreError::Unavailable`] when the database does not answer.
pub(super) async fn must_keep_sessions(connector: &Connector) -> Result<(), StoreError> {
    let one = connector.connect().await?;
    let other = connector.connect().await?;
    let found_in = process(&one).await?;
    // Behind such a pooler two open sessions are in the same process; or the first one changes its process while the
    // other one holds that process, or another one, by a transaction.
    let is_shared = process(&other).await? == found_in || {
        bounded(LOOK_TIMEOUT, other.client.batch_execute("BEGIN")).await?;
        process(&other).await? == found_in || process(&one).await? != found_in
    };
    if !is_shared {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "{} is a pooler that moves sessions between server processes, as PgBouncer does in transaction mode (pool_mode=transaction) or in statement mode: \
         prepared statements, temporary tables, settings and locks get lost; {POOLER_REMEDY}",
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
