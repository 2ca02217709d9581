//! A store of rollups in memory, for tests: transactions, the lock, and calls that fail when they are told to.

mod connection;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use self::connection::Connection;
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day};
use crate::rollup::fold::Fold;
use crate::rollup::{Delta, SeriesId, SeriesKey, Tally, UserKey};

/// A stored event: name, channel, user, time.
pub(crate) type Row = (String, String, String, Timestamp);

/// What the tables hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) events: Vec<Row>,
    /// By a number that grows.
    pub(crate) deltas: BTreeMap<u64, Delta>,
    /// The series' numbers are their places here.
    pub(crate) series: Vec<SeriesKey>,
    pub(crate) parts: BTreeMap<(SeriesId, Bucket), Tally>,
    /// `None`: stale.
    pub(crate) days: BTreeMap<(SeriesId, Day), Option<Tally>>,
    pub(crate) overflow: BTreeMap<Day, u64>,
    pub(crate) rebuild_needed: bool,
}

impl Tables {
    /// What a series counts.
    pub(crate) fn key(&self, series: SeriesId) -> &SeriesKey {
        &self.series[usize::try_from(series).unwrap()]
    }
}

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The n-th call from now, from 0, does nothing.
    Before(usize),
    /// It does what it should, and then its answer is lost.
    After(usize),
    /// It never comes to an end.
    Hang(usize),
}

/// A database. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    tables: Tables,
    next_delta: u64,
    is_locked: bool,
    fault: Option<Fault>,
    calls: usize,
}

impl Model {
    /// A connection.
    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self)
    }

    /// Stores events and their deltas, as a flush does.
    pub(crate) fn flush(&self, now: Timestamp, events: &[(&str, &str, &str, Timestamp)]) {
        let mut fold = Fold::new(now, UserKey::PUBLIC);
        for (name, channel, user, timestamp) in events {
            fold.add_one(name, channel, user, *timestamp);
        }
        let mut shared = self.lock();
        for delta in fold.finish() {
            let number = shared.next_delta;
            shared.next_delta += 1;
            let delta = Delta {
                event_name: delta.event_name.to_owned(),
                channel: delta.channel.to_owned(),
                bucket: delta.bucket,
                tally: Tally {
                    events: delta.events,
                    users: delta.users,
                },
            };
            shared.tables.deltas.insert(number, delta);
        }
        let row = |(name, channel, user, timestamp): &(&str, &str, &str, Timestamp)| {
            let [name, channel, user] = [name, channel, user].map(|text| (*text).to_owned());
            (name, channel, user, *timestamp)
        };
        shared.tables.events.extend(events.iter().map(row));
    }

    /// What is committed.
    pub(crate) fn tables(&self) -> Tables {
        self.lock().tables.clone()
    }

    /// Lets a call fail; replaces a fault that has not happened yet.
    pub(crate) fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Takes back a fault that has not happened yet, and returns whether there was one.
    pub(crate) fn heal(&self) -> bool {
        self.lock().fault.take().is_some()
    }

    /// How many calls were made on all connections.
    pub(crate) fn calls(&self) -> usize {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}
