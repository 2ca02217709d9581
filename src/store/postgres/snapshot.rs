//! One consistent view of the database for a metrics query: a read-only REPEATABLE READ transaction and the reads in
//! it.
//!
//! BEGIN and its settings are one message. Every statement is planned with its values, so that PostgreSQL knows which
//! partitions and which rows of an index it needs. Rows are streamed, and those that are kept count against an
//! [`Allowance`].

mod rows;
mod statement;

use std::ops::Range;
use std::time::Duration;

use diesel::data_types::PgTimestamp;
use diesel::pg::Pg;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Array, Timestamptz};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager};
use futures_util::{Stream, TryStreamExt as _};

use self::rows::{Overflow, Piece, Stored, Sum, User, bucket, timestamp};
pub(super) use self::rows::{as_count, pg_timestamp};
use self::statement::{EVENTS_STORED, Select, Statement, column, disjoint, parts_sql, users_sql};
use crate::event::Timestamp;
use crate::event::bucket::Day;
use crate::query::memory::Holding;
use crate::query::snapshot::{
    Allowance, DayRow, EachUser, EventFilter, Names, QueryTooLarge, ROWS_MAX, RollupRow, RollupState, SeriesFilter,
    Snapshot, UserCount,
};

/// An open transaction. Dropped without [`PgSnapshot::end`] it stays open, and the pool drops the connection.
pub(super) struct PgSnapshot<'c> {
    connection: &'c mut AsyncPgConnection,
    allowance: Allowance,
}

impl<'c> PgSnapshot<'c> {
    /// Begins the transaction; each of its statements may take as long as `statement_timeout`.
    pub(super) async fn begin(
        connection: &'c mut AsyncPgConnection,
        statement_timeout: Duration,
        memory: Holding,
    ) -> QueryResult<Self> {
        let milliseconds = statement_timeout.as_millis().clamp(1, i32::MAX as u128);
        // Compiling costs more than it saves on statements that take milliseconds.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {milliseconds}; SET LOCAL jit = off"
        );
        AnsiTransactionManager::begin_transaction_sql(connection, &begin)
            .await
            .map_err(ended)?;
        Ok(Self {
            connection,
            allowance: Allowance::new(ROWS_MAX, memory),
        })
    }

    /// Ends the transaction and passes the answer on. After a question that was too large the transaction stays open:
    /// ending it would mean waiting for all rows that are still on their way.
    pub(super) async fn end<T>(self, answer: QueryResult<T>) -> QueryResult<T> {
        match &answer {
            Ok(_) => AnsiTransactionManager::commit_transaction(self.connection).await?,
            Err(error) if too_large(error).is_some() => {}
            Err(_) => {
                // If this fails too, the connection is marked as broken. The first error is the one to report.
                AnsiTransactionManager::rollback_transaction(self.connection).await.ok();
            }
        }
        answer
    }

    async fn stream<T: QueryableByName<Pg> + Send + 'static>(
        &mut self,
        statement: Statement<'_>,
    ) -> QueryResult<impl Stream<Item = QueryResult<T>> + Send + use<T>> {
        statement.load_stream::<T>(self.connection).await
    }

    /// Reads parts or deltas, whose columns are those of [`Piece`].
    async fn pieces(&mut self, series: &SeriesFilter, statement: Statement<'_>) -> QueryResult<Vec<RollupRow>> {
        let mut rows = Vec::new();
        let mut pieces = self.stream::<Piece>(statement).await?;
        while let Some(piece) = pieces.try_next().await? {
            let row = RollupRow {
                event_name: told(&series.event_names, piece.event_name),
                channel: told(&series.channels, piece.channel),
                bucket: bucket(piece.bucket, piece.minutes)?,
                events: as_count(piece.events),
                users: piece.users,
            };
            let names = [row.event_name.as_deref(), row.channel.as_deref()];
            self.allowance.take(names, row.users.len()).map_err(refused)?;
            rows.push(row);
        }
        Ok(rows)
    }
}

impl Snapshot for PgSnapshot<'_> {
    type Error = DieselError;

    async fn days(&mut self, series: &SeriesFilter, range: Range<Timestamp>) -> QueryResult<Vec<DayRow>> {
        let mut select = Select::new(2);
        let names = select.series(series);
        // Stale sums are not even fetched: large values are stored outside their row.
        let statement = select.bind_after(
            &format!(
                "SELECT s.event_name, s.channel, d.day, CASE WHEN NOT d.stale THEN d.events END AS events,
                        CASE WHEN NOT d.stale THEN d.users END AS users
                 FROM rollup_series s JOIN rollup_days d ON d.series_id = s.id
                 WHERE d.day >= $1 AND d.day < $2{names} LIMIT {}",
                self.allowance.rows_left() + 1
            ),
            |statement| {
                statement
                    .bind::<Timestamptz, _>(pg_timestamp(range.start))
                    .bind::<Timestamptz, _>(pg_timestamp(range.end))
            },
        );
        let mut rows = Vec::new();
        let mut sums = self.stream::<Sum>(statement).await?;
        while let Some(sum) = sums.try_next().await? {
            let total = sum.events.map(as_count).zip(sum.users);
            let users_bytes = total.as_ref().map_or(0, |(_, users)| users.len());
            let row = DayRow {
                event_name: told(&series.event_names, sum.event_name),
                channel: told(&series.channels, sum.channel),
                day: Day::of(timestamp(sum.day)),
                total,
            };
            let names = [row.event_name.as_deref(), row.channel.as_deref()];
            self.allowance.take(names, users_bytes).map_err(refused)?;
            rows.push(row);
        }
        Ok(rows)
    }

    async fn parts(&mut self, series: &SeriesFilter, ranges: &[Range<Timestamp>]) -> QueryResult<Vec<RollupRow>> {
        let (starts, ends) = disjoint(ranges);
        if starts.is_empty() {
            return Ok(Vec::new());
        }
        let mut select = Select::new(2);
        let sql = parts_sql(&select.series(series), self.allowance.rows_left() + 1);
        let statement = select.bind_after(&sql, |statement| {
            statement
                .bind::<Array<Timestamptz>, _>(starts)
                .bind::<Array<Timestamptz>, _>(ends)
        });
        self.pieces(series, statement).await
    }

    async fn deltas(&mut self, series: &SeriesFilter, range: Range<Timestamp>) -> QueryResult<Vec<RollupRow>> {
        let mut select = Select::new(2);
        let names = select.only(&series.event_names, "event_name") + &select.only(&series.channels, "channel");
        let statement = select.bind_after(
            &format!(
                "SELECT {event_name} AS event_name, {channel} AS channel, bucket, minutes, events, users
                 FROM rollup_deltas WHERE bucket >= $1 AND bucket < $2{names} LIMIT {rows_max}",
                event_name = column(&series.event_names, "event_name"),
                channel = column(&series.channels, "channel"),
                rows_max = self.allowance.rows_left() + 1
            ),
            |statement| {
                statement
                    .bind::<Timestamptz, _>(pg_timestamp(range.start))
                    .bind::<Timestamptz, _>(pg_timestamp(range.end))
            },
        );
        self.pieces(series, statement).await
    }

    async fn rollup_state(&mut self, range: Range<Timestamp>) -> QueryResult<Option<RollupState>> {
        // The row without a day, which comes last, says that there are rollups.
        let mut days: Vec<Overflow> = sql_query(
            "SELECT day, NULL AS user_key FROM rollup_overflow WHERE day >= $1 AND day < $2
             UNION ALL SELECT NULL, coalesce(user_key::text, '') FROM rollup_state WHERE NOT rebuild_needed
             ORDER BY day",
        )
        .bind::<Timestamptz, _>(pg_timestamp(range.start))
        .bind::<Timestamptz, _>(pg_timestamp(range.end))
        .load(self.connection)
        .await?;
        let Some(user_key) = days.pop_if(|last| last.day.is_none()) else {
            return Ok(None);
        };
        Ok(Some(RollupState {
            user_key: user_key.user_key()?,
            overflowed: days
                .into_iter()
                .filter_map(|overflow| Some(Day::of(timestamp(overflow.day?))))
                .collect(),
        }))
    }

    fn memory(&self) -> &Holding {
        self.allowance.memory()
    }

    async fn pause(&mut self) -> QueryResult<()> {
        // Lets the timeout around the whole query, or a caller that drops it, take effect here.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn events_stored(&mut self, range: Range<Timestamp>) -> QueryResult<u64> {
        let stored: Stored = sql_query(EVENTS_STORED)
            .bind::<Timestamptz, _>(pg_timestamp(range.start))
            .bind::<Timestamptz, _>(pg_timestamp(range.end))
            .get_result(self.connection)
            .await?;
        Ok(as_count(stored.events))
    }

    async fn count_users(
        &mut self,
        events: &EventFilter,
        range: Range<Timestamp>,
        starts: &[Timestamp],
        each: &mut EachUser<'_>,
    ) -> QueryResult<()> {
        let mut select = Select::new(if starts.len() > 1 { 3 } else { 2 });
        let sql = users_sql(events, starts, &mut select);
        let statement = select.bind_after(&sql, |statement| {
            let statement = statement
                .bind::<Timestamptz, _>(pg_timestamp(range.start))
                .bind::<Timestamptz, _>(pg_timestamp(range.end));
            if starts.len() > 1 {
                let starts: Vec<PgTimestamp> = starts.iter().copied().map(pg_timestamp).collect();
                statement.bind::<Array<Timestamptz>, _>(starts)
            } else {
                statement
            }
        });
        let mut users = self.stream::<User>(statement).await?;
        while let Some(user) = users.try_next().await? {
            each(UserCount {
                group: usize::try_from(user.group_index).expect("the first start is not after the range"),
                event_name: told_as_ref(&events.event_names, user.event_name.as_deref()),
                channel: told_as_ref(&events.channels, user.channel.as_deref()),
                user_id: &user.user_id,
                events: as_count(user.events),
            })
            .map_err(|error| refused(error.into()))?;
        }
        Ok(())
    }
}

/// BEGIN fails only if the session has ended, whatever the error's kind is.
fn ended(error: DieselError) -> DieselError {
    match error {
        DieselError::DatabaseError(_, info) => DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, info),
        other => other,
    }
}

/// The name to show: the one that was asked for, the one that was read, or none.
fn told(names: &Names, read: Option<String>) -> Option<String> {
    match names {
        Names::One(name) => Some(name.clone()),
        Names::Each => read,
        Names::All => None,
    }
}

fn told_as_ref<'n>(names: &'n Names, read: Option<&'n str>) -> Option<&'n str> {
    match names {
        Names::One(name) => Some(name),
        Names::Each => read,
        Names::All => None,
    }
}

/// Why a question is too large, if it is. This error travels inside a diesel error about reading rows.
pub(super) fn too_large(error: &DieselError) -> Option<QueryTooLarge> {
    match error {
        DieselError::DeserializationError(cause) => cause.downcast_ref().copied(),
        _ => None,
    }
}

fn refused(error: QueryTooLarge) -> DieselError {
    DieselError::DeserializationError(Box::new(error))
}

#[cfg(test)]
mod tests;
