//! The rows that a snapshot's statements return, and what their columns mean.

use diesel::data_types::PgTimestamp;
use diesel::result::Error as DieselError;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz};
use diesel::{QueryResult, QueryableByName};

use super::super::copy::POSTGRES_EPOCH_MICROS;
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Width};
use crate::rollup::UserKey;

/// A row of `rollups` or `rollup_deltas`.
#[derive(QueryableByName)]
pub(super) struct Piece {
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) event_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) channel: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    pub(super) bucket: PgTimestamp,
    #[diesel(sql_type = SmallInt)]
    pub(super) minutes: i16,
    #[diesel(sql_type = BigInt)]
    pub(super) events: i64,
    #[diesel(sql_type = Binary)]
    pub(super) users: Vec<u8>,
}

/// A row of `rollup_days`.
#[derive(QueryableByName)]
pub(super) struct Sum {
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) event_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) channel: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    pub(super) day: PgTimestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) events: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub(super) users: Option<Vec<u8>>,
}

/// A row of `rollup_overflow`, or the row without a day, which has the key.
#[derive(QueryableByName)]
pub(super) struct Overflow {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(super) day: Option<PgTimestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    user_key: Option<String>,
}

impl Overflow {
    /// The key with which users are hashed.
    pub(super) fn user_key(&self) -> QueryResult<UserKey> {
        let key = self.user_key.as_deref().and_then(UserKey::parse);
        key.ok_or_else(|| DieselError::DeserializationError("rollup_state.user_key is not a valid key".into()))
    }
}

/// Number of events.
#[derive(QueryableByName)]
pub(super) struct Stored {
    #[diesel(sql_type = BigInt)]
    pub(super) events: i64,
}

/// The events of one user in one group.
#[derive(QueryableByName)]
pub(super) struct User {
    #[diesel(sql_type = Integer)]
    pub(super) group_index: i32,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) event_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) channel: Option<String>,
    #[diesel(sql_type = Text)]
    pub(super) user_id: String,
    #[diesel(sql_type = BigInt)]
    pub(super) events: i64,
}

/// The timestamp in PostgreSQL's microseconds since 2000.
pub(in super::super) fn pg_timestamp(timestamp: Timestamp) -> PgTimestamp {
    PgTimestamp(timestamp.as_micros() - POSTGRES_EPOCH_MICROS)
}

pub(super) fn timestamp(PgTimestamp(micros): PgTimestamp) -> Timestamp {
    Timestamp::from_micros(micros + POSTGRES_EPOCH_MICROS)
}

/// # Panics
///
/// If the count is negative.
pub(in super::super) fn as_count(count: i64) -> u64 {
    u64::try_from(count).expect("a count is not negative")
}

pub(super) fn bucket(start: PgTimestamp, minutes: i16) -> QueryResult<Bucket> {
    let width = Width::from_minutes(minutes.into()).ok_or_else(|| {
        DieselError::DeserializationError(
            format!("a rollup row has a bucket of {minutes} minutes, which fast-ingest does not write").into(),
        )
    })?;
    Ok(Bucket {
        start: timestamp(start),
        width,
    })
}
