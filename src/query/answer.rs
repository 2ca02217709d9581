//! From a question to its answer, on one snapshot.
//!
//! An event must be counted once, whichever rows hold it. A row is used as it stands if it lies wholly inside the range
//! and inside one group. If a row does not, no rollup of its minute or quarter is used, whichever series it is of, and
//! the events there are counted one by one: rows of both widths may overlap there, and each event is in only one of
//! them.

use std::collections::BTreeSet;
use std::ops::Range;

use super::calendar::Calendar;
use super::error::AnswerError;
use super::groups::Entries;
use super::plan::{self, OverflowRule, Stretches};
use super::snapshot::{DayRow, EventFilter, RollupRow, SeriesFilter, Snapshot};
use super::sums::Adder;
use super::{GROUPS_MAX, MetricsQuery, MetricsReport, Source};
use crate::event::Timestamp;
use crate::event::bucket::Day;

/// Most buckets of time in which events are counted: nearly two years of minutes. Every 10,000 take a statement.
const BUCKETS_COUNTED_MAX: usize = 1_000_000;
/// Up to so many events are counted rather than estimated, which takes some hundred milliseconds. Small in tests.
pub(super) const CHEAP_EVENTS_MAX: u64 = if cfg!(test) { 500 } else { 50_000 };
/// Most users that a group made from rollups counts exactly: under a megabyte, for one group at a time.
const GROUP_EXACT_MAX: usize = 100_000;

/// Answers a question.
///
/// # Errors
///
/// [`AnswerError::TooManyGroups`] beyond [`GROUPS_MAX`] groups, [`AnswerError::TooLarge`] or [`AnswerError::Memory`]
/// where the answer would need too much work or memory, or an error of the store or its rollups.
pub async fn answer<S: Snapshot>(
    snapshot: &mut S,
    query: &MetricsQuery,
) -> Result<MetricsReport, AnswerError<S::Error>> {
    if query.exact || query.campaign_id.is_some() {
        return from_events(snapshot, query).await;
    }
    let report = from_rollups(snapshot, query).await?;
    if !is_exact(&report) && is_cheap(snapshot, query).await? {
        return from_events(snapshot, query).await;
    }
    Ok(report)
}

fn is_exact(report: &MetricsReport) -> bool {
    let mut counts = report.groups.iter().map(|group| &group.counts);
    report.total.users.error == 0.0 && counts.all(|counts| counts.users.error == 0.0)
}

async fn is_cheap<S: Snapshot>(snapshot: &mut S, query: &MetricsQuery) -> Result<bool, AnswerError<S::Error>> {
    let range = plan::from_quarter(&(query.from..query.to));
    let events = snapshot.events_stored(range).await;
    Ok(events.map_err(AnswerError::Store)? <= CHEAP_EVENTS_MAX)
}

async fn from_events<S: Snapshot>(
    snapshot: &mut S,
    query: &MetricsQuery,
) -> Result<MetricsReport, AnswerError<S::Error>> {
    let mut answering = Answering::new(query, snapshot);
    answering.entries.only_count_users();
    answering.count_events(snapshot, query.from..query.to).await?;
    answering.report(snapshot, Source::Events, usize::MAX).await
}

async fn from_rollups<S: Snapshot>(
    snapshot: &mut S,
    query: &MetricsQuery,
) -> Result<MetricsReport, AnswerError<S::Error>> {
    let mut answering = Answering::new(query, snapshot);
    if query.from < query.to {
        let Some(days) = answering.read_days(snapshot).await? else {
            return from_events(snapshot, query).await;
        };
        let rows = answering.read_rows(snapshot, &days).await?;
        answering.add_rollups(snapshot, days, rows).await?;
    }
    answering.report(snapshot, Source::Rollups, GROUP_EXACT_MAX).await
}

/// What is known about the UTC days of the range.
struct Days {
    /// Sums that can be used.
    sums: Vec<DayRow>,
    /// Where parts must be read.
    in_parts: Stretches,
    /// Where parts and deltas lack some names or channels, so events must be counted.
    overflowed: Stretches,
}

/// A question on the way to its answer.
struct Answering<'a> {
    query: &'a MetricsQuery,
    range: Range<Timestamp>,
    calendar: Option<Calendar>,
    events: EventFilter,
    series: SeriesFilter,
    entries: Entries,
    overflowed: bool,
    buckets_counted: usize,
}

impl<'a> Answering<'a> {
    fn new<S: Snapshot>(query: &'a MetricsQuery, snapshot: &S) -> Self {
        let events = plan::event_filter(query);
        Self {
            query,
            range: query.from..query.to,
            calendar: query.group_by.time.map(|unit| Calendar::new(unit, query.zone.clone())),
            series: plan::series_filter(&events),
            events,
            entries: Entries::new(query.group_by, snapshot.memory()),
            overflowed: false,
            buckets_counted: 0,
        }
    }

    /// `None` when there are no rollups to rely on.
    async fn read_days<S: Snapshot>(&mut self, snapshot: &mut S) -> Result<Option<Days>, AnswerError<S::Error>> {
        let touched = Day::of(self.range.start).start()..self.range.end;
        let rule = OverflowRule::of(&self.events);
        let state = snapshot.rollup_state(touched.clone()).await;
        let Some(state) = state.map_err(AnswerError::Store)? else {
            return Ok(None);
        };
        self.entries.hash_with(state.user_key);
        let mut overflowed = state.overflowed;
        if rule == OverflowRule::NotConcerned {
            overflowed.clear();
        }
        let asks_admission = rule == OverflowRule::UnlessAdmitted && !overflowed.is_empty();
        let whole = plan::whole_days(&self.range);
        let may_fit = plan::days_may_fit(&whole, self.calendar.as_mut());
        let range = match (asks_admission, may_fit) {
            (true, _) => Some(touched),
            (false, true) => Some(whole.clone()),
            (false, false) => None,
        };
        let mut sums = match range {
            Some(range) => snapshot.days(&self.series, range).await,
            None => Ok(Vec::new()),
        }
        .map_err(AnswerError::Store)?;
        if asks_admission {
            let admitted: BTreeSet<Day> = sums.iter().map(|row| row.day).collect();
            overflowed.retain(|day| !admitted.contains(day));
        }
        self.overflowed = !overflowed.is_empty();
        let overflowed = Stretches::union(overflowed.into_iter().map(day_range));
        let from = plan::from_quarter(&self.range);
        if !may_fit {
            return Ok(Some(Days {
                sums: Vec::new(),
                in_parts: Stretches::union([from]).without(&overflowed),
                overflowed,
            }));
        }
        // The other days were read only to learn where the series has a row.
        sums.retain(|row| whole.contains(&row.day.start()));
        // The calendar is cheap when it is asked in order of time.
        sums.sort_unstable_by_key(|row| row.day);
        // If one series is stale on a day, all series read their parts of that day.
        let mut without_sum = BTreeSet::new();
        for row in &sums {
            let fits = plan::fits(&day_range(row.day), &whole, self.calendar.as_mut());
            if row.total.is_none() || !fits {
                without_sum.insert(row.day);
            }
        }
        sums.retain(|row| !without_sum.contains(&row.day));
        let edges = [from.start..whole.start, whole.end..from.end];
        let in_parts = without_sum.into_iter().map(day_range).chain(edges);
        Ok(Some(Days {
            sums,
            in_parts: Stretches::union(in_parts).without(&overflowed),
            overflowed,
        }))
    }

    /// Parts and deltas that overlap the range, in order of time.
    async fn read_rows<S: Snapshot>(
        &mut self,
        snapshot: &mut S,
        days: &Days,
    ) -> Result<Vec<RollupRow>, AnswerError<S::Error>> {
        let mut rows = Vec::new();
        let in_parts = days.in_parts.as_slice();
        if !in_parts.is_empty() {
            let parts = snapshot.parts(&self.series, in_parts).await;
            rows = parts.map_err(AnswerError::Store)?;
        }
        let deltas = snapshot.deltas(&self.series, plan::from_quarter(&self.range));
        rows.extend(deltas.await.map_err(AnswerError::Store)?);
        rows.retain(|row| row.bucket.start < self.range.end && row.bucket.end() > self.range.start);
        rows.sort_unstable_by_key(|row| row.bucket);
        Ok(rows)
    }

    /// Adds the rows that fit, and counts the events of the others.
    async fn add_rollups<S: Snapshot>(
        &mut self,
        snapshot: &mut S,
        days: Days,
        rows: Vec<RollupRow>,
    ) -> Result<(), AnswerError<S::Error>> {
        let mut counted: Vec<_> = days.overflowed.as_slice().to_vec();
        for row in &rows {
            let interval = row_range(row);
            if !plan::fits(&interval, &self.range, self.calendar.as_mut()) {
                counted.push(interval);
            }
        }
        let counted = Stretches::union(counted).joined();
        for row in rows {
            if !counted.contain(&row_range(&row)) {
                let start = self.group_start(row.bucket.start);
                let names = (row.event_name.as_deref(), row.channel.as_deref());
                self.entries.add(start, names, row.events, row.users)?;
            }
        }
        for row in days.sums {
            // A series may have a row on a day before it has events there.
            let Some((events, users)) = row.total.filter(|(events, _)| *events > 0) else {
                continue;
            };
            if !counted.contain(&day_range(row.day)) {
                let start = self.group_start(row.day.start());
                let names = (row.event_name.as_deref(), row.channel.as_deref());
                self.entries.add(start, names, events, users)?;
            }
        }
        for stretch in counted.clipped(&self.range) {
            self.count_events(snapshot, stretch).await?;
        }
        Ok(())
    }

    /// Counts the events of a stretch of the range.
    async fn count_events<S: Snapshot>(
        &mut self,
        snapshot: &mut S,
        stretch: Range<Timestamp>,
    ) -> Result<(), AnswerError<S::Error>> {
        let mut rest = stretch;
        while rest.start < rest.end {
            let (starts, end) = match &mut self.calendar {
                None => (vec![self.range.start], rest.end),
                Some(calendar) => {
                    let buckets = calendar.buckets_of(rest.clone(), GROUPS_MAX);
                    let end = buckets.last().map_or(rest.end, |last| last.end);
                    let starts = buckets.iter().map(|bucket| bucket.start).collect();
                    (starts, end.min(rest.end))
                }
            };
            self.buckets_counted += starts.len();
            if self.buckets_counted > BUCKETS_COUNTED_MAX {
                return Err(AnswerError::TooLarge(format!(
                    "events would have to be counted in more than {BUCKETS_COUNTED_MAX} intervals of time; ask for a shorter range \
                     or for longer intervals"
                )));
            }
            let entries = &mut self.entries;
            let mut each = |count: super::snapshot::UserCount<'_>| entries.add_user(starts[count.group], &count);
            let counting = snapshot.count_users(&self.events, rest.start..end, &starts, &mut each);
            counting.await.map_err(AnswerError::Store)?;
            rest.start = end;
        }
        Ok(())
    }

    fn group_start(&mut self, instant: Timestamp) -> Timestamp {
        match &mut self.calendar {
            Some(calendar) => calendar.bucket_of(instant).start,
            None => self.range.start,
        }
    }

    async fn report<S: Snapshot>(
        self,
        snapshot: &mut S,
        source: Source,
        exact_max: usize,
    ) -> Result<MetricsReport, AnswerError<S::Error>> {
        let mut adder = Adder::new(snapshot, exact_max);
        let (total, groups) = self.entries.sum_up(&mut adder, self.query, self.calendar).await?;
        Ok(MetricsReport {
            total,
            source,
            overflowed: self.overflowed,
            groups,
        })
    }
}

fn day_range(day: Day) -> Range<Timestamp> {
    day.start()..day.end()
}

fn row_range(row: &RollupRow) -> Range<Timestamp> {
    row.bucket.start..row.bucket.end()
}
