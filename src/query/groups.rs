//! From rows to groups: sorted, then added up one group at a time, because a set of many users takes 64 KB while it grows and an answer
//! may have thousands.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::answer::{AnswerError, USERS_COUNTED_MAX};
use super::calendar::{Calendar, TimeBucket};
use super::snapshot::{Snapshot, UserCount};
use super::{Counts, GROUPS_MAX, Group, GroupKey, Grouping, MetricsQuery, Order};
use crate::event::Timestamp;
use crate::rollup::users::{UserHash, UserSet, UserUnion};

/// Stands between name and channel. Neither can contain it, and nothing sorts before it, so that pairs sort like their texts.
const SEPARATOR: char = '\0';

/// Everything that an answer adds up.
pub(super) struct Entries {
    grouping: Grouping,
    /// Names and channels as far as the grouping tells them apart, each text once.
    texts: Vec<String>,
    numbers: HashMap<String, usize>,
    /// The text that is looked up.
    looked_up: String,
    entries: Vec<Entry>,
    users_counted: usize,
}

/// A row, or a user who was counted.
struct Entry {
    /// Where its bucket of time begins.
    start: Timestamp,
    /// Number of its text, later of its place among the texts.
    text: usize,
    events: u64,
    users: Users,
}

/// Users of an entry.
pub(super) enum Users {
    /// As `rollup::UserSet` encodes them.
    Encoded(Vec<u8>),
    /// One.
    One(UserHash),
}

impl Entries {
    pub(super) fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            texts: Vec::new(),
            numbers: HashMap::new(),
            looked_up: String::new(),
            entries: Vec::new(),
            users_counted: 0,
        }
    }

    /// Adds a row of an event name and a channel, as far as it says them.
    pub(super) fn add(
        &mut self,
        start: Timestamp,
        (event_name, channel): (Option<&str>, Option<&str>),
        events: u64,
        users: Users,
    ) {
        self.looked_up.clear();
        if self.grouping.event_name {
            self.looked_up.push_str(event_name.unwrap_or_default());
        }
        self.looked_up.push(SEPARATOR);
        if self.grouping.channel {
            self.looked_up.push_str(channel.unwrap_or_default());
        }
        let text = match self.numbers.get(&self.looked_up) {
            Some(number) => *number,
            None => {
                self.texts.push(self.looked_up.clone());
                self.numbers
                    .insert(self.looked_up.clone(), self.texts.len() - 1);
                self.texts.len() - 1
            }
        };
        self.entries.push(Entry {
            start,
            text,
            events,
            users,
        });
    }

    /// Adds a user who was counted; only counts them once there are too many to keep.
    pub(super) fn add_user(&mut self, start: Timestamp, count: &UserCount<'_>) {
        self.users_counted += 1;
        if self.users_counted <= USERS_COUNTED_MAX {
            let user = Users::One(UserHash::of(count.user_id));
            self.add(start, (count.event_name, count.channel), count.events, user);
        }
    }

    /// How many users were added, a user of two groups being two.
    pub(super) fn users_counted(&self) -> usize {
        self.users_counted
    }

    /// The whole range and its groups.
    pub(super) async fn sum_up<S: Snapshot>(
        mut self,
        adder: &mut Adder<'_, S>,
        query: &MetricsQuery,
        mut calendar: Option<Calendar>,
    ) -> Result<(Counts, Vec<Group>), AnswerError<S::Error>> {
        let places = self.places(adder, query).await?;
        for entry in &mut self.entries {
            entry.text = places.of_text[entry.text];
        }
        self.entries.sort_unstable_by_key(Entry::key);
        let of_one_group = |a: &Entry, b: &Entry| a.key() == b.key();
        if self.entries.chunk_by(of_one_group).count() > GROUPS_MAX {
            return Err(AnswerError::TooManyGroups);
        }
        if self.grouping.is_none() {
            let (total, _) = adder.add_up(&self.entries).await?;
            return Ok((total, Vec::new()));
        }
        let mut total_events = 0;
        let mut users = UserUnion::new(adder.exact_max);
        let mut summed = Vec::new();
        for entries in self.entries.chunk_by(of_one_group) {
            let (counts, set) = adder.add_up(entries).await?;
            total_events += counts.total_events;
            users.add_set(set);
            summed.push((entries[0].key(), counts));
        }
        let total = Counts {
            total_events,
            users: users.finish().count(),
        };
        if query.fill
            && let Some(calendar) = &mut calendar
        {
            summed = filled(summed, query, calendar, places.count)?;
        }
        let groups = summed.into_iter().map(|((start, place), counts)| Group {
            key: self.group_key(
                calendar.as_mut().map(|calendar| calendar.bucket_of(start)),
                places.texts.get(place).copied(),
            ),
            counts,
        });
        let groups = groups.collect();
        Ok((total, groups))
    }

    /// Orders the texts and gives those beyond the limit the last place together.
    async fn places<S: Snapshot>(
        &mut self,
        adder: &mut Adder<'_, S>,
        query: &MetricsQuery,
    ) -> Result<Places, AnswerError<S::Error>> {
        let mut weights = vec![0_u64; self.texts.len()];
        match query.order {
            Order::Name => {}
            Order::TotalEvents => {
                for entry in &self.entries {
                    weights[entry.text] += entry.events;
                }
            }
            Order::UniqueUsers => {
                self.entries.sort_unstable_by_key(|entry| entry.text);
                for entries in self.entries.chunk_by(|a, b| a.text == b.text) {
                    let (counts, _) = adder.add_up(entries).await?;
                    weights[entries[0].text] = counts.users.count;
                }
            }
        }
        let mut ordered: Vec<usize> = (0..self.texts.len()).collect();
        ordered.sort_unstable_by_key(|&text| (Reverse(weights[text]), &self.texts[text]));
        let named = query.limit.unwrap_or(usize::MAX).min(ordered.len());
        let mut of_text = vec![named; ordered.len()];
        for (place, &text) in ordered[..named].iter().enumerate() {
            of_text[text] = place;
        }
        let has_other = named < ordered.len();
        let count = if self.grouping.has_names() {
            named + usize::from(has_other)
        } else {
            1
        };
        ordered.truncate(named);
        Ok(Places {
            of_text,
            texts: ordered,
            count,
        })
    }

    /// The key of a group with a text, or of the group of all others.
    fn group_key(&self, bucket: Option<TimeBucket>, text: Option<usize>) -> GroupKey {
        let mut key = GroupKey {
            bucket,
            ..GroupKey::default()
        };
        if !self.grouping.has_names() {
            return key;
        }
        match text.and_then(|text| self.texts[text].split_once(SEPARATOR)) {
            Some((event_name, channel)) => {
                key.event_name = self.grouping.event_name.then(|| event_name.to_owned());
                key.channel = self.grouping.channel.then(|| channel.to_owned());
            }
            None => key.is_other = true,
        }
        key
    }
}

impl Entry {
    fn key(&self) -> (Timestamp, usize) {
        (self.start, self.text)
    }
}

/// The order of texts in each bucket of time.
struct Places {
    /// Place of each text.
    of_text: Vec<usize>,
    /// Text of each place, but for the one of all others.
    texts: Vec<usize>,
    /// How many places there are.
    count: usize,
}

/// What was summed up, by bucket of time and place.
type Summed = Vec<((Timestamp, usize), Counts)>;

/// Adds entries up, and takes a breath now and again: a large answer takes seconds, and others wait for the thread.
pub(super) struct Adder<'s, S> {
    snapshot: &'s mut S,
    /// Most users that a set tells apart.
    exact_max: usize,
    /// Work since the last breath.
    work: u32,
}

/// Work between two breaths, in users that are added: some milliseconds.
const WORK_MAX: u32 = 100_000;
/// What merging a set is worth: 50 µs when it is a full sketch.
const SET_WORK: u32 = 1_000;

impl<'s, S: Snapshot> Adder<'s, S> {
    /// For sets that stay exact up to `exact_max` users.
    pub(super) fn new(snapshot: &'s mut S, exact_max: usize) -> Self {
        Self {
            snapshot,
            exact_max,
            work: 0,
        }
    }

    async fn add_up(
        &mut self,
        entries: &[Entry],
    ) -> Result<(Counts, UserSet), AnswerError<S::Error>> {
        let mut total_events = 0;
        let mut users = UserUnion::new(self.exact_max);
        for entry in entries {
            total_events += entry.events;
            self.work += match &entry.users {
                Users::Encoded(bytes) => {
                    users.add_set(UserSet::decode(bytes)?);
                    SET_WORK
                }
                Users::One(user) => {
                    users.add(*user);
                    1
                }
            };
            if self.work >= WORK_MAX {
                self.work = 0;
                let breath = self.snapshot.breathe().await;
                breath.map_err(AnswerError::Store)?;
            }
        }
        let users = users.finish();
        // Finishing a set takes about as long as merging one, and then it goes into the whole range's.
        self.work += 2 * SET_WORK;
        let counts = Counts {
            total_events,
            users: users.count(),
        };
        Ok((counts, users))
    }
}

/// Adds zeros for every bucket of the range and every place that has none.
fn filled<E>(
    summed: Summed,
    query: &MetricsQuery,
    calendar: &mut Calendar,
    places: usize,
) -> Result<Summed, AnswerError<E>> {
    let buckets_max = GROUPS_MAX / places.max(1);
    let buckets = calendar.buckets_of(query.from..query.to, buckets_max + 1);
    if places > 0 && buckets.len() > buckets_max {
        return Err(AnswerError::TooManyGroups);
    }
    let mut summed = summed.into_iter().peekable();
    let mut filled = Vec::with_capacity(buckets.len() * places);
    for bucket in buckets {
        for place in 0..places {
            let key = (bucket.start, place);
            let group = summed.next_if(|(found, _)| *found == key);
            filled.push(group.unwrap_or((key, Counts::default())));
        }
    }
    Ok(filled)
}
