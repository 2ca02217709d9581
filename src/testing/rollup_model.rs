//! A store of rollups in memory, for tests: transactions, the lock, and calls that fail on demand.

mod connection;
mod tables;

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use self::connection::Connection;
pub(crate) use self::tables::Tables;
use crate::event::Timestamp;
use crate::event::bucket::Day;

/// A stored event: name, channel, user, time.
pub(crate) type Row = (String, String, String, Timestamp);

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The n-th call from now, counted from 0, does nothing.
    Before(usize),
    /// The n-th call takes effect, but its answer is lost.
    After(usize),
    /// The n-th call never returns.
    Hang(usize),
}

/// What other connections commit in between.
type Interruption = Box<dyn FnOnce(&mut Tables) + Send>;

/// A database. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    tables: Tables,
    is_locked: bool,
    fault: Option<Fault>,
    /// Commits of changes until one fails, that one included.
    commits_until_fault: Option<usize>,
    before_commit: Option<Interruption>,
    calls: usize,
    /// How often the events of a range that begins on a day were read.
    reads: HashMap<Day, usize>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}

/// Direct access to the tables, past all transactions.
pub(crate) struct Edit<'m>(MutexGuard<'m, Shared>);

impl Deref for Edit<'_> {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.0.tables
    }
}

impl DerefMut for Edit<'_> {
    fn deref_mut(&mut self) -> &mut Tables {
        &mut self.0.tables
    }
}

impl Model {
    /// A connection.
    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self)
    }

    /// Stores events and their deltas, as a flush does.
    pub(crate) fn flush(&self, now: Timestamp, events: &[(&str, &str, &str, Timestamp)]) {
        let row = |(name, channel, user, timestamp): &(&str, &str, &str, Timestamp)| {
            let [name, channel, user] = [name, channel, user].map(|text| (*text).to_owned());
            (name, channel, user, *timestamp)
        };
        let rows: Vec<Row> = events.iter().map(row).collect();
        self.edit().flush(&rows, now);
    }

    /// What is committed.
    pub(crate) fn tables(&self) -> Tables {
        self.lock().tables.clone()
    }

    /// What is committed, to be looked at or changed while nobody else does.
    pub(crate) fn edit(&self) -> Edit<'_> {
        Edit(self.lock())
    }

    /// Makes a call fail; replaces a fault that has not happened yet.
    pub(crate) fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Takes back a fault that has not happened yet, and returns whether there was one.
    pub(crate) fn heal(&self) -> bool {
        self.lock().fault.take().is_some()
    }

    /// Makes the n-th commit of changes, counted from 1, fail before it does anything; `None`: no commit.
    pub(crate) fn fail_commit(&self, commits: Option<usize>) {
        self.lock().commits_until_fault = commits;
    }

    /// What other connections commit before the next commit of changes.
    pub(crate) fn before_commit(&self, interruption: impl FnOnce(&mut Tables) + Send + 'static) {
        self.lock().before_commit = Some(Box::new(interruption));
    }

    /// How many calls were made on all connections.
    pub(crate) fn calls(&self) -> usize {
        self.lock().calls
    }

    /// How often events were read from a day on.
    pub(crate) fn reads(&self, day: Day) -> usize {
        self.lock().reads.get(&day).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}
