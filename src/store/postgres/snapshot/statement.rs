//! The statements of a snapshot: the conditions that a filter needs, and their values.

use std::ops::Range;

use diesel::data_types::PgTimestamp;
use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_query;
use diesel::sql_types::Text;

use super::rows::pg_timestamp;
use crate::event::Timestamp;
use crate::query::snapshot::{EventFilter, Names, SeriesFilter};

/// A statement with its values.
pub(super) type Statement<'f> = BoxedSqlQuery<'f, Pg, SqlQuery>;

/// Number of events in a range. The series of all events has each event once. Whole days that are not stale are taken
/// from their sums, because a year's parts lie scattered over as many pages; a day without a row has no parts.
pub(super) const EVENTS_STORED: &str = "
    SELECT (SELECT coalesce(sum(CASE
                WHEN NOT d.stale AND d.day >= $1 AND d.day + interval '24 hours' <= $2 THEN d.events
                ELSE (SELECT sum(p.events) FROM rollups p WHERE p.series_id = d.series_id
                      AND p.bucket >= greatest(d.day, $1) AND p.bucket < least(d.day + interval '24 hours', $2))
            END), 0)
            FROM rollup_days d WHERE d.day > $1 - interval '24 hours' AND d.day < $2
            AND d.series_id = (SELECT id FROM rollup_series WHERE event_name IS NULL AND channel IS NULL))::bigint
         + (SELECT coalesce(sum(events), 0) FROM rollup_deltas WHERE bucket >= $1 AND bucket < $2)::bigint AS events";

/// Parts of series. OFFSET keeps PostgreSQL from joining in another order: each range of each series is one walk
/// through the primary key, whatever the planner believes about the size of the tables.
pub(super) fn parts_sql(names: &str, rows_max: usize) -> String {
    format!(
        "SELECT s.event_name, s.channel, p.bucket, p.minutes, p.events, p.users
         FROM rollup_series s
         CROSS JOIN unnest($1::timestamptz[], $2::timestamptz[]) AS r (range_start, range_end)
         CROSS JOIN LATERAL (SELECT bucket, minutes, events, users FROM rollups
                             WHERE series_id = s.id AND bucket >= r.range_start AND bucket < r.range_end OFFSET 0) AS p
         WHERE true{names} LIMIT {rows_max}"
    )
}

/// Events by user. Texts compare by bytes, because a language's collation costs more than all the rest.
pub(super) fn users_sql<'f>(events: &'f EventFilter, starts: &[Timestamp], select: &mut Select<'f>) -> String {
    let mut names = select.only(&events.event_names, "event_name") + &select.only(&events.channels, "channel");
    if let Some(campaign_id) = &events.campaign_id {
        names += &select.equals("campaign_id", campaign_id);
    }
    let group = if starts.len() > 1 {
        "width_bucket(ts, $3::timestamptz[]) - 1"
    } else {
        "0"
    };
    format!(
        "SELECT {group} AS group_index, {event_name} COLLATE \"C\" AS event_name, {channel} COLLATE \"C\" AS channel,
                user_id COLLATE \"C\" AS user_id, count(*) AS events
         FROM events WHERE ts >= $1 AND ts < $2{names} GROUP BY 1, 2, 3, 4",
        event_name = column(&events.event_names, "event_name"),
        channel = column(&events.channels, "channel"),
    )
}

/// Conditions that are being built, and the texts that they compare with.
pub(super) struct Select<'f> {
    /// Parameters so far.
    parameters: usize,
    pub(super) texts: Vec<&'f str>,
}

impl<'f> Select<'f> {
    /// `parameters` come before the texts.
    pub(super) fn new(parameters: usize) -> Self {
        Self {
            parameters,
            texts: Vec::new(),
        }
    }

    /// The condition that a column holds a text.
    fn equals(&mut self, column: &str, text: &'f str) -> String {
        self.texts.push(text);
        format!(" AND {column} = ${}", self.parameters + self.texts.len())
    }

    /// The condition on a column that is never NULL.
    pub(super) fn only(&mut self, names: &'f Names, column: &str) -> String {
        match names {
            Names::One(name) => self.equals(column, name),
            Names::Each | Names::All => String::new(),
        }
    }

    /// The condition on `rollup_series s`.
    pub(super) fn series(&mut self, series: &'f SeriesFilter) -> String {
        let mut condition = |names: &'f Names, column: &str| match names {
            Names::One(name) => self.equals(column, name),
            Names::Each => format!(" AND {column} IS NOT NULL"),
            Names::All => format!(" AND {column} IS NULL"),
        };
        condition(&series.event_names, "s.event_name") + &condition(&series.channels, "s.channel")
    }

    /// The statement with all its values; `first` binds those that come before the texts.
    pub(super) fn bind_after(self, sql: &str, first: impl FnOnce(Statement<'f>) -> Statement<'f>) -> Statement<'f> {
        let statement = first(sql_query(sql).into_boxed::<Pg>());
        self.texts
            .into_iter()
            .fold(statement, |statement, text| statement.bind::<Text, _>(text))
    }
}

/// What a statement selects for a name: the column only if names differ; a single name is known already.
pub(super) fn column(names: &Names, column: &'static str) -> &'static str {
    match names {
        Names::Each => column,
        Names::One(_) | Names::All => "NULL::text",
    }
}

/// Starts and ends of ranges that cover the same time without touching each other, so that no part is read twice.
pub(super) fn disjoint(ranges: &[Range<Timestamp>]) -> (Vec<PgTimestamp>, Vec<PgTimestamp>) {
    let mut ranges: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    let (mut starts, mut ends): (Vec<Timestamp>, Vec<Timestamp>) = (Vec::new(), Vec::new());
    for range in ranges {
        match ends.last_mut() {
            Some(end) if range.start <= *end => *end = range.end.max(*end),
            _ => {
                starts.push(range.start);
                ends.push(range.end);
            }
        }
    }
    let pg = |instants: Vec<Timestamp>| instants.into_iter().map(pg_timestamp).collect();
    (pg(starts), pg(ends))
}
