//! Reads values of the rollup tables from rows, and builds the one query that their statements share.
//!
//! A value that makes no sense is an error and never a panic: other programs may have written to the file.

use rusqlite::types::Type;
use rusqlite::{Error, Row};

use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day, Width};
use crate::rollup::{SeriesKey, Tally, UserKey, UserSet};
use crate::wal::id::Sequence;

/// The column `bucket`, followed by `minutes`.
pub(super) fn bucket(row: &Row<'_>, column: usize) -> rusqlite::Result<Bucket> {
    let minutes: i64 = row.get(column + 1)?;
    let width = Width::from_minutes(minutes).ok_or(Error::IntegralValueOutOfRange(column + 1, minutes))?;
    Ok(Bucket {
        start: Timestamp::from_micros(row.get(column)?),
        width,
    })
}

/// The column `day`.
pub(super) fn day(row: &Row<'_>, column: usize) -> rusqlite::Result<Day> {
    Ok(Day::of(Timestamp::from_micros(row.get(column)?)))
}

/// The key with which users are hashed; NULL means a key that is not secret.
pub(super) fn user_key(row: &Row<'_>, column: usize) -> rusqlite::Result<UserKey> {
    let text: Option<String> = row.get(column)?;
    UserKey::parse(&text.unwrap_or_default()).ok_or_else(|| {
        Error::FromSqlConversionFailure(column, Type::Text, "rollup_state.user_key is not a valid key".into())
    })
}

/// A number of events.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let count: i64 = row.get(column)?;
    u64::try_from(count).map_err(|_| Error::IntegralValueOutOfRange(column, count))
}

/// The column `events`, followed by `users`.
pub(super) fn tally(row: &Row<'_>, column: usize) -> rusqlite::Result<Tally> {
    let users = UserSet::decode(row.get_ref(column + 1)?.as_blob()?)
        .map_err(|error| Error::FromSqlConversionFailure(column + 1, Type::Blob, Box::new(error)))?;
    Ok(Tally {
        events: count(row, column)?,
        users,
    })
}

/// The column `event_name` of a series, followed by `channel`.
pub(super) fn series_key(row: &Row<'_>, column: usize) -> rusqlite::Result<SeriesKey> {
    Ok(SeriesKey {
        event_name: row.get(column)?,
        channel: row.get(column + 1)?,
    })
}

/// A count as a column holds it. No count comes near the limit.
pub(super) fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A query for the distinct values of an index's first column, in one step of the index each. As `column IN (…)` it
/// lets SQLite use the index's second column when the query does not restrict the first; without it SQLite would read
/// the whole table.
pub(super) fn distinct(table: &str, column: &str) -> String {
    format!(
        "WITH RECURSIVE steps(value) AS (SELECT min({column}) FROM {table} UNION ALL \
         SELECT (SELECT min({column}) FROM {table} WHERE {column} > value) FROM steps WHERE value IS NOT NULL) \
         SELECT value FROM steps WHERE value IS NOT NULL"
    )
}

/// A sequence as a column holds it.
///
/// # Panics
///
/// Beyond 2^63 events, which no log can reach.
pub(super) fn as_integer(sequence: Sequence) -> i64 {
    i64::try_from(sequence).expect("a sequence fits into 63 bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::{Connection, params};

    use super::*;

    thread_local! {
        static CONNECTION: Connection = Connection::open_in_memory().unwrap();
    }

    fn select<T>(
        values: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        CONNECTION.with(|connection| connection.prepare_cached("SELECT ?1, ?2")?.query_row(values, read))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn an_instant_and_a_width_are_read_back(micros: i64, minutes in prop_oneof![Just(1), Just(60), Just(1440), any::<i64>()]) {
            match select([micros, minutes], |row| bucket(row, 0)) {
                Ok(bucket) => {
                    prop_assert_eq!(bucket.start.as_micros(), micros);
                    prop_assert_eq!(i64::from(bucket.width.minutes()), minutes);
                }
                Err(_) => prop_assert_eq!(Width::from_minutes(minutes), None),
            }
            // No value may cause a panic.
            select([micros, minutes], |row| day(row, 0)).unwrap();
        }

        #[test]
        fn a_tally_is_read_back(events: u64, users in prop::collection::vec("[a-z]{0,4}", 0..30), exact_max in 0..30usize) {
            let events = events >> 1;
            let users = UserSet::of(users.iter().map(|user| UserKey::PUBLIC.hash(user)).collect(), exact_max);
            let read = select(params![integer(events), users.encode()], |row| tally(row, 0)).unwrap();
            prop_assert_eq!(read.events, events);
            prop_assert_eq!(read.users.encode(), users.encode());
        }

        #[test]
        fn somebody_elses_values_are_errors(number: i64, bytes: Vec<u8>) {
            match select(params![number, bytes], |row| tally(row, 0)) {
                Ok(tally) => prop_assert_eq!(i64::try_from(tally.events), Ok(number)),
                Err(_) => prop_assert!(number < 0 || UserSet::decode(&bytes).is_err()),
            }
        }
    }
}
