//! Events made to break something, sent to the real server, with each of both databases.
//!
//! Every event is put together from parts whose meaning is known, so it is known which events must be refused and which
//! rows the others must become. An event that is answered 202 is in the database exactly once, as sent; one that is
//! answered 400 is not there; the flush never sets an event aside, which would mean that the server accepted what a
//! database cannot store.

mod pools;

use crate::hostile::input::pools::Part;
use crate::hostile::support::{ATTACKER, Siege};
use crate::support::postgres::Cluster;
use crate::support::process::client::Connection;
use crate::support::process::stored::Database;
use crate::support::random::Random;
use crate::torture::report::Footprint;

const LIMITS: Footprint = Footprint {
    rss_kib: 96 * 1024,
    threads: 32,
    files: 128,
};
/// Large enough that events of several overlong parts are refused for their content, not for their size.
const FLAGS: [(&str, &str); 1] = [("--event-bytes-max", "4MiB")];
/// Events of random parts, beside one event for each part.
const RANDOM_EVENTS: usize = 150;
/// Requests with several random events each.
const RANDOM_BULKS: usize = 40;

#[test]
fn sqlite_holds_what_was_accepted_and_nothing_else() {
    let siege = Siege::begin(LIMITS, &FLAGS);
    try_all(siege, "e.ts", "", "e.tags");
}

#[test]
fn postgresql_holds_what_was_accepted_and_nothing_else() {
    let database = Database::migrated(Cluster::shared());
    let siege = Siege::begin_on(&database, LIMITS, &FLAGS);
    let micros = "(extract(epoch FROM e.ts) * 1000000)::bigint";
    try_all(siege, micros, "::jsonb", "to_json(e.tags)::text");
}

/// The parts to choose from.
struct Pools {
    names: Vec<Part<String>>,
    ids: Vec<Part<String>>,
    timestamps: Vec<Part<i64>>,
    tags: Vec<Part<String>>,
    metadata: Vec<Part<String>>,
}

/// The index of the part for each field: event name, channel, user, timestamp, campaign, id, tags, metadata.
type Choice = [usize; 8];
/// The first part of each pool is valid.
const PLAIN: Choice = [0; 8];

/// An event as it is sent, and its row, as the values of a `VALUES` list and its tags; `None` if the event must be
/// refused.
struct Hostile {
    json: Vec<u8>,
    row: Option<(String, String)>,
}

impl Pools {
    fn sizes(&self) -> Choice {
        let (names, ids) = (self.names.len(), self.ids.len());
        let users = names;
        let (tags, metadata) = (self.tags.len(), self.metadata.len());
        [names, names, users, self.timestamps.len(), names, ids, tags, metadata]
    }

    fn event(&self, number: usize, choice: Choice) -> Hostile {
        // Each event has its own user, whose number has a fixed length.
        let users = pools::texts(&format!("{ATTACKER}{number:06}-"), 200);
        let [name, channel, user, timestamp, campaign, id, tags, metadata] = choice;
        let (name, channel, user) = (&self.names[name], &self.names[channel], &users[user]);
        let (campaign, id) = (&self.names[campaign], &self.ids[id]);
        let (timestamp, tags, metadata) = (&self.timestamps[timestamp], &self.tags[tags], &self.metadata[metadata]);
        let fields: [(&str, &[u8]); 8] = [
            ("event_name", &name.json),
            ("channel", &channel.json),
            ("user_id", &user.json),
            ("timestamp", &timestamp.json),
            ("campaign_id", &campaign.json),
            ("event_id", &id.json),
            ("tags", &tags.json),
            ("metadata", &metadata.json),
        ];
        let fields = fields.map(|(name, json)| [format!("\"{name}\":").as_bytes(), json].concat());
        let json = [b"{", &fields.join(&b","[..])[..], b"}"].concat();
        let row = || {
            let texts = [name, channel, campaign, id, metadata].map(|part| part.stored.as_deref().map(quoted));
            let [name, channel, campaign, id, metadata] = texts;
            let (user, micros) = (quoted(user.stored.as_deref()?), timestamp.stored?);
            let row = [user, name?, channel?, micros.to_string(), campaign?, id?, metadata?];
            Some((format!("({})", row.join(",")), tags.stored.clone()?))
        };
        Hostile { row: row(), json }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Sends all kinds of events and looks for them with these expressions for the columns: the time in microseconds, what
/// makes a text comparable to metadata, and the tags as JSON.
fn try_all(siege: Siege, micros: &str, as_metadata: &str, tags: &str) {
    let pools = Pools {
        names: pools::texts("", 200),
        ids: pools::texts("", 128),
        timestamps: pools::timestamps(),
        tags: pools::tags(),
        metadata: pools::metadata(),
    };
    let sizes = pools.sizes();
    let mut number = 0;
    let mut event = |choice| {
        number += 1;
        pools.event(number, choice)
    };
    let mut random = Random::from_environment();
    let mut at_random = || {
        let mut choice = PLAIN;
        for (part, &size) in choice.iter_mut().zip(&sizes) {
            if random.chance(12) {
                *part = usize::try_from(random.below(size as u64)).unwrap();
            }
        }
        choice
    };
    let mut requests = Vec::new();
    for field in 0..sizes.len() {
        for part in 0..sizes[field] {
            let mut choice = PLAIN;
            choice[field] = part;
            requests.push(vec![event(choice)]);
        }
    }
    requests.extend((0..RANDOM_EVENTS).map(|_| vec![event(at_random())]));
    // Most events of a bulk are good: one bad event refuses them all.
    let in_bulk = |index, choice| if index == 2 { choice } else { PLAIN };
    for _ in 0..RANDOM_BULKS {
        let events = (0..5).map(|index| event(in_bulk(index, at_random())));
        requests.push(events.collect());
    }

    let mut connection = Connection::open(siege.address()).unwrap();
    let (mut rows, mut refused) = (Vec::new(), 0);
    for events in &requests {
        let mut body = events
            .iter()
            .map(|event| &event.json[..])
            .collect::<Vec<_>>()
            .join(&b","[..]);
        let mut path = "/events";
        if events.len() > 1 {
            (path, body) = ("/events/bulk", [b"[", &body[..], b"]"].concat());
        }
        let answer = connection.request("POST", path, &body).unwrap();
        let wanted: Option<Vec<_>> = events.iter().map(|event| event.row.clone()).collect();
        let status = if wanted.is_some() { 202 } else { 400 };
        let shown: String = String::from_utf8_lossy(&body).chars().take(2000).collect();
        assert_eq!(answer.status, status, "{shown}\n{}", answer.body);
        refused += u32::from(wanted.is_none());
        rows.extend(wanted.into_iter().flatten());
    }
    assert!(
        rows.len() > 150 && refused > 150,
        "{} rows, {refused} refused",
        rows.len()
    );
    siege.lift_after(|database| {
        assert_holds(database, &rows, micros, as_metadata, tags);
        // The remaining events are the honest client's.
        database.execute(&format!("DELETE FROM events WHERE user_id LIKE '{ATTACKER}%'"));
    });
}

fn assert_holds(database: &Database, rows: &[(String, String)], micros: &str, as_metadata: &str, tags: &str) {
    let theirs = format!("FROM events e WHERE e.user_id LIKE '{ATTACKER}%'");
    let count = database.rows(&format!("SELECT count(*) {theirs}"));
    assert_eq!(count, [rows.len().to_string()]);
    // In small chunks: a statement may be a megabyte long, and these texts are long.
    for some in rows.chunks(10) {
        let values: Vec<_> = some.iter().map(|(row, _)| &row[..]).collect();
        let sql = format!(
            "SELECT v.column1, e.event_name, e.channel, {micros}, e.campaign_id, e.event_id
             FROM (VALUES {}) AS v LEFT JOIN events e ON e.user_id = v.column1
             WHERE e.event_name IS DISTINCT FROM v.column2 OR e.channel IS DISTINCT FROM v.column3
             OR {micros} IS DISTINCT FROM v.column4 OR e.campaign_id IS DISTINCT FROM v.column5
             OR e.event_id IS DISTINCT FROM v.column6 OR e.metadata IS DISTINCT FROM v.column7{as_metadata}",
            values.join(",")
        );
        assert!(database.rows(&sql).is_empty(), "{:?}", database.rows(&sql));
    }
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let found = database.rows(&format!("SELECT {tags} {theirs} ORDER BY substr(e.user_id, 1, 15)"));
    // Users are numbered in the order of sending.
    let found: Vec<_> = found.iter().map(|text| json(text)).collect();
    let sent: Vec<_> = rows.iter().map(|(_, tags)| json(tags)).collect();
    assert_eq!(found, sent, "tags");
}
