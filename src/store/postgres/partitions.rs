//! Partitions of `events`, made on demand: one for each month, or for each year that is long past, so that decades of
//! history do not cost a table and its indexes for every month.
//!
//! A batch's partitions are made in transactions of their own before the batch's: DDL inside it would hold locks for as
//! long as the rows take. One transaction a partition, because an import that spans decades would otherwise fill the
//! server's lock table.

use std::collections::HashSet;
use std::ops::Range;

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use tokio_postgres::Client;

use super::error::StatementError;
use super::transaction::LOCK_TIMEOUT;
use crate::event::Timestamp;
use crate::store::StoreError;

/// Key of the advisory lock under which partitions are made, so that two flushers do not race: "fast-ing" in ASCII,
/// plus one.
const PARTITION_LOCK: i64 = 0x6661_7374_2d69_6e68;

/// A year that ended so many years ago gets one partition: its events come from imports.
const MONTHLY_YEARS: i16 = 5;

/// A calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// The month of an instant.
    ///
    /// # Panics
    ///
    /// Outside the years -9999 to 9999; an event's time is between 1970 and tomorrow.
    fn of(micros: i64) -> Self {
        let instant = jiff::Timestamp::from_microsecond(micros).expect("an event's time lies within jiff's range");
        let day = TimeZone::UTC.to_datetime(instant).date();
        Self {
            year: day.year(),
            month: day.month(),
        }
    }

    fn next(self) -> Self {
        match self.month {
            12 => Self {
                year: self.year + 1,
                month: 1,
            },
            month => Self {
                year: self.year,
                month: month + 1,
            },
        }
    }

    fn first_day(self) -> Date {
        date(self.year, self.month, 1)
    }

    fn start_micros(self) -> i64 {
        let midnight = self.first_day().at(0, 0, 0, 0);
        let instant = TimeZone::UTC
            .to_timestamp(midnight)
            .expect("a month begins within jiff's range");
        instant.as_microsecond()
    }

    fn table(self) -> String {
        format!("events_{:04}_{:02}", self.year, self.month)
    }

    /// The table of the whole year.
    fn year_table(self) -> String {
        format!("events_{:04}", self.year)
    }

    /// Whether the month is so long past that its year gets one partition.
    fn is_history(self, this_year: i16) -> bool {
        self.year < this_year - MONTHLY_YEARS
    }
}

/// A partition: its table, its first day, and the first day after it.
struct Partition {
    table: String,
    from: Date,
    to: Date,
}

impl Partition {
    fn of_month(month: Month) -> Self {
        Self {
            table: month.table(),
            from: month.first_day(),
            to: month.next().first_day(),
        }
    }

    fn of_year(month: Month) -> Self {
        Self {
            table: month.year_table(),
            from: date(month.year, 1, 1),
            to: date(month.year + 1, 1, 1),
        }
    }
}

/// The months that a batch touches, without repetition.
#[derive(Debug, Default)]
pub(super) struct Months {
    seen: Vec<Month>,
    /// Events of one batch mostly share a month, so the calendar is asked only for an event outside the current month.
    current: Range<i64>,
}

impl Months {
    /// Adds the month of an event.
    pub(super) fn add(&mut self, timestamp: Timestamp) {
        let micros = timestamp.as_micros();
        if self.current.contains(&micros) {
            return;
        }
        let month = Month::of(micros);
        self.current = month.start_micros()..month.next().start_micros();
        if !self.seen.contains(&month) {
            self.seen.push(month);
        }
    }

    /// The months in the order in which they were first seen.
    pub(super) fn seen(&self) -> &[Month] {
        &self.seen
    }
}

/// The partitions that are known to exist. Somebody may remove one without notice; then [`Partitions::forget`] makes
/// the next call read them again.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// Names of the attached tables; `None` until the database was asked.
    attached: Option<HashSet<String>>,
}

impl Partitions {
    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        self.attached = None;
    }

    /// Makes the partitions that are missing. The session must not be inside a transaction.
    pub(super) async fn ensure(&mut self, client: &Client, months: &[Month]) -> Result<(), StatementError> {
        if self.attached.is_none() {
            self.attached = Some(read_attached(client).await?);
        }
        let attached = self.attached.as_mut().expect("read above");
        let this_year = Month::of(Timestamp::now().as_micros()).year;
        for month in months {
            if attached.contains(&month.table()) || attached.contains(&month.year_table()) {
                continue;
            }
            attached.insert(create(client, *month, this_year).await?);
        }
        Ok(())
    }
}

async fn read_attached(client: &Client) -> Result<HashSet<String>, StatementError> {
    let rows = client
        .query(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'events'::regclass \
             AND NOT inhdetachpending",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get::<_, &str>(0).to_owned()).collect())
}

/// Makes a month's partition, or that of its year, unless another flush has done so in the meantime; returns the
/// table's name.
///
/// `CREATE … PARTITION OF` would lock the parent against every query. `ATTACH` takes SHARE UPDATE EXCLUSIVE, which
/// readers and writers do not notice, and adds the parent's indexes by itself. A table of that name that exists without
/// being attached stays detached: somebody archived it on purpose, and a late event must not bring it back.
///
/// # Errors
///
/// [`StoreError::Data`] for such a table: only events of its time are affected. The transaction is rolled back then.
async fn create(client: &Client, month: Month, this_year: i16) -> Result<String, StatementError> {
    let begin =
        format!("BEGIN ISOLATION LEVEL READ COMMITTED; {LOCK_TIMEOUT}; SELECT pg_advisory_xact_lock({PARTITION_LOCK})");
    let mut table = month.table();
    let outcome: Result<Option<StoreError>, StatementError> = async {
        client.batch_execute(&begin).await?;
        let partition = if month.is_history(this_year) && !has_months(client, month).await? {
            Partition::of_year(month)
        } else {
            Partition::of_month(month)
        };
        table.clone_from(&partition.table);
        let state = read_state(client, &table).await?;
        if let State::Missing = state {
            let Partition { from, to, .. } = partition;
            client
                .batch_execute(&format!(
                    "CREATE TABLE {table} (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
                     ALTER TABLE events ATTACH PARTITION {table}
                         FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
                ))
                .await?;
            tracing::info!(partition = table, "partition {table} made");
        }
        if let State::Detached(message) = state {
            client.batch_execute("ROLLBACK").await?;
            let code = "detached".to_owned();
            return Ok(Some(StoreError::Data { code, message }));
        }
        client.batch_execute("COMMIT").await?;
        Ok(None)
    }
    .await;
    match outcome {
        Ok(None) => Ok(table),
        Ok(Some(detached)) => Err(detached.into()),
        // Somebody's constraint or trigger forbids the table itself. No event of this batch is at fault.
        Err(StatementError::Store(StoreError::Data { message, .. }) | StatementError::NoPartition(message)) => {
            Err(StoreError::Schema(format!("the partition {table} cannot be made: {message}")).into())
        }
        Err(StatementError::Store(StoreError::Unclear { code, message })) => {
            Err(StoreError::Unavailable(format!("the partition {table} cannot be made: {message} ({code})")).into())
        }
        Err(other) => Err(other),
    }
}

/// Whether a month of the year has a table of its own, attached or archived: then the other months get their own as
/// well.
async fn has_months(client: &Client, month: Month) -> Result<bool, StatementError> {
    let months = format!("^{}_[0-9]{{2}}$", month.year_table());
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_class WHERE relname ~ $1
                AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'events'::regclass))",
            &[&months],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// What exists under a partition's name.
enum State {
    Missing,
    Attached,
    /// A table that must be left alone; the text tells a person why.
    Detached(String),
}

async fn read_state(client: &Client, table: &str) -> Result<State, StatementError> {
    let row = client
        .query_opt(
            "SELECT inhdetachpending FROM pg_class LEFT JOIN pg_inherits ON inhrelid = oid AND inhparent = 'events'::regclass
             WHERE relname = $1 AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'events'::regclass)",
            &[&table],
        )
        .await?;
    Ok(match row.map(|row| row.get::<_, Option<bool>>(0)) {
        None => State::Missing,
        Some(Some(false)) => State::Attached,
        Some(Some(true)) => State::Detached(format!(
            "{table} is being detached from events; finish that and attach it again or rename it, then post the event again"
        )),
        Some(None) => State::Detached(format!(
            "{table} exists but is not attached to events, so it was detached on purpose; attach it again or rename it, then post \
             the event again"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_utc_and_half_open() {
        let february = Month { year: 2024, month: 2 };
        let march = Month { year: 2024, month: 3 };
        assert_eq!(Month::of(0), Month { year: 1970, month: 1 });
        assert_eq!(Month::of(march.start_micros() - 1), february);
        assert_eq!(Month::of(march.start_micros()), march);
        assert_eq!(
            march.start_micros() - february.start_micros(),
            29 * crate::event::bucket::DAY_MICROS
        );
        assert_eq!(Month { year: 2023, month: 12 }.next(), Month { year: 2024, month: 1 });
        assert_eq!(february.table(), "events_2024_02");
        assert_eq!(february.year_table(), "events_2024");
        assert!(!february.is_history(2029) && february.is_history(2030));
    }
}
