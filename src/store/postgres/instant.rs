//! `timestamptz` as tokio-postgres sends and reads it, without a calendar crate in between.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::copy::POSTGRES_EPOCH_MICROS;
use crate::event::Timestamp;

/// A value of a `timestamptz` column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instant(pub(super) Timestamp);

impl<'a> FromSql<'a> for Instant {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        // `infinity` and its like are at the ends of the range.
        let micros = micros
            .checked_add(POSTGRES_EPOCH_MICROS)
            .ok_or("a time out of range")?;
        Ok(Self(Timestamp::from_micros(micros)))
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for Instant {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let micros = self.0.as_micros().checked_sub(POSTGRES_EPOCH_MICROS);
        out.put_i64(micros.ok_or("a time out of range")?);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}
