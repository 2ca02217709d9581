//! Users who were counted one by one: the cheapest form in which millions of them can be told apart.
//!
//! The store returns each user of a group once, so a group without rollups needs no set: it has as many users as rows.
//! The users are kept for what spans groups: the whole range, "other", and groups that rollups add to. Each is 16 bytes
//! in a chunk; sorting a chunk takes a millisecond or so, and chunks are then walked side by side, so that nothing is
//! copied and other tasks get the thread in between.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};

use super::memory::{Holding, OutOfMemory};
use crate::event::Timestamp;
use crate::rollup::users::UserHash;

/// Users in a chunk: one megabyte.
const CHUNK_USERS: usize = 65_536;
/// Users in the first allocation: most questions count the users of a few minutes only.
const CHUNK_USERS_MIN: usize = 64;
/// Bytes that a group takes, with its entry in the hash table.
const GROUP_BYTES: usize = 96;

/// Where users are counted: the start of a bucket of time, and the number of a text.
pub(super) type Place = (Timestamp, usize);

/// A user in a group, by the group's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counted {
    pub(super) group: u32,
    pub(super) user: UserHash,
}

/// Events of a place.
#[derive(Debug)]
pub(super) struct CountedGroup {
    pub(super) place: Place,
    pub(super) events: u64,
    /// Number of users: one for each row, because each row is another user.
    pub(super) users: u64,
}

/// The users, by group.
#[derive(Debug)]
pub(super) struct CountedUsers {
    pub(super) groups: Vec<CountedGroup>,
    numbers: HashMap<Place, u32>,
    chunks: Vec<Vec<Counted>>,
    memory: Holding,
}

impl CountedUsers {
    pub(super) fn new(memory: Holding) -> Self {
        Self {
            groups: Vec::new(),
            numbers: HashMap::new(),
            chunks: Vec::new(),
            memory,
        }
    }

    /// Adds events of a user who is new in that place. `user` is `None` if it does not matter who the user is.
    pub(super) fn add(&mut self, place: Place, events: u64, user: Option<UserHash>) -> Result<(), OutOfMemory> {
        let group = match self.numbers.get(&place) {
            Some(number) => *number,
            None => {
                self.memory.take(GROUP_BYTES)?;
                let number = u32::try_from(self.groups.len()).expect("memory ends before");
                self.numbers.insert(place, number);
                self.groups.push(CountedGroup {
                    place,
                    events: 0,
                    users: 0,
                });
                number
            }
        };
        let counted = &mut self.groups[group as usize];
        counted.events += events;
        counted.users += 1;
        match user {
            Some(user) => self.push(Counted { group, user }),
            None => Ok(()),
        }
    }

    fn push(&mut self, counted: Counted) -> Result<(), OutOfMemory> {
        let is_full = |chunk: &Vec<Counted>| chunk.len() == CHUNK_USERS;
        if self.chunks.last().is_none_or(is_full) {
            self.chunks.push(Vec::new());
        }
        let is_first = self.chunks.len() == 1;
        let chunk = self.chunks.last_mut().expect("pushed above");
        if chunk.len() == chunk.capacity() {
            let capacity = match chunk.capacity() {
                0 if is_first => CHUNK_USERS_MIN,
                0 => CHUNK_USERS,
                capacity => (2 * capacity).min(CHUNK_USERS),
            };
            let more = capacity - chunk.capacity();
            self.memory.take(more * size_of::<Counted>())?;
            chunk.reserve_exact(capacity - chunk.len());
        }
        chunk.push(counted);
        Ok(())
    }

    /// The chunks, for sorting one at a time.
    pub(super) fn chunks_mut(&mut self) -> impl Iterator<Item = &mut Vec<Counted>> {
        self.chunks.iter_mut()
    }

    /// The keys of all users in order. Each chunk must be sorted by `key`.
    pub(super) fn merged<K: Ord + Copy, F: Fn(&Counted) -> K>(&self, key: F) -> Merged<'_, K, F> {
        let mut heads = BinaryHeap::with_capacity(self.chunks.len());
        for (chunk, users) in self.chunks.iter().enumerate() {
            if let Some(first) = users.first() {
                heads.push(Reverse((key(first), chunk, 0)));
            }
        }
        Merged {
            chunks: &self.chunks,
            heads,
            key,
        }
    }
}

/// The keys of all users, ascending.
pub(super) struct Merged<'c, K, F> {
    chunks: &'c [Vec<Counted>],
    /// For each chunk: the next key, the chunk's index, and the key's position in it.
    heads: BinaryHeap<Reverse<(K, usize, usize)>>,
    key: F,
}

impl<K: Ord + Copy, F: Fn(&Counted) -> K> Iterator for Merged<'_, K, F> {
    type Item = K;

    fn next(&mut self) -> Option<K> {
        let mut head = self.heads.peek_mut()?;
        let Reverse((key, chunk, place)) = *head;
        match self.chunks[chunk].get(place + 1) {
            // Changed in place: one sift instead of two.
            Some(next) => *head = Reverse(((self.key)(next), chunk, place + 1)),
            None => {
                PeekMut::pop(head);
            }
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::memory::QueryMemory;
    use super::*;
    use crate::rollup::UserKey;

    fn place(text: usize) -> Place {
        (Timestamp::from_micros(0), text)
    }

    #[test]
    fn users_of_many_chunks_come_out_in_order() {
        let memory = QueryMemory::new(64 << 20);
        let mut counted = CountedUsers::new(memory.question());
        let users = 2 * CHUNK_USERS + 5;
        let mut expected = BTreeSet::new();
        for n in 0..users {
            let user = UserKey::PUBLIC.hash(&(n / 2).to_string());
            counted.add(place(n % 3), 2, Some(user)).unwrap();
            expected.insert((n % 3, user));
        }
        let events: u64 = counted.groups.iter().map(|group| group.events).sum();
        assert_eq!((counted.groups.len(), events), (3, 2 * users as u64));
        let by_group = |counted: &Counted| (counted.group as usize, counted.user);
        for chunk in counted.chunks_mut() {
            chunk.sort_unstable_by_key(by_group);
        }
        assert!(counted.merged(by_group).eq(expected));
        assert!(memory.held() >= users * 16 && memory.held() < users * 16 + (2 << 20));
        drop(counted);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn few_users_take_little_and_too_many_are_refused() {
        let memory = QueryMemory::new(4096);
        let mut counted = CountedUsers::new(memory.question());
        let mut add = |n: u32| {
            let user = UserKey::PUBLIC.hash(&n.to_string());
            counted.add(place(0), 1, Some(user))
        };
        let fitting = (0..).take_while(|n| add(*n).is_ok()).count();
        assert!((64..=256).contains(&fitting), "{fitting}");
        assert_eq!(add(0), Err(OutOfMemory::Question { bytes_max: 4096 }));
    }
}
