//! Rollups on SQLite: what a flush adds to them, and the connection of the keeper.

mod days;
mod flush;
mod tables;
mod transactions;

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::DAY_MICROS;
use fast_ingest::event::bucket::{Bucket, Day, Width};
use fast_ingest::rollup::{Part, SeriesId, SeriesKey, Tally, UserKey, UserSet, UserUnion, fold};
use fast_ingest::store::RollupStore;
use fast_ingest::store::settings::StoreLocation;

use crate::support::database::{Database, FEBRUARY};

/// A connection like another program's.
fn file(database: &Database) -> rusqlite::Connection {
    match database.settings().location {
        StoreLocation::Sqlite(path) => rusqlite::Connection::open(path).unwrap(),
        StoreLocation::Postgres(_) => panic!("a SQLite database"),
    }
}

/// A connection for rollups with an open transaction that holds the lock.
async fn begun(database: &Database) -> Box<dyn RollupStore> {
    let mut rollups = database.store().open_rollups().await.unwrap();
    assert!(rollups.begin(true).await.unwrap());
    rollups
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// The n-th day of February, counted from 0.
fn day(n: i64) -> Day {
    Day::of(at(FEBRUARY + n * DAY_MICROS))
}

fn bucket(micros: i64, width: Width) -> Bucket {
    Bucket::of(at(micros), width)
}

/// A bucket's width as seen at `now`, by the rule that old events go to quarters.
fn width_at(now: i64, micros: i64) -> Width {
    if micros >= now - fold::MINUTES_KEPT_MICROS {
        Width::Minute
    } else {
        Width::Quarter
    }
}

fn users(names: &[&str]) -> UserSet {
    let mut union = UserUnion::new(100);
    names.iter().for_each(|name| union.add(UserKey::PUBLIC.hash(name)));
    union.finish()
}

fn tally(events: u64, names: &[&str]) -> Tally {
    Tally {
        events,
        users: users(names),
    }
}

fn key(event_name: Option<&str>, channel: Option<&str>) -> SeriesKey {
    SeriesKey {
        event_name: event_name.map(str::to_owned),
        channel: channel.map(str::to_owned),
    }
}

/// A part's content, in a form that compares.
type Told = (SeriesId, i64, i16, u64, Vec<u8>);

fn told(part: &Part) -> Told {
    let (start, minutes) = (part.bucket.start.as_micros(), part.bucket.width.minutes());
    let tally = &part.tally;
    (part.series, start, minutes, tally.events, tally.users.encode())
}

fn part(series: SeriesId, micros: i64, width: Width, tally: Tally) -> Part {
    Part {
        series,
        bucket: bucket(micros, width),
        tally,
    }
}

/// Three series: a pair, its name, and everything.
async fn three_series(rollups: &mut dyn RollupStore) -> [SeriesId; 3] {
    let keys = [key(Some("view"), Some("web")), key(Some("view"), None), key(None, None)];
    let ids = rollups.series_ids(&keys).await.unwrap();
    ids.try_into().unwrap()
}
