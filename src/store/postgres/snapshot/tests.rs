//! The reads of a snapshot, on a real PostgreSQL whose tables the tests fill by themselves.

use tokio_postgres::types::ToSql;

use super::super::connect::Connector;
use super::*;
use crate::event::bucket::MINUTE_MICROS;
use crate::event::bucket::{DAY_MICROS, HOUR_MICROS};
use crate::query::memory::QueryMemory;
use crate::store::settings::StoreLocation;
use crate::upkeep::upgrade;

#[path = "../../../tests/support/postgres.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod server;

mod limits;

/// 2026-02-01T00:00:00Z, the start of a month.
const FEBRUARY: i64 = 1_769_904_000_000_000;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Enough memory for every question here.
fn memory() -> Holding {
    QueryMemory::new(64 << 20).question()
}

/// A migrated database.
struct Database {
    url: String,
    session: tokio_postgres::Client,
}

impl Database {
    async fn new() -> Self {
        let cluster = tokio::task::spawn_blocking(server::Cluster::shared).await.unwrap();
        let url = cluster.create_database().await;
        let location = StoreLocation::Postgres(url.clone());
        tokio::task::spawn_blocking(move || upgrade::up(&location))
            .await
            .unwrap()
            .unwrap();
        let session = server::connect(&url).await;
        Self { url, session }
    }

    async fn run(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap();
    }

    async fn connection(&self) -> AsyncPgConnection {
        let connector = Connector::parse(&self.url).unwrap();
        connector.connect_diesel().await.unwrap()
    }

    /// The plan of a statement, with values as the snapshot gives them.
    async fn plan(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> String {
        let explain = format!("EXPLAIN {sql}");
        let lines = self.session.query(&explain, values).await.unwrap();
        lines.iter().map(|line| line.get::<_, String>(0) + "\n").collect()
    }

    /// Series 1 to 6, and in each of them: days 0 (fresh), 1 (stale) and 2 (fresh), two parts on each, one of them a
    /// minute. A row's events tell where it comes from: series × 100, + 10 × day, + 1 for a minute. So do its users.
    async fn with_series() -> Self {
        let database = Self::new().await;
        database.run(&format!(
                "INSERT INTO rollup_series (event_name, channel) VALUES
                     ('view', 'web'), ('view', 'app'), ('view', NULL), ('click', 'web'), ('click', NULL), (NULL, NULL);
                 INSERT INTO rollup_days SELECT s.id, {day}, d = 1, s.id * 100 + 10 * d, int8send(s.id * 100 + 10 * d)
                     FROM rollup_series s, generate_series(0, 2) d;
                 INSERT INTO rollups SELECT s.id, {day} + h * interval '1 hour', 15 - 14 * h, s.id * 100 + 10 * d + h,
                         int8send(s.id * 100 + 10 * d + h)
                     FROM rollup_series s, generate_series(0, 2) d, generate_series(0, 1) h;
                 INSERT INTO rollup_deltas
                     SELECT name, channel, {day} + interval '1 minute', 1, length(name) * 100 + d, int8send(length(name) * 100 + d)
                     FROM (VALUES ('view', 'web'), ('view', 'app'), ('click', 'web')) n (name, channel), generate_series(0, 2) d;
                 INSERT INTO rollup_overflow (day, events) SELECT {day}, 7 FROM generate_series(0, 2) d",
                day = "timestamptz '2026-02-01 00:00:00+00' + d * interval '24 hours'"
            ))
            .await;
        database
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(FEBRUARY + micros)
}

fn one(name: &str) -> Names {
    Names::One(name.to_owned())
}

fn series(event_names: Names, channels: Names) -> SeriesFilter {
    SeriesFilter { event_names, channels }
}

/// A name as a person would write it.
fn shown(event_name: Option<&str>, channel: Option<&str>) -> String {
    format!("{}/{}", event_name.unwrap_or("*"), channel.unwrap_or("*"))
}

fn days_shown(mut rows: Vec<DayRow>) -> Vec<String> {
    rows.sort_by_key(|row| (row.event_name.clone(), row.channel.clone(), row.day));
    let show = |row: &DayRow| {
        let name = shown(row.event_name.as_deref(), row.channel.as_deref());
        let day = (row.day.start().as_micros() - FEBRUARY) / DAY_MICROS;
        let total = row.total.as_ref().map(|(events, users)| {
            assert_eq!(users, &events.to_be_bytes());
            *events
        });
        format!("{name} {day} {total:?}")
    };
    rows.iter().map(show).collect()
}

fn pieces_shown(mut rows: Vec<RollupRow>) -> Vec<String> {
    rows.sort_by_key(|row| {
        let name = (row.event_name.clone(), row.channel.clone());
        (name, row.bucket, row.events)
    });
    let show = |row: &RollupRow| {
        let name = shown(row.event_name.as_deref(), row.channel.as_deref());
        assert_eq!(row.users, row.events.to_be_bytes());
        let minute = (row.bucket.start.as_micros() - FEBRUARY) / MINUTE_MICROS;
        let minutes = row.bucket.width.minutes();
        format!("{name} {minute}+{minutes} {}", row.events)
    };
    rows.iter().map(show).collect()
}

#[tokio::test]
async fn days_are_those_of_the_filter_and_stale_ones_have_no_numbers() {
    let database = Database::with_series().await;
    let mut connection = database.connection().await;
    let mut snapshot = PgSnapshot::begin(&mut connection, TIMEOUT, memory()).await.unwrap();
    let mut days = async |event_names, channels, from, to| {
        let rows = snapshot.days(&series(event_names, channels), at(from)..at(to)).await;
        days_shown(rows.unwrap())
    };
    let all = ["view/web 0 Some(100)", "view/web 1 None", "view/web 2 Some(120)"];
    let (day, two) = (DAY_MICROS, 2 * DAY_MICROS);
    assert_eq!(days(one("view"), one("web"), 0, two + 1).await, all);
    // Ranges are half-open, and a day is in a range if it begins there.
    assert_eq!(days(one("view"), one("web"), 0, two).await, all[..2]);
    assert_eq!(days(one("view"), one("web"), 1, two + 1).await, all[1..]);
    for (event_names, channels, expected) in [
        (
            one("view"),
            Names::Each,
            &["view/app 0 Some(200)", "view/web 0 Some(100)"][..],
        ),
        (one("view"), Names::All, &["view/* 0 Some(300)"]),
        (
            Names::Each,
            one("web"),
            &["click/web 0 Some(400)", "view/web 0 Some(100)"],
        ),
        (
            Names::Each,
            Names::Each,
            &["click/web 0 Some(400)", "view/app 0 Some(200)", "view/web 0 Some(100)"],
        ),
        (Names::Each, Names::All, &["click/* 0 Some(500)", "view/* 0 Some(300)"]),
        (Names::All, Names::All, &["*/* 0 Some(600)"]),
        (one("nobody"), Names::All, &[]),
    ] {
        assert_eq!(days(event_names, channels, 0, day).await, expected);
    }
}

#[tokio::test]
async fn parts_of_several_ranges_come_once_each() {
    let database = Database::with_series().await;
    let mut connection = database.connection().await;
    let mut snapshot = PgSnapshot::begin(&mut connection, TIMEOUT, memory()).await.unwrap();
    let mut parts = async |event_names, channels, ranges: &[Range<i64>]| {
        let ranges: Vec<_> = ranges.iter().map(|range| at(range.start)..at(range.end)).collect();
        let rows = snapshot.parts(&series(event_names, channels), &ranges).await;
        pieces_shown(rows.unwrap())
    };
    let (hour, day) = (HOUR_MICROS, DAY_MICROS);
    let web = [
        "view/web 0+15 100",
        "view/web 60+1 101",
        "view/web 1440+15 110",
        "view/web 1500+1 111",
        "view/web 2880+15 120",
        "view/web 2940+1 121",
    ];
    let (view, pair) = (one("view"), one("web"));
    let whole = [0..2 * day, 2 * day..3 * day];
    assert_eq!(parts(view.clone(), pair.clone(), &whole).await, web);
    // Ranges are half-open, and may come in any order.
    let pieces = [2 * day + hour..3 * day, hour..day + hour];
    assert_eq!(
        parts(view.clone(), pair.clone(), &pieces).await,
        [web[1], web[2], web[5]]
    );
    // Ranges that overlap, touch, lie within each other or are empty.
    let pieces = [0..hour, hour..day, 0..day + 1, 5..5, hour..hour + 1];
    assert_eq!(parts(view, pair, &pieces).await, web[..3]);
    assert_eq!(parts(one("view"), Names::All, &[]).await, [""; 0]);
    let first = [0..1, day..day + 1];
    assert_eq!(
        parts(Names::Each, Names::All, &first).await,
        [
            "click/* 0+15 500",
            "click/* 1440+15 510",
            "view/* 0+15 300",
            "view/* 1440+15 310"
        ]
    );
    assert_eq!(
        parts(Names::Each, Names::Each, &first[..1]).await,
        ["click/web 0+15 400", "view/app 0+15 200", "view/web 0+15 100"]
    );
    assert_eq!(parts(Names::All, Names::All, &first[1..]).await, ["*/* 1440+15 610"]);
}

#[tokio::test]
async fn deltas_say_only_what_the_filter_tells_apart() {
    let database = Database::with_series().await;
    let mut connection = database.connection().await;
    let mut snapshot = PgSnapshot::begin(&mut connection, TIMEOUT, memory()).await.unwrap();
    let mut deltas = async |event_names, channels, from, to| {
        let rows = snapshot.deltas(&series(event_names, channels), at(from)..at(to)).await;
        pieces_shown(rows.unwrap())
    };
    let minute = MINUTE_MICROS;
    for (event_names, channels, expected) in [
        (one("view"), one("web"), &["view/web 1+1 400"][..]),
        (one("view"), Names::Each, &["view/app 1+1 400", "view/web 1+1 400"]),
        (one("view"), Names::All, &["view/* 1+1 400", "view/* 1+1 400"]),
        (Names::Each, one("web"), &["click/web 1+1 500", "view/web 1+1 400"]),
        (Names::All, Names::All, &["*/* 1+1 400", "*/* 1+1 400", "*/* 1+1 500"]),
    ] {
        let read = deltas(event_names, channels, minute, minute + 1).await;
        assert_eq!(read, expected);
    }
    let mut view = async |from, to| deltas(one("view"), one("web"), from, to).await;
    assert_eq!(view(0, minute).await, [""; 0]);
    assert_eq!(view(minute + 1, 2 * DAY_MICROS + minute).await, ["view/web 1441+1 401"]);
}

#[tokio::test]
async fn days_beyond_the_cap_and_the_number_of_events_are_those_of_the_range() {
    let database = Database::with_series().await;
    let mut connection = database.connection().await;
    let mut snapshot = PgSnapshot::begin(&mut connection, TIMEOUT, memory()).await.unwrap();
    let state = snapshot
        .rollup_state(at(1)..at(2 * DAY_MICROS + 1))
        .await
        .unwrap()
        .unwrap();
    let days: Vec<_> = state.overflowed.iter().map(|day| day.start()).collect();
    assert_eq!(days, [at(DAY_MICROS), at(2 * DAY_MICROS)]);
    let state = snapshot.rollup_state(at(0)..at(DAY_MICROS)).await;
    assert_eq!(state.unwrap().unwrap().overflowed, [Day::of(at(0))]);
    // Of all series only that of all events counts, and every delta: 400 + 400 + 500 on day 0, one more each on every
    // other day.
    let mut events = async |from, to| snapshot.events_stored(at(from)..at(to)).await.unwrap();
    let (hour, day) = (HOUR_MICROS, DAY_MICROS);
    // A stale day is read by its parts, a fresh one by its sum, a piece of either by its parts.
    assert_eq!(events(day, 2 * day).await, 610 + 611 + 1303);
    assert_eq!(events(0, day).await, 600 + 1300);
    assert_eq!(events(0, day - 1).await, 600 + 601 + 1300);
    assert_eq!(events(1, day).await, 601 + 1300);
    assert_eq!(events(hour, day + hour).await, 601 + 610 + 1303);
    assert_eq!(events(0, 3 * day).await, 600 + 610 + 611 + 620 + 3909);
    assert_eq!(events(-day, 0).await, 0);
}

const EVENTS: &str = "
    CREATE TABLE events_2026_01 PARTITION OF events FOR VALUES FROM ('2026-01-01 00:00:00+00') TO ('2026-02-01 00:00:00+00');
    CREATE TABLE events_2026_02 PARTITION OF events FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:00+00');
    INSERT INTO events (ts, event_name, channel, user_id, campaign_id)
    SELECT timestamptz '2026-02-01 00:00:00+00' + m * interval '1 minute', name, channel, u, campaign
    FROM (VALUES (-1, 'view', 'web', 'ann', NULL), (0, 'view', 'web', 'ann', 'x'), (1, 'view', 'web', 'ann', NULL),
                 (1, 'view', 'app', 'Ann', 'x'), (2, 'click', 'web', 'bob', 'y'), (60, 'view', 'web', 'ann', NULL),
                 (61, 'click', 'app', 'bob', 'x'), (120, 'view', 'web', 'zoe', 'x')) e (m, name, channel, u, campaign)";

#[tokio::test]
async fn users_are_counted_by_group_and_by_what_the_filter_tells_apart() {
    let database = Database::new().await;
    database.run(EVENTS).await;
    let mut connection = database.connection().await;
    let mut snapshot = PgSnapshot::begin(&mut connection, TIMEOUT, memory()).await.unwrap();
    let mut users = async |event_names, channels, campaign: Option<&str>, starts: &[i64]| {
        let filter = EventFilter {
            event_names,
            channels,
            campaign_id: campaign.map(str::to_owned),
        };
        let starts: Vec<_> = starts.iter().map(|minute| at(minute * MINUTE_MICROS)).collect();
        let range = at(-MINUTE_MICROS)..at(120 * MINUTE_MICROS);
        let mut counted = Vec::new();
        let mut each = |user: UserCount<'_>| {
            let name = shown(user.event_name, user.channel);
            let (group, user_id, events) = (user.group, user.user_id, user.events);
            counted.push(format!("{group} {name} {user_id} {events}"));
            Ok(())
        };
        snapshot.count_users(&filter, range, &starts, &mut each).await.unwrap();
        counted.sort();
        counted
    };
    // One group, across two partitions; the end of the range is not in it, and upper and lower case differ.
    assert_eq!(
        users(Names::All, Names::All, None, &[-60]).await,
        ["0 */* Ann 1", "0 */* ann 4", "0 */* bob 2"]
    );
    // Groups begin at their starts, also those that nothing falls into.
    assert_eq!(
        users(one("view"), Names::All, None, &[-60, 0, 1, 30, 60]).await,
        [
            "0 view/* ann 1",
            "1 view/* ann 1",
            "2 view/* Ann 1",
            "2 view/* ann 1",
            "4 view/* ann 1"
        ]
    );
    assert_eq!(
        users(Names::Each, one("web"), None, &[-1, 60]).await,
        ["0 click/web bob 1", "0 view/web ann 3", "1 view/web ann 1"]
    );
    assert_eq!(
        users(Names::Each, Names::Each, Some("x"), &[-1]).await,
        ["0 click/app bob 1", "0 view/app Ann 1", "0 view/web ann 1"]
    );
    assert_eq!(
        users(one("view"), one("app"), Some("x"), &[-1, 1]).await,
        ["1 view/app Ann 1"]
    );
    assert_eq!(users(one("view"), one("tv"), None, &[-1]).await, [""; 0]);
}

#[tokio::test]
async fn everything_is_read_as_it_was_at_the_first_read_and_nothing_can_be_written() {
    let database = Database::with_series().await;
    let mut connection = database.connection().await;
    let mut snapshot = PgSnapshot::begin(&mut connection, TIMEOUT, memory()).await.unwrap();
    let range = at(0)..at(DAY_MICROS);
    let before = snapshot.events_stored(range.clone()).await.unwrap();
    // What compaction does: a delta becomes part of a part.
    database
        .run("DELETE FROM rollup_deltas; UPDATE rollups SET events = events + 1; UPDATE rollup_days SET stale = true")
        .await;
    assert_eq!(snapshot.events_stored(range.clone()).await.unwrap(), before);
    let filter = series(one("view"), one("web"));
    let days = snapshot.days(&filter, range).await.unwrap();
    assert_eq!(days_shown(days), ["view/web 0 Some(100)"]);
    let write = sql_query("DELETE FROM rollups");
    let error = write.execute(&mut *snapshot.connection).await.unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    // The error ends the snapshot, and the connection is as good as new.
    let answer = snapshot.end::<()>(Err(error)).await;
    assert!(answer.is_err());
    let mut snapshot = PgSnapshot::begin(&mut connection, TIMEOUT, memory()).await.unwrap();
    let stored = snapshot.events_stored(at(0)..at(DAY_MICROS)).await;
    assert_eq!(stored.unwrap(), 601 + 602);
}
