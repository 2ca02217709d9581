//! Adding up: rows of the rollups and users who were counted, one group after the other.
//!
//! A large answer takes seconds, and other tasks wait for the thread, so the work is interrupted by pauses.

use super::Counts;
use super::counted::{Counted, CountedUsers, Place};
use super::error::AnswerError;
use super::snapshot::Snapshot;
use crate::rollup::users::{UserHash, UserSet, UserUnion};

/// Work between two pauses, in users that are added: some milliseconds.
const WORK_MAX: u32 = 100_000;
/// Work of merging one set: 50 µs when it is a full sketch.
const SET_WORK: u32 = 1_000;

/// A row of the rollups, on the way to its group.
pub(super) struct Row {
    /// Where the row belongs: the start of a bucket of time, and the number of its text; later the text's place in the
    /// order.
    pub(super) place: Place,
    pub(super) events: u64,
    /// As `rollup::UserSet` encodes them.
    pub(super) users: Vec<u8>,
}

/// Does the work, and pauses in between.
pub(super) struct Adder<'s, S> {
    snapshot: &'s mut S,
    /// Most users that a set tells apart.
    pub(super) exact_max: usize,
    /// Work since the last pause.
    work: u32,
}

impl<'s, S: Snapshot> Adder<'s, S> {
    /// For sets that stay exact up to `exact_max` users.
    pub(super) fn new(snapshot: &'s mut S, exact_max: usize) -> Self {
        Self {
            snapshot,
            exact_max,
            work: 0,
        }
    }

    async fn worked(&mut self, work: u32) -> Result<(), AnswerError<S::Error>> {
        self.work += work;
        if self.work >= WORK_MAX {
            self.work = 0;
            let breath = self.snapshot.pause().await;
            breath.map_err(AnswerError::Store)?;
        }
        Ok(())
    }

    /// Number of distinct users among all that were counted.
    pub(super) async fn distinct(&mut self, counted: &mut CountedUsers) -> Result<u64, AnswerError<S::Error>> {
        let user = |counted: &Counted| counted.user;
        self.sort(counted, user).await?;
        let (mut distinct, mut last) = (0, None);
        for user in counted.merged(user) {
            distinct += u64::from(last != Some(user));
            last = Some(user);
            self.worked(1).await?;
        }
        Ok(distinct)
    }

    /// Sorts each chunk, so that chunks can be walked side by side.
    async fn sort<K: Ord>(
        &mut self,
        counted: &mut CountedUsers,
        key: impl Fn(&Counted) -> K,
    ) -> Result<(), AnswerError<S::Error>> {
        for chunk in counted.chunks_mut() {
            chunk.sort_unstable_by_key(&key);
            self.worked(chunk.len() as u32).await?;
        }
        Ok(())
    }

    /// Adds rows to a set.
    async fn add_rows(&mut self, union: &mut UserUnion, rows: &[Row]) -> Result<(), AnswerError<S::Error>> {
        for row in rows {
            union.add_set(UserSet::decode(&row.users)?);
            self.worked(SET_WORK).await?;
        }
        Ok(())
    }
}

/// What was counted of a group.
struct CountedSum<K> {
    key: K,
    events: u64,
    users: u64,
}

/// Adds up everything by `key`, and hands over each group, ascending, with the set of its users if there are rows at
/// all. Without rows every user was counted, and numbers are enough.
pub(super) async fn add_up<S: Snapshot, K: Ord + Copy>(
    rows: &mut [Row],
    counted: &mut CountedUsers,
    key: impl Fn(Place) -> K,
    adder: &mut Adder<'_, S>,
    mut each: impl FnMut(K, Counts, Option<UserSet>) -> Result<(), AnswerError<S::Error>>,
) -> Result<(), AnswerError<S::Error>> {
    rows.sort_unstable_by_key(|row| key(row.place));
    let sums = sums(counted, &key);
    let number_of = |key: K| sums.binary_search_by_key(&key, |sum| sum.key);
    let numbers: Vec<u32> = counted
        .groups
        .iter()
        .map(|group| number_of(key(group.place)).expect("summed above") as u32)
        .collect();
    let by_sum = |counted: &Counted| (numbers[counted.group as usize], counted.user);
    adder.sort(counted, by_sum).await?;
    let mut users = counted.merged(by_sum).peekable();
    let mut of_rows = rows.chunk_by(|a, b| key(a.place) == key(b.place)).peekable();
    let has_rows = of_rows.peek().is_some();
    let mut of_counted = sums.iter().zip(0_u32..).peekable();
    loop {
        let next_rows = of_rows.peek().map(|rows| key(rows[0].place));
        let next_counted = of_counted.peek().map(|(sum, _)| sum.key);
        let Some(group) = next_rows.into_iter().chain(next_counted).min() else {
            return Ok(());
        };
        let rows = of_rows.next_if(|rows| key(rows[0].place) == group).unwrap_or_default();
        let mut events = rows.iter().map(|row| row.events).sum();
        let mut union = has_rows.then(|| UserUnion::new(adder.exact_max));
        if let Some(union) = &mut union {
            adder.add_rows(union, rows).await?;
        }
        let mut distinct = 0;
        if let Some((sum, number)) = of_counted.next_if(|(sum, _)| sum.key == group) {
            events += sum.events;
            let mut last: Option<UserHash> = None;
            while let Some((_, user)) = users.next_if(|(of, _)| *of == number) {
                if last != Some(user) {
                    distinct += 1;
                    if let Some(union) = &mut union {
                        union.add(user);
                    }
                }
                last = Some(user);
                adder.worked(1).await?;
            }
            if last.is_none() {
                // Who the users are was not kept, only how many.
                distinct = sum.users;
            }
        }
        match union {
            None => each(group, Counts::exactly(events, distinct), None)?,
            Some(union) => {
                let set = union.finish();
                // Finishing a set takes about as long as merging one, and the set is then merged into that of the whole
                // range.
                adder.worked(2 * SET_WORK).await?;
                each(group, Counts::new(events, set.count()), Some(set))?;
            }
        }
    }
}

/// The groups of counted users, merged by `key`, ascending.
fn sums<K: Ord>(counted: &CountedUsers, key: impl Fn(Place) -> K) -> Vec<CountedSum<K>> {
    let mut sums: Vec<CountedSum<K>> = counted
        .groups
        .iter()
        .map(|group| CountedSum {
            key: key(group.place),
            events: group.events,
            users: group.users,
        })
        .collect();
    sums.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    sums.dedup_by(|next, sum| {
        let is_same = next.key == sum.key;
        if is_same {
            sum.events += next.events;
            sum.users += next.users;
        }
        is_same
    });
    sums
}
