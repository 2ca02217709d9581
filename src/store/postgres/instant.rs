//! An event's time as a `timestamptz` parameter or column of tokio-postgres, to the microsecond.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::copy::POSTGRES_EPOCH_MICROS;
use crate::event::Timestamp;

/// A `timestamptz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant(pub(super) Timestamp);

impl<'a> FromSql<'a> for Instant {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        // `infinity` is i64::MAX, which overflows here; `-infinity` is i64::MIN.
        let micros = micros
            .checked_add(POSTGRES_EPOCH_MICROS)
            .filter(|_| micros != i64::MIN)
            .ok_or("an infinite time")?;
        Ok(Self(Timestamp::from_micros(micros)))
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for Instant {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0.as_micros() - POSTGRES_EPOCH_MICROS);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn what_is_written_is_read_back(micros in 0..=253_402_387_139_999_999_i64) {
            let instant = Instant(Timestamp::from_micros(micros));
            let mut bytes = BytesMut::new();
            instant.to_sql(&Type::TIMESTAMPTZ, &mut bytes).unwrap();
            prop_assert_eq!(Instant::from_sql(&Type::TIMESTAMPTZ, &bytes).unwrap(), instant);
        }

        #[test]
        fn any_number_is_an_instant_or_an_error(raw: i64, longer: Vec<u8>) {
            if let Ok(Instant(timestamp)) = Instant::from_sql(&Type::TIMESTAMPTZ, &raw.to_be_bytes()) {
                prop_assert_eq!(timestamp.as_micros() - POSTGRES_EPOCH_MICROS, raw);
            }
            prop_assert!(longer.len() == 8 || Instant::from_sql(&Type::TIMESTAMPTZ, &longer).is_err());
        }
    }

    #[test]
    fn the_infinities_are_no_instants() {
        for raw in [i64::MIN, i64::MAX] {
            assert!(Instant::from_sql(&Type::TIMESTAMPTZ, &raw.to_be_bytes()).is_err());
        }
    }
}
