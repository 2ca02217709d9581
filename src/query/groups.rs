//! From rows to groups: sorted, then added up one group at a time, because a set of many users takes 64 KB while it
//! grows and an answer may have thousands of groups.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::calendar::{Calendar, TimeBucket};
use super::counted::{CountedUsers, Place};
use super::error::AnswerError;
use super::memory::{Holding, OutOfMemory};
use super::snapshot::{Snapshot, UserCount};
use super::sums::{Adder, Row, add_up};
use super::{Counts, GROUPS_MAX, GroupKey, Grouping, MetricsQuery, Order, ReportGroup};
use crate::event::Timestamp;
use crate::rollup::users::{UserKey, UserUnion};

/// Stands between name and channel. Neither can contain it, and nothing sorts before it, so that pairs sort like their
/// texts.
const SEPARATOR: char = '\0';
/// Bytes that a text takes beside the two copies of its own bytes.
const TEXT_BYTES: usize = 128;

/// Everything that an answer adds up.
pub(super) struct Entries {
    grouping: Grouping,
    /// The key with which counted users are hashed.
    user_key: UserKey,
    /// Whether it matters who the users are, not only how many.
    tells_users: bool,
    /// Names and channels as far as the grouping tells them apart, each text once.
    texts: Vec<String>,
    numbers: HashMap<String, usize>,
    /// The text that is looked up: a buffer that is used again.
    looked_up: String,
    rows: Vec<Row>,
    counted: CountedUsers,
    memory: Holding,
}

impl Entries {
    /// Starts empty. Everything that grows with the events is taken from `memory`.
    pub(super) fn new(grouping: Grouping, memory: &Holding) -> Self {
        Self {
            grouping,
            user_key: UserKey::of_process(),
            tells_users: true,
            texts: Vec::new(),
            numbers: HashMap::new(),
            looked_up: String::new(),
            rows: Vec::new(),
            counted: CountedUsers::new(memory.clone()),
            memory: memory.clone(),
        }
    }

    /// Sets the key with which the database's sets of users were hashed, because counted users will be merged with
    /// these sets.
    pub(super) fn hash_with(&mut self, user_key: UserKey) {
        self.user_key = user_key;
    }

    /// Says that all events come from one stretch of time. Ungrouped, the store has then told their users apart.
    pub(super) fn only_count_users(&mut self) {
        self.tells_users = !self.grouping.is_none();
    }

    /// Adds a rollup row. A name or channel is `None` where the row does not have it.
    pub(super) fn add(
        &mut self,
        start: Timestamp,
        names: (Option<&str>, Option<&str>),
        events: u64,
        users: Vec<u8>,
    ) -> Result<(), OutOfMemory> {
        let place = (start, self.text(names)?);
        self.rows.push(Row { place, events, users });
        Ok(())
    }

    /// Adds a user who was counted.
    pub(super) fn add_user(&mut self, start: Timestamp, count: &UserCount<'_>) -> Result<(), OutOfMemory> {
        let place = (start, self.text((count.event_name, count.channel))?);
        let user = self.tells_users.then(|| self.user_key.hash(count.user_id));
        self.counted.add(place, count.events, user)
    }

    /// The number of the text for a name and a channel; makes a new one if need be.
    fn text(&mut self, (event_name, channel): (Option<&str>, Option<&str>)) -> Result<usize, OutOfMemory> {
        self.looked_up.clear();
        if self.grouping.event_name {
            self.looked_up.push_str(event_name.unwrap_or_default());
        }
        self.looked_up.push(SEPARATOR);
        if self.grouping.channel {
            self.looked_up.push_str(channel.unwrap_or_default());
        }
        if let Some(number) = self.numbers.get(&self.looked_up) {
            return Ok(*number);
        }
        self.memory.take(TEXT_BYTES + 2 * self.looked_up.len())?;
        let number = self.texts.len();
        self.texts.push(self.looked_up.clone());
        self.numbers.insert(self.looked_up.clone(), number);
        Ok(number)
    }

    /// Adds up the whole range and its groups.
    pub(super) async fn sum_up<S: Snapshot>(
        mut self,
        adder: &mut Adder<'_, S>,
        query: &MetricsQuery,
        mut calendar: Option<Calendar>,
    ) -> Result<(Counts, Vec<ReportGroup>), AnswerError<S::Error>> {
        let places = self.places(adder, query).await?;
        for row in &mut self.rows {
            row.place.1 = places.of_text[row.place.1];
        }
        for group in &mut self.counted.groups {
            group.place.1 = places.of_text[group.place.1];
        }
        let (mut total_events, mut total_users) = (0, UserUnion::new(adder.exact_max));
        let mut summed = Vec::new();
        let place = |place: Place| place;
        let each = |place, counts: Counts, set| {
            if summed.len() == GROUPS_MAX {
                return Err(AnswerError::TooManyGroups);
            }
            total_events += counts.total_events;
            if let Some(set) = set {
                total_users.add_set(set);
            }
            summed.push((place, counts));
            Ok(())
        };
        add_up(&mut self.rows, &mut self.counted, place, adder, each).await?;
        let total = match summed.as_slice() {
            [] => Counts::default(),
            [(_, only)] => *only,
            _ if self.rows.is_empty() => Counts::exactly(total_events, adder.distinct(&mut self.counted).await?),
            _ => Counts::new(total_events, total_users.finish().count()),
        };
        if self.grouping.is_none() {
            return Ok((total, Vec::new()));
        }
        if query.fill
            && let Some(calendar) = &mut calendar
        {
            summed = filled(summed, query, calendar, places.count)?;
        }
        let groups = summed.into_iter().map(|((start, place), counts)| ReportGroup {
            key: self.group_key(
                calendar.as_mut().map(|calendar| calendar.bucket_of(start)),
                places.texts.get(place).copied(),
            ),
            counts,
        });
        let groups = groups.collect();
        Ok((total, groups))
    }

    /// Orders the texts; all texts beyond the limit share the last place.
    async fn places<S: Snapshot>(
        &mut self,
        adder: &mut Adder<'_, S>,
        query: &MetricsQuery,
    ) -> Result<Places, AnswerError<S::Error>> {
        let mut weights = vec![0_u64; self.texts.len()];
        match query.order {
            Order::Name => {}
            Order::TotalEvents => {
                for row in &self.rows {
                    weights[row.place.1] += row.events;
                }
                for group in &self.counted.groups {
                    weights[group.place.1] += group.events;
                }
            }
            Order::UniqueUsers => {
                let each = |text: usize, counts: Counts, _| {
                    weights[text] = counts.users.count;
                    Ok(())
                };
                let text = |(_, text): Place| text;
                add_up(&mut self.rows, &mut self.counted, text, adder, each).await?;
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

/// The order of texts in each bucket of time.
struct Places {
    /// Place of each text.
    of_text: Vec<usize>,
    /// Text of each place, except the place that all others share.
    texts: Vec<usize>,
    /// How many places there are.
    count: usize,
}

/// What was summed up, by bucket of time and place.
type Summed = Vec<(Place, Counts)>;

/// Adds zeros for every bucket of the range and every place that has no counts.
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
