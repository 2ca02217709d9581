//! A connection to the model: the store's trait over copies of its tables.

mod calls;

use std::collections::BTreeMap;

use super::{Edit, Fault, Model, Tables};
use crate::event::Timestamp;
use crate::event::bucket::{Bucket, Day, Width};
use crate::rollup::users::NewKey;
use crate::rollup::{Delta, Part, SeriesId, SeriesKey, Tally, UserKey, series_of};
use crate::store::{RollupStore, StoreError};

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    model: Model,
    transaction: Option<Transaction>,
    is_broken: bool,
}

#[derive(Debug)]
struct Transaction {
    /// A snapshot and what was changed in it. Deltas from its next number on came later.
    tables: Tables,
    next_delta: u64,
    has_lock: bool,
}

/// The outcome of a call.
#[derive(PartialEq)]
enum Fate {
    Done,
    AnswerLost,
}

impl Connection {
    /// A connection to a database.
    pub(crate) fn to(model: &Model) -> Self {
        Self {
            model: model.clone(),
            transaction: None,
            is_broken: false,
        }
    }

    /// Another connection to the same database.
    pub(crate) fn reconnect(self) -> Self {
        self.model.connect()
    }

    /// The database.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// What is committed there, to be looked at or changed.
    pub(crate) fn edit(&self) -> Edit<'_> {
        self.model.edit()
    }

    /// Decides about a call before it is made.
    async fn call(&mut self) -> Result<Fate, StoreError> {
        assert!(!self.is_broken, "a connection was used after an error");
        let fault = {
            let mut shared = self.model.lock();
            shared.calls += 1;
            let (now, next) = match shared.fault {
                None => (None, None),
                Some(Fault::Before(0) | Fault::After(0) | Fault::Hang(0)) => (shared.fault, None),
                Some(Fault::Before(n)) => (None, Some(Fault::Before(n - 1))),
                Some(Fault::After(n)) => (None, Some(Fault::After(n - 1))),
                Some(Fault::Hang(n)) => (None, Some(Fault::Hang(n - 1))),
            };
            shared.fault = next;
            now
        };
        match fault {
            None => Ok(Fate::Done),
            Some(Fault::Hang(_)) => std::future::pending().await,
            Some(Fault::Before(_)) => Err(self.broken()),
            Some(Fault::After(_)) => Ok(Fate::AnswerLost),
        }
    }

    fn broken(&mut self) -> StoreError {
        self.is_broken = true;
        StoreError::Unavailable("the model was told to fail".to_owned())
    }

    /// Runs a call on the tables of the transaction.
    async fn on_tables<T>(
        &mut self,
        is_change: bool,
        act: impl FnOnce(&mut Tables) -> T + Send,
    ) -> Result<T, StoreError> {
        let fate = self.call().await?;
        let transaction = self.transaction.as_mut();
        let transaction = transaction.expect("calls belong between begin and commit");
        assert!(transaction.has_lock || !is_change, "changed without lock");
        let done = act(&mut transaction.tables);
        match fate {
            Fate::Done => Ok(done),
            Fate::AnswerLost => Err(self.broken()),
        }
    }

    fn begin_with(&mut self, has_lock: bool) {
        assert!(self.transaction.is_none(), "begun twice");
        let mut shared = self.model.lock();
        shared.is_locked |= has_lock;
        let transaction = Transaction {
            tables: shared.tables.clone(),
            next_delta: shared.tables.next_delta,
            has_lock,
        };
        drop(shared);
        self.transaction = Some(transaction);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.transaction.take().is_some_and(|open| open.has_lock) {
            self.model.lock().is_locked = false;
        }
    }
}
