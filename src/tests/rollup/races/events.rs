//! The events that the flushers send: fresh and late ones, some with ids that other flushers use as well, some that the
//! database refuses.

use std::collections::HashSet;

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::{DAY_MICROS, HOUR_MICROS};

use crate::support::database::{Database, Event, event};
use crate::support::random::Random;

/// The name of events that the database refuses.
pub(super) const POISON: &str = "poison";
pub(super) const NAMES: [&str; 3] = ["view", "click", "größe'\\"];
pub(super) const CHANNELS: [&str; 3] = ["web", "app", "kiosk"];
/// Days around changes of clocks: 2026-10-03 (Lord Howe) and 2026-11-01 (New York).
pub(super) const CLOCK_CHANGES: [i64; 2] = [1_790_985_600_000_000, 1_793_491_200_000_000];
/// More users than a part names one by one.
const CROWD: u64 = 130;

/// An event to be sent.
pub(super) struct Draft {
    event_name: &'static str,
    channel: &'static str,
    user_id: String,
    micros: i64,
    event_id: Option<String>,
}

impl Draft {
    pub(super) fn event(&self) -> Event<'_> {
        Event {
            channel: self.channel,
            event_id: self.event_id.as_deref(),
            ..event(self.event_name, &self.user_id, self.micros)
        }
    }
}

/// A random instant of an event: recent, soon, or on a late day.
pub(super) fn random_micros(random: &mut Random, now: Timestamp) -> i64 {
    let mut below = |bound: i64| i64::try_from(random.below(bound.unsigned_abs())).unwrap();
    let now = now.as_micros();
    match below(10) {
        0..4 => now - below(4 * HOUR_MICROS),
        4 => now + below(20 * HOUR_MICROS),
        5 => now - below(2 * DAY_MICROS),
        6 | 7 => CLOCK_CHANGES[0] + below(2 * DAY_MICROS),
        _ => CLOCK_CHANGES[1] + below(DAY_MICROS),
    }
}

/// The events of one batch. Users whose name begins with `prefix` are in no other batch.
pub(super) fn drafts(random: &mut Random, now: Timestamp, prefix: &str) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = (0..1 + random.below(40))
        .map(|_| {
            let event_name = random.pick(&NAMES);
            let channel = random.pick(&CHANNELS);
            if random.chance(40) {
                return with_id(random, now, event_name, channel);
            }
            Draft {
                event_name: if random.chance(1) { POISON } else { event_name },
                channel,
                user_id: format!("user-{}", random.below(300)),
                micros: random_micros(random, now),
                event_id: None,
            }
        })
        .collect();
    if random.chance(10) {
        let micros = random_micros(random, now);
        drafts.extend((0..CROWD).map(|n| Draft {
            event_name: NAMES[0],
            channel: CHANNELS[0],
            user_id: format!("{prefix}-{n}"),
            micros,
            event_id: None,
        }));
    }
    drafts
}

/// An event that other flushers send as well, at the same time for the same user, but under any name and in any
/// channel.
fn with_id(random: &mut Random, now: Timestamp, event_name: &'static str, channel: &'static str) -> Draft {
    let id = random.below(400);
    let days = i64::try_from(id % 4).unwrap() * 10 * DAY_MICROS;
    let seconds = i64::try_from(id).unwrap() * 1_000_000;
    Draft {
        event_name,
        channel,
        user_id: format!("user-{}", id % 50),
        micros: now.as_micros() - days - seconds,
        event_id: Some(format!("id-{id}")),
    }
}

/// Compares the database with what was sent: each event is a row, events with the same id are one row, the refused ones
/// are in quarantine.
pub(super) async fn assert_stored(database: &Database, sent: &[Draft]) {
    let (mut rows, mut refused, mut ids) = (0, 0, HashSet::new());
    for draft in sent {
        match &draft.event_id {
            _ if draft.event_name == POISON => refused += 1,
            Some(id) => drop(ids.insert(id)),
            None => rows += 1,
        }
    }
    let with_id = sent.iter().filter(|draft| draft.event_id.is_some());
    assert!(with_id.count() > 2 * ids.len() && refused > 0);
    rows += i64::try_from(ids.len()).unwrap();
    assert_eq!(database.count("events").await, rows);
    assert_eq!(database.count("quarantine").await, refused);
}
