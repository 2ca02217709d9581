//! Every way to filter, split and order an answer, over freshly flushed rows.

use fast_ingest::event::bucket::{DAY_MICROS, HOUR_MICROS, TimeUnit};
use fast_ingest::query::{Counts, Grouping, MetricsQuery, MetricsReport, Order, ReportGroup, Source};

use super::contract;
use crate::support::database::{Database, Event, FEBRUARY, batch_of, event, query};

contract! {
    metrics_of_every_name_are_a_union,
    metrics_filter_by_channel,
    metrics_group_by_two_things,
    the_largest_groups_come_first_and_the_rest_is_one,
    buckets_without_events_can_be_asked_for,
    dates_and_hours_are_those_of_the_zone,
    minutes_weeks_and_months_are_buckets,
    campaigns_and_exact_answers_are_counted_from_the_events,
    ranges_to_the_microsecond_count_each_event_once,
}

/// Three names, three channels, two days.
fn events() -> Vec<Event<'static>> {
    let of = |event_name, channel, user_id, micros, campaign_id| Event {
        channel,
        campaign_id,
        ..event(event_name, user_id, FEBRUARY + micros)
    };
    vec![
        of("view", "web", "ann", 0, Some("spring")),
        of("view", "web", "bob", 1, None),
        of("view", "app", "ann", HOUR_MICROS, Some("spring")),
        of("click", "web", "ann", HOUR_MICROS + 1, Some("autumn")),
        of("view", "web", "cid", DAY_MICROS - 1, None),
        of("view", "web", "ann", DAY_MICROS, None),
        of("click", "kiosk", "ann", DAY_MICROS + 5 * HOUR_MICROS, None),
        of("buy", "web", "bob", 2 * DAY_MICROS - 1, Some("spring")),
    ]
}

/// The answer of a query over both days.
async fn ask(database: &Database, change: impl FnOnce(&mut MetricsQuery)) -> MetricsReport {
    database
        .sink_at(0)
        .await
        .flush(batch_of(0, &events()).view())
        .await
        .unwrap();
    ask_again(database, change).await
}

async fn ask_again(database: &Database, change: impl FnOnce(&mut MetricsQuery)) -> MetricsReport {
    let mut query = query("view", FEBRUARY, FEBRUARY + 2 * DAY_MICROS, None);
    change(&mut query);
    database.store().metrics(&query).await.unwrap()
}

/// Groups in short form: hours from [`FEBRUARY`] to the start, name, channel, events, users.
type Short<'a> = (i64, &'a str, &'a str, u64, u64);

fn short(group: &ReportGroup) -> Short<'_> {
    let key = &group.key;
    let hours = key.bucket.map_or(0, |bucket| {
        (bucket.start.as_micros() - FEBRUARY).div_euclid(HOUR_MICROS)
    });
    let other = if key.is_other { "(other)" } else { "" };
    let counts = &group.counts;
    assert_eq!(counts.users.error, 0.0);
    (
        hours,
        key.event_name.as_deref().unwrap_or(other),
        key.channel.as_deref().unwrap_or(other),
        counts.total_events,
        counts.users.count,
    )
}

fn shorts(report: &MetricsReport) -> Vec<Short<'_>> {
    report.groups.iter().map(short).collect()
}

async fn metrics_of_every_name_are_a_union(database: Database) {
    let report = ask(&database, |query| query.event_name = None).await;
    assert_eq!(report.total, Counts::exactly(8, 3));
    let report = ask_again(&database, |query| {
        query.event_name = None;
        query.group_by = Grouping::EVENT_NAME;
    })
    .await;
    assert_eq!(report.total, Counts::exactly(8, 3));
    let expected = [(0, "buy", "", 1, 1), (0, "click", "", 2, 1), (0, "view", "", 5, 3)];
    assert_eq!(shorts(&report), expected);
}

async fn metrics_filter_by_channel(database: Database) {
    let report = ask(&database, |query| query.channel = Some("web".to_owned())).await;
    assert_eq!(report.total, Counts::exactly(4, 3));
    let report = ask_again(&database, |query| {
        query.event_name = None;
        query.channel = Some("web".to_owned());
        query.group_by = Grouping::by(TimeUnit::Day);
    })
    .await;
    assert_eq!(report.total, Counts::exactly(6, 3));
    assert_eq!(shorts(&report), [(0, "", "", 4, 3), (24, "", "", 2, 2)]);
    let report = ask_again(&database, |query| query.channel = Some("none".to_owned())).await;
    assert_eq!(report.total, Counts::default());
}

async fn metrics_group_by_two_things(database: Database) {
    let report = ask(&database, |query| {
        query.group_by = Grouping {
            time: Some(TimeUnit::Day),
            ..Grouping::CHANNEL
        };
    })
    .await;
    let expected = [(0, "", "app", 1, 1), (0, "", "web", 3, 3), (24, "", "web", 1, 1)];
    assert_eq!(shorts(&report), expected);
    let report = ask_again(&database, |query| {
        query.event_name = None;
        query.group_by = Grouping {
            event_name: true,
            ..Grouping::CHANNEL
        };
    })
    .await;
    let expected = [
        (0, "buy", "web", 1, 1),
        (0, "click", "kiosk", 1, 1),
        (0, "click", "web", 1, 1),
        (0, "view", "app", 1, 1),
        (0, "view", "web", 4, 3),
    ];
    assert_eq!(shorts(&report), expected);
}

async fn the_largest_groups_come_first_and_the_rest_is_one(database: Database) {
    let by_name = |query: &mut MetricsQuery| {
        query.event_name = None;
        query.group_by = Grouping::EVENT_NAME;
        query.order = Order::TotalEvents;
        query.limit = Some(1);
    };
    let report = ask(&database, by_name).await;
    assert_eq!(
        shorts(&report),
        [(0, "view", "", 5, 3), (0, "(other)", "(other)", 3, 2)]
    );
    let report = ask_again(&database, |query| {
        by_name(query);
        query.limit = None;
        query.order = Order::UniqueUsers;
    })
    .await;
    let expected = [(0, "view", "", 5, 3), (0, "buy", "", 1, 1), (0, "click", "", 2, 1)];
    assert_eq!(shorts(&report), expected);
}

async fn buckets_without_events_can_be_asked_for(database: Database) {
    let report = ask(&database, |query| {
        query.to = fast_ingest::event::Timestamp::from_micros(FEBRUARY + 4 * DAY_MICROS);
        query.group_by = Grouping::by(TimeUnit::Day);
        query.fill = true;
    })
    .await;
    let expected = [
        (0, "", "", 4, 3),
        (24, "", "", 1, 1),
        (48, "", "", 0, 0),
        (72, "", "", 0, 0),
    ];
    assert_eq!(shorts(&report), expected);
}

async fn dates_and_hours_are_those_of_the_zone(database: Database) {
    let in_kathmandu = |query: &mut MetricsQuery| {
        query.zone = jiff::tz::TimeZone::get("Asia/Kathmandu").unwrap();
        query.event_name = None;
    };
    // A date begins at 18:15 UTC of the day before.
    let report = ask(&database, |query| {
        in_kathmandu(query);
        query.group_by = Grouping::by(TimeUnit::Day);
    })
    .await;
    assert_eq!(
        shorts(&report),
        [(-6, "", "", 4, 2), (18, "", "", 3, 2), (42, "", "", 1, 1)]
    );
    let start = report.groups[0].key.bucket.unwrap().start;
    assert_eq!(start.to_string(), "2026-01-31T18:15:00Z");
    let report = ask_again(&database, |query| {
        in_kathmandu(query);
        query.group_by = Grouping::by(TimeUnit::Hour);
    })
    .await;
    let starts: Vec<i64> = report.groups.iter().map(|group| short(group).0).collect();
    assert_eq!(starts, [-1, 0, 23, 28, 47]);
}

async fn minutes_weeks_and_months_are_buckets(database: Database) {
    let by = |unit| {
        move |query: &mut MetricsQuery| {
            query.event_name = None;
            query.group_by = Grouping::by(unit);
        }
    };
    let report = ask(&database, by(TimeUnit::Minute)).await;
    let counts: Vec<u64> = report.groups.iter().map(|group| group.counts.total_events).collect();
    assert_eq!(counts, [2, 2, 1, 1, 1, 1]);
    // The first of February 2026 is a Sunday.
    let report = ask_again(&database, by(TimeUnit::Week)).await;
    assert_eq!(shorts(&report), [(-144, "", "", 5, 3), (24, "", "", 3, 2)]);
    let report = ask_again(&database, by(TimeUnit::Month)).await;
    assert_eq!(shorts(&report), [(0, "", "", 8, 3)]);
}

async fn campaigns_and_exact_answers_are_counted_from_the_events(database: Database) {
    let of_spring = |query: &mut MetricsQuery| {
        query.event_name = None;
        query.campaign_id = Some("spring".to_owned());
    };
    let report = ask(&database, of_spring).await;
    assert_eq!((report.total, report.source), (Counts::exactly(3, 2), Source::Events));
    let report = ask_again(&database, |query| {
        of_spring(query);
        query.channel = Some("web".to_owned());
        query.group_by = Grouping {
            time: Some(TimeUnit::Day),
            ..Grouping::EVENT_NAME
        };
    })
    .await;
    assert_eq!(shorts(&report), [(0, "view", "", 1, 1), (24, "buy", "", 1, 1)]);
    let report = ask_again(&database, |query| query.exact = true).await;
    assert_eq!((report.total, report.source), (Counts::exactly(5, 3), Source::Events));
    let report = ask_again(&database, |_| ()).await;
    assert_eq!((report.total, report.source), (Counts::exactly(5, 3), Source::Rollups));
}

async fn ranges_to_the_microsecond_count_each_event_once(database: Database) {
    let instants = [0, 1, 2, HOUR_MICROS, HOUR_MICROS + 2, DAY_MICROS - 1, DAY_MICROS];
    ask(&database, |_| ()).await;
    for (n, &from) in instants.iter().enumerate() {
        for &to in &instants[n..] {
            let inside = |event: &&Event<'_>| (from..to).contains(&(event.micros - FEBRUARY));
            let expected = events().iter().filter(inside).count() as u64;
            for unit in [None, Some(TimeUnit::Minute), Some(TimeUnit::Hour), Some(TimeUnit::Day)] {
                let report = ask_again(&database, |query| {
                    query.event_name = None;
                    query.from = fast_ingest::event::Timestamp::from_micros(FEBRUARY + from);
                    query.to = fast_ingest::event::Timestamp::from_micros(FEBRUARY + to);
                    query.group_by = unit.map(Grouping::by).unwrap_or_default();
                })
                .await;
                assert_eq!(report.total.total_events, expected, "{from}..{to} {unit:?}");
                let of_groups = report.groups.iter().map(|group| group.counts.total_events);
                if unit.is_some() {
                    assert_eq!(of_groups.sum::<u64>(), expected, "{from}..{to} {unit:?}");
                }
            }
        }
    }
}
