//! Transactions of the rollups and the lock that they hold.
//!
//! The lock belongs to the session, and is taken before BEGIN and released after COMMIT. Inside the transaction it
//! would come too late: the statement that waits for it is the transaction's first, so REPEATABLE READ would show the
//! database as it was before the wait, without what the last holder committed. A session that ends, however it ends,
//! frees the lock.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, SimpleQueryMessage, Statement};

use super::super::connect::Session;
use super::super::error::{StatementError, bounded};
use super::super::transaction::{DURABLE, IDLE_TIMEOUT, LOCK_TIMEOUT};
use crate::store::StoreError;

/// Key of the advisory lock under which rollups are changed: "fast-ing" in ASCII, plus two.
const ROLLUP_LOCK: i64 = 0x6661_7374_2d69_6e69;
/// Deleted deltas after which their table is vacuumed. Until then the dead rows cost its readers less than the vacuum
/// would, and autovacuum comes once a minute at best.
const VACUUM_ROWS: u64 = 5_000;
/// Longest that a statement which reads a large part of `events` may take.
const LONG_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Longest wait for a row of such a statement, and longest pause before the next statement.
const LONG_SILENCE: Duration = Duration::from_secs(600);

/// A session and its transaction.
pub(super) struct Transactions {
    session: Session,
    timeout: Duration,
    statements: HashMap<&'static str, Statement>,
    holds_lock: bool,
    /// Deltas that this transaction deleted.
    deltas_deleted: u64,
    /// Deltas deleted by committed transactions since the last vacuum.
    deltas_dead: u64,
}

impl Transactions {
    pub(super) fn new(session: Session, timeout: Duration) -> Self {
        Self {
            session,
            timeout,
            statements: HashMap::new(),
            holds_lock: false,
            deltas_deleted: 0,
            deltas_dead: 0,
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.session.client
    }

    /// Begins a transaction under the lock; `false` when the lock is taken.
    pub(super) async fn begin(&mut self, wait: bool) -> Result<bool, StatementError> {
        if !self.lock(wait).await? {
            return Ok(false);
        }
        self.holds_lock = true;
        self.begin_as("ISOLATION LEVEL REPEATABLE READ").await?;
        Ok(true)
    }

    /// Begins a read-only transaction without the lock.
    pub(super) async fn begin_reading(&mut self) -> Result<(), StatementError> {
        self.begin_as("ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    pub(super) async fn commit(&mut self) -> Result<(), StatementError> {
        // In a failed transaction the SELECT fails, while COMMIT would roll back and report success.
        let mut end = "SELECT; COMMIT".to_owned();
        if self.holds_lock {
            end.push_str(&format!("; SELECT pg_advisory_unlock({ROLLUP_LOCK})"));
        }
        bounded(self.timeout, self.client().batch_execute(&end)).await?;
        self.holds_lock = false;
        self.deltas_dead += std::mem::take(&mut self.deltas_deleted);
        if self.deltas_dead >= VACUUM_ROWS {
            self.deltas_dead = 0;
            self.vacuum().await;
        }
        Ok(())
    }

    /// Notes that deltas were deleted.
    pub(super) fn deleted_deltas(&mut self, rows: u64) {
        self.deltas_deleted += rows;
    }

    pub(super) async fn query(
        &mut self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StatementError> {
        let statement = self.prepared(sql).await?;
        bounded(self.timeout, self.client().query(&statement, values)).await
    }

    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StatementError> {
        let statement = self.prepared(sql).await?;
        bounded(self.timeout, self.client().execute(&statement, values)).await
    }

    /// Like [`Transactions::query`], with time for reading a large part of `events`.
    pub(super) async fn query_long(
        &mut self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StatementError> {
        self.allow_long().await?;
        let statement = self.prepared(sql).await?;
        bounded(LONG_TIMEOUT, self.client().query(&statement, values)).await
    }

    /// Lets the statements that follow take long, and says how long to wait for each of their rows. Processing the rows
    /// may take long as well, between this statement and the next, so the transaction may idle longer too.
    pub(super) async fn allow_long(&self) -> Result<Duration, StatementError> {
        let allow = format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
            LONG_TIMEOUT.as_millis(),
            LONG_SILENCE.as_millis()
        );
        bounded(self.timeout, self.client().batch_execute(&allow)).await?;
        Ok(LONG_SILENCE)
    }

    /// Changes a setting for the rest of the transaction.
    pub(super) async fn set_local(&self, setting: &str) -> Result<(), StatementError> {
        let set = format!("SET LOCAL {setting}");
        bounded(self.timeout, self.client().batch_execute(&set)).await
    }

    async fn lock(&self, wait: bool) -> Result<bool, StatementError> {
        let millis = self.timeout.as_millis().max(1);
        let take = if wait {
            format!("SELECT true FROM pg_advisory_lock({ROLLUP_LOCK})")
        } else {
            format!("SELECT pg_try_advisory_lock({ROLLUP_LOCK})")
        };
        // The transaction is only there for SET LOCAL: the lock outlives it.
        let lock = format!("BEGIN; SET LOCAL lock_timeout = {millis}; {take}; COMMIT");
        let replies = bounded(self.timeout, async {
            self.client().simple_query(&lock).await.map_err(locked_out)
        })
        .await?;
        Ok(replies
            .iter()
            .any(|reply| matches!(reply, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))))
    }

    async fn begin_as(&mut self, mode: &str) -> Result<(), StatementError> {
        self.deltas_deleted = 0;
        // Compiling costs more than any of these statements, and arrays of unknown length are planned too badly to keep
        // the plan.
        let begin = format!(
            "BEGIN {mode}; {DURABLE}; {LOCK_TIMEOUT}; {IDLE_TIMEOUT}; SET LOCAL statement_timeout = {}; \
             SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan",
            self.timeout.as_millis().max(1)
        );
        bounded(self.timeout, self.client().batch_execute(&begin)).await
    }

    async fn prepared(&mut self, sql: &'static str) -> Result<Statement, StatementError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = bounded(self.timeout, self.client().prepare(sql)).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Removes dead rows from `rollup_deltas`. A failure is only logged, because the transaction is committed already.
    async fn vacuum(&self) {
        let limit = format!("SET statement_timeout = {}", self.timeout.as_millis().max(1));
        let outcome = bounded(self.timeout, async {
            self.client().batch_execute(&limit).await?;
            // A message of its own: VACUUM refuses to run inside a transaction. If another vacuum runs, that one is
            // enough.
            self.client().batch_execute("VACUUM (SKIP_LOCKED) rollup_deltas").await
        })
        .await;
        if let Err(failure) = outcome {
            let error = StoreError::from(failure);
            tracing::debug!(%error, "rollup_deltas not vacuumed: {error}");
        }
    }
}

fn locked_out(error: tokio_postgres::Error) -> StatementError {
    if error.code().is_some_and(|code| code.code() == "55P03") {
        let text = "another process is changing the rollups and did not finish in time (55P03)";
        return StoreError::Unavailable(text.to_owned()).into();
    }
    error.into()
}
