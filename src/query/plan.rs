//! Which series a question reads, and which stretches of time it must count from the events.

use std::ops::Range;

use super::MetricsQuery;
use super::calendar::Calendar;
use super::snapshot::{EventFilter, Names, SeriesFilter};
use crate::event::Timestamp;
use crate::event::bucket::{DAY_MICROS, HOUR_MICROS, TimeUnit};
use crate::event::bucket::{Day, QUARTER_MICROS, floor};

/// If there are more stretches than this, those with small gaps are joined: each stretch is a statement of its own.
const STRETCHES_MAX: usize = 16;
/// Longest gap that joining closes.
const JOINED_GAP_MICROS: i64 = HOUR_MICROS;

/// The events that a question is about, and how far it tells them apart.
pub(super) fn event_filter(query: &MetricsQuery) -> EventFilter {
    let names = |one: &Option<String>, is_grouped| match one {
        Some(one) => Names::One(one.clone()),
        None if is_grouped => Names::Each,
        None => Names::All,
    };
    EventFilter {
        event_names: names(&query.event_name, query.group_by.event_name),
        channels: names(&query.channel, query.group_by.channel),
        campaign_id: query.campaign_id.clone(),
    }
}

/// The series that tell apart at least what `events` does: there is no series of one channel over all names.
pub(super) fn series_filter(events: &EventFilter) -> SeriesFilter {
    let event_names = match (&events.event_names, &events.channels) {
        (Names::All, Names::One(_) | Names::Each) => Names::Each,
        (names, _) => names.clone(),
    };
    SeriesFilter {
        event_names,
        channels: events.channels.clone(),
    }
}

/// What days on which not every name and pair has a series mean for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverflowRule {
    /// Nothing: the question is about all events together.
    NotConcerned,
    /// Nothing on days where the question's only series has a row.
    UnlessAdmitted,
    /// The question's series may be incomplete there.
    Harmed,
}

impl OverflowRule {
    pub(super) fn of(events: &EventFilter) -> Self {
        match (&events.event_names, &events.channels) {
            (Names::All, Names::All) => Self::NotConcerned,
            (Names::One(_), Names::All | Names::One(_)) => Self::UnlessAdmitted,
            _ => Self::Harmed,
        }
    }
}

/// The whole UTC days in a range; empty where there are none.
pub(super) fn whole_days(range: &Range<Timestamp>) -> Range<Timestamp> {
    let day_before_end = Day::of(range.end).start();
    let floored = Day::of(range.start);
    let start = if floored.start() == range.start {
        range.start
    } else {
        floored.end()
    };
    start..day_before_end.max(start)
}

/// The range, but from the beginning of a quarter of an hour on: every row that overlaps `range` begins inside the
/// result.
pub(super) fn from_quarter(range: &Range<Timestamp>) -> Range<Timestamp> {
    floor(range.start, QUARTER_MICROS)..range.end
}

/// Whether it is worth looking for sums of days, because some of them may fit into a group. In most zones no date is a
/// UTC day. In the others every date is, or those of a season, so looking at both ends is mostly enough; a day that this
/// misses does no harm.
pub(super) fn days_may_fit(whole: &Range<Timestamp>, calendar: Option<&mut Calendar>) -> bool {
    if whole.is_empty() {
        return false;
    }
    let Some(calendar) = calendar else {
        return true;
    };
    match calendar.unit() {
        TimeUnit::Minute | TimeUnit::Hour => false,
        TimeUnit::Week | TimeUnit::Month => true,
        TimeUnit::Day => {
            let last = Timestamp::from_micros(whole.end.as_micros() - DAY_MICROS);
            [whole.start, last].into_iter().any(|start| {
                let day = Day::of(start);
                fits(&(day.start()..day.end()), whole, Some(&mut *calendar))
            })
        }
    }
}

/// Whether an interval lies wholly inside the range and inside one bucket of time.
pub(super) fn fits(interval: &Range<Timestamp>, range: &Range<Timestamp>, calendar: Option<&mut Calendar>) -> bool {
    range.start <= interval.start
        && interval.end <= range.end
        && calendar.is_none_or(|calendar| calendar.bucket_of(interval.start).end >= interval.end)
}

/// A set of instants: disjoint stretches in order, with a gap between any two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stretches(Vec<Range<Timestamp>>);

impl Stretches {
    /// The union of some intervals, which may be empty.
    pub(super) fn union(intervals: impl IntoIterator<Item = Range<Timestamp>>) -> Self {
        let mut intervals: Vec<_> = intervals.into_iter().filter(|interval| !interval.is_empty()).collect();
        intervals.sort_unstable_by_key(|interval| interval.start);
        let mut merged: Vec<Range<Timestamp>> = Vec::new();
        for interval in intervals {
            match merged.last_mut() {
                Some(last) if interval.start <= last.end => last.end = last.end.max(interval.end),
                _ => merged.push(interval),
            }
        }
        Self(merged)
    }

    /// What is in none of `others`.
    pub(super) fn without(self, others: &Self) -> Self {
        let mut rest = Vec::new();
        for stretch in self.0 {
            let mut start = stretch.start;
            for other in &others.0 {
                if other.end <= start || stretch.end <= other.start {
                    continue;
                }
                rest.push(start..other.start);
                start = other.end;
            }
            rest.push(start..stretch.end);
        }
        Self::union(rest)
    }

    /// Joins stretches, if there are many. Only valid if each row that overlaps the set lies wholly in it, and does so
    /// also after a gap between two stretches was closed.
    pub(super) fn joined(self) -> Self {
        if self.0.len() <= STRETCHES_MAX {
            return self;
        }
        let mut joined: Vec<Range<Timestamp>> = Vec::new();
        for stretch in self.0 {
            match joined.last_mut() {
                Some(last) if stretch.start.as_micros() - last.end.as_micros() <= JOINED_GAP_MICROS => {
                    last.end = stretch.end;
                }
                _ => joined.push(stretch),
            }
        }
        Self(joined)
    }

    /// Whether an interval lies wholly inside.
    pub(super) fn contain(&self, interval: &Range<Timestamp>) -> bool {
        let after = self.0.partition_point(|stretch| stretch.start <= interval.start);
        after > 0 && interval.end <= self.0[after - 1].end
    }

    /// The stretches, cut to a range.
    pub(super) fn clipped(&self, range: &Range<Timestamp>) -> Vec<Range<Timestamp>> {
        let clip = |stretch: &Range<Timestamp>| stretch.start.max(range.start)..stretch.end.min(range.end);
        let clipped = self.0.iter().map(clip);
        clipped.filter(|stretch| !stretch.is_empty()).collect()
    }

    pub(super) fn as_slice(&self) -> &[Range<Timestamp>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval((start, end): (i64, i64)) -> Range<Timestamp> {
        Timestamp::from_micros(start)..Timestamp::from_micros(end)
    }

    fn stretches<const N: usize>(intervals: [(i64, i64); N]) -> Stretches {
        Stretches::union(intervals.map(interval))
    }

    #[test]
    fn stretches_are_a_set_of_instants() {
        let set = stretches([(30, 40), (0, 10), (5, 12), (12, 15), (50, 50), (32, 35)]);
        assert_eq!(set.as_slice(), [(0, 15), (30, 40)].map(interval));
        for (inside, is_inside) in [
            ((0, 15), true),
            ((31, 40), true),
            ((14, 16), false),
            ((14, 31), false),
            ((20, 21), false),
            ((39, 41), false),
        ] {
            assert_eq!(set.contain(&interval(inside)), is_inside, "{inside:?}");
        }
        let rest = set.clone().without(&stretches([(5, 6), (10, 35), (39, 60)]));
        assert_eq!(rest, stretches([(0, 5), (6, 10), (35, 39)]));
        let clipped = set.clipped(&interval((10, 31)));
        assert_eq!(clipped, [(10, 15), (30, 31)].map(interval));
        assert_eq!(set.clipped(&interval((15, 30))), []);
    }

    #[test]
    fn many_stretches_are_joined_where_little_lies_between_them() {
        let of = |count: i64| {
            // The last one is more than an hour away from the one before.
            Stretches::union((0..count).map(|n| {
                let start = 2 * n * HOUR_MICROS + i64::from(n == count - 1);
                interval((start, start + HOUR_MICROS))
            }))
        };
        let few = STRETCHES_MAX as i64;
        assert_eq!(of(few).joined(), of(few));
        let joined = of(few + 1).joined();
        let end = (2 * few - 1) * HOUR_MICROS;
        let last = 2 * few * HOUR_MICROS + 1;
        let expected = [(0, end), (last, last + HOUR_MICROS)];
        assert_eq!(joined.as_slice(), expected.map(interval));
    }

    #[test]
    fn whole_days_are_those_that_the_range_does_not_cut() {
        let day = DAY_MICROS;
        for (range, expected) in [
            ((0, 2 * day), (0, 2 * day)),
            ((1, 3 * day - 1), (day, 2 * day)),
            ((1, day), (day, day)),
            ((1, 2), (day, day)),
        ] {
            assert_eq!(whole_days(&interval(range)), interval(expected), "{range:?}");
        }
    }
}
