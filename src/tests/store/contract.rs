//! Behaviour of every store, run on both: the same calls must give the same results.

mod constraints;
mod flush;
mod groupings;
mod metrics;
mod quarantine;
mod receipt;
mod rollup;
mod schema;

/// Makes a test of each behaviour on each store.
macro_rules! contract {
    ($($behaviour:ident),* $(,)?) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                super::$behaviour(crate::support::database::Database::postgres().await).await;
            })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                super::$behaviour(crate::support::database::Database::sqlite().await).await;
            })*
        }
    };
}

pub(crate) use contract;
