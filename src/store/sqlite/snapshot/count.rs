//! Counting events one by one: by user, and by group of time.

use std::ops::Range;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, params};

use super::{bounds, name_condition, one, refused};
use crate::event::Timestamp;
use crate::query::snapshot::{EachUser, EventFilter, Names, UserCount};

/// Registers the function `group_of(ts, starts)`: the index of the last start that is not after `ts`. The starts are
/// one BLOB, so that the function keeps nothing between calls.
pub(super) fn register_group_of(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("group_of", 2, flags, group_of)
}

/// Counts the events of a range by user and group.
pub(super) fn users(
    connection: &Connection,
    events: &EventFilter,
    range: Range<Timestamp>,
    starts: &[Timestamp],
    each: &mut EachUser<'_>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&sql(events, starts.len()))?;
    let (name, channel) = (one(&events.event_names), one(&events.channels));
    let [from, to] = bounds(&range);
    let mut users = statement.query(params![name, channel, events.campaign_id, encode(starts), from, to])?;
    while let Some(row) = users.next()? {
        each(UserCount {
            group: row.get::<_, u32>(0)? as usize,
            event_name: name.or(row.get_ref(1)?.as_str_or_null()?),
            channel: channel.or(row.get_ref(2)?.as_str_or_null()?),
            user_id: row.get_ref(3)?.as_str()?,
            events: super::rows::count(row, 4)?,
        })
        .map_err(|error| refused(error.into()))?;
    }
    Ok(())
}

/// The counting statement. Values that are the same for all events (an only group, a single name, names that are not
/// told apart) are neither computed nor sorted for each event.
pub(super) fn sql(events: &EventFilter, starts: usize) -> String {
    let (group, by_group) = match starts {
        0 | 1 => ("0", ""),
        _ => ("group_of(ts, ?4)", "1, "),
    };
    let column = |column, place, names: &Names| match names {
        Names::Each => (column, place),
        Names::One(_) | Names::All => ("NULL", ""),
    };
    let (name, by_name) = column("event_name", "2, ", &events.event_names);
    let (channel, by_channel) = column("channel", "3, ", &events.channels);
    let channel_condition = match events.channels {
        Names::One(_) => "AND channel = ?2",
        Names::Each | Names::All => "",
    };
    let campaign_condition = match events.campaign_id {
        Some(_) => "AND campaign_id = ?3",
        None => "",
    };
    format!(
        "SELECT {group}, {name}, {channel}, user_id, count(*) FROM events \
         WHERE {name_condition} {channel_condition} {campaign_condition} AND ts >= ?5 AND ts < ?6 \
         GROUP BY {by_group}{by_name}{by_channel}4",
        name_condition = name_condition("events", &events.event_names)
    )
}

fn encode(starts: &[Timestamp]) -> Vec<u8> {
    starts
        .iter()
        .flat_map(|start| start.as_micros().to_le_bytes())
        .collect()
}

fn group_of(context: &Context<'_>) -> rusqlite::Result<i64> {
    let micros: i64 = context.get(0)?;
    let (starts, _) = context.get_raw(1).as_blob()?.as_chunks::<8>();
    let not_after = starts.partition_point(|start| i64::from_le_bytes(*start) <= micros);
    // The first start is not after the range, so `not_after` is at least 1.
    Ok(not_after.saturating_sub(1) as i64)
}
