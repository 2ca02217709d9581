//! Numbers of series.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::Row;

use super::super::error::StatementError;
use super::session::Transactions;
use crate::rollup::{SeriesId, SeriesKey};
use crate::store::StoreError;

/// Finds the three kinds of series one by one, because no index helps with IS NOT DISTINCT FROM.
const FIND: &str = "WITH k AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[]) AS k (event_name, channel))
    SELECT s.event_name, s.channel, id FROM k JOIN rollup_series AS s ON s.event_name = k.event_name AND s.channel = k.channel
    UNION ALL
    SELECT s.event_name, s.channel, id FROM k JOIN rollup_series AS s ON s.event_name = k.event_name AND s.channel IS NULL
    WHERE k.channel IS NULL
    UNION ALL
    SELECT event_name, channel, id FROM rollup_series WHERE event_name IS NULL AND channel IS NULL";
/// Run only for missing series, because a conflict would use up a number.
const MAKE: &str = "INSERT INTO rollup_series (event_name, channel) SELECT * FROM unnest($1::text[], $2::text[])
    ON CONFLICT DO NOTHING RETURNING event_name, channel, id";

/// The numbers of the keys, in the same order; makes missing series.
pub(super) async fn ids(transactions: &mut Transactions, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StatementError> {
    let wanted: BTreeSet<&SeriesKey> = keys.iter().collect();
    let (names, channels) = columns(&wanted);
    let mut ids = HashMap::new();
    read(&transactions.query(FIND, &[&names, &channels]).await?, &mut ids)?;
    let missing: BTreeSet<&SeriesKey> = wanted.into_iter().filter(|key| !ids.contains_key(*key)).collect();
    if !missing.is_empty() {
        let (names, channels) = columns(&missing);
        read(&transactions.query(MAKE, &[&names, &channels]).await?, &mut ids)?;
    }
    let id = |key: &SeriesKey| {
        // A process without the lock made it after our snapshot: the next snapshot shows it.
        let unseen = || {
            StoreError::Unavailable(
                "another process has just made a series that this transaction cannot see yet".to_owned(),
            )
        };
        ids.get(key).copied().ok_or_else(|| unseen().into())
    };
    keys.iter().map(id).collect()
}

fn columns<'a>(keys: &BTreeSet<&'a SeriesKey>) -> (Vec<Option<&'a str>>, Vec<Option<&'a str>>) {
    keys.iter()
        .map(|key| (key.event_name.as_deref(), key.channel.as_deref()))
        .unzip()
}

fn read(rows: &[Row], ids: &mut HashMap<SeriesKey, SeriesId>) -> Result<(), StatementError> {
    for row in rows {
        ids.insert(super::rows::key(row)?, super::rows::series(row, 2)?);
    }
    Ok(())
}
