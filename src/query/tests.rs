//! Answers from rollups against plain recounts, over random events, rollups and questions.

mod model;
mod recount;

use futures_util::FutureExt as _;
use jiff::tz::TimeZone;

use self::model::{Event, Model, Random};
use super::answer::CHEAP_EVENTS_MAX;
use super::memory::{OutOfMemory, QueryMemory};
use super::*;
use crate::event::bucket::DAY_MICROS;
use crate::event::bucket::HOUR_MICROS;

const MINUTE: i64 = 60_000_000;
/// 2026-02-01T00:00:00Z, a Sunday.
const FEBRUARY: i64 = 1_769_904_000_000_000;

/// A zone, and a day close to which its clock does something unusual.
const PLACES: [(&str, &str); 11] = [
    ("UTC", "2026-02-01T00:00:00Z"),
    ("Asia/Kathmandu", "2026-01-31T00:00:00Z"),
    ("Asia/Tehran", "1977-10-19T00:00:00Z"),
    ("Asia/Tehran", "2022-03-20T00:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-03T00:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-02T00:00:00Z"),
    ("America/New_York", "2026-03-07T00:00:00Z"),
    ("America/New_York", "2026-10-31T00:00:00Z"),
    ("Africa/Monrovia", "1971-06-01T00:00:00Z"),
    ("Africa/Monrovia", "1972-01-06T00:00:00Z"),
    ("Pacific/Apia", "2011-12-28T00:00:00Z"),
];

type Answer = Result<MetricsReport, AnswerError<OutOfMemory>>;

fn ask(model: &mut Model, query: &MetricsQuery) -> Answer {
    sendable(answer(model, query))
        .now_or_never()
        .expect("a model never waits")
}

/// Checks that the future is `Send`: stores answer on a runtime with several threads.
fn sendable<F: Future + Send>(answering: F) -> F {
    answering
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn event(user: usize, micros: i64) -> Event {
    Event {
        event_name: "view".to_owned(),
        channel: "web".to_owned(),
        campaign_id: None,
        user_id: format!("user-{user}"),
        micros,
    }
}

fn views(from: i64, to: i64) -> MetricsQuery {
    MetricsQuery::new(Some("view".to_owned()), at(from), at(to))
}

fn random_instant(random: &mut Random, day_micros: i64) -> i64 {
    let micros = day_micros + random.below(6 * DAY_MICROS) - DAY_MICROS;
    let width = random.pick(&[
        DAY_MICROS,
        DAY_MICROS,
        6 * HOUR_MICROS,
        HOUR_MICROS,
        15 * MINUTE,
        MINUTE,
        1_000_000,
        1,
    ]);
    micros - micros.rem_euclid(width)
}

fn random_query(random: &mut Random, zone: &TimeZone, day_micros: i64) -> MetricsQuery {
    let one = random_instant(random, day_micros);
    let other = random_instant(random, day_micros);
    let mut query = MetricsQuery::new(None, at(one.min(other)), at(one.max(other)));
    query.zone = zone.clone();
    query.event_name = random.chance(60).then(|| random.pick(&["a", "b", "none"]).to_owned());
    query.channel = random.chance(40).then(|| random.pick(&["x", "y"]).to_owned());
    query.campaign_id = random.chance(5).then(|| "spring".to_owned());
    query.exact = random.chance(5);
    query.group_by = Grouping {
        time: random.chance(70).then(|| random.pick(&TimeUnit::ALL)),
        event_name: random.chance(35),
        channel: random.chance(35),
    };
    if query.group_by.event_name && query.group_by.channel && random.chance(50) {
        query.group_by.time = None;
    }
    query.fill = query.group_by.time.is_some() && random.chance(30);
    if query.group_by.has_names() {
        query.order = random.pick(&[Order::Name, Order::TotalEvents, Order::UniqueUsers]);
        query.limit = random.chance(30).then(|| 1 + random.below(3) as usize);
    }
    query
}

#[test]
fn answers_from_rollups_are_those_of_a_recount() {
    let (mut from_rollups, mut overflowed) = (0, 0);
    for (name, day) in PLACES {
        let zone = TimeZone::get(name).unwrap();
        let day_micros = Timestamp::parse(day).unwrap().as_micros();
        for seed in 0..8 {
            let mut random = Random::new(seed);
            let mut model = Model::random(&mut random, day_micros);
            for n in 0..30 {
                let query = random_query(&mut random, &zone, day_micros);
                let context = || format!("{name} {day} seed {seed} question {n}: {query:?}");
                let expected = recount::recount(&model.events, &query);
                let report = match ask(&mut model, &query) {
                    Ok(report) => report,
                    Err(AnswerError::TooManyGroups) => {
                        assert!(expected.groups.len() > GROUPS_MAX, "{}", context());
                        continue;
                    }
                    Err(error) => panic!("{error}: {}", context()),
                };
                assert_eq!(report.total, expected.total, "{}", context());
                assert_eq!(report.groups, expected.groups, "{}", context());
                let is_exact = query.exact || query.campaign_id.is_some();
                assert_eq!(report.source == Source::Events, is_exact, "{}", context());
                from_rollups += usize::from(report.total.total_events > 0 && !is_exact);
                overflowed += usize::from(report.overflowed);
            }
        }
    }
    // The random cases have met what they are for.
    assert!(from_rollups > 1_000 && overflowed > 100, "{from_rollups} {overflowed}");
}

#[test]
fn what_fits_is_not_counted_again_and_days_are_read_as_sums() {
    let events = (0..600)
        .map(|n| event(n % 9, FEBRUARY + n as i64 * 7 * MINUTE))
        .collect();
    let mut model = Model::compacted(events);
    let mut ask = |query: &MetricsQuery| {
        model.forget_calls();
        let report = ask(&mut model, query).unwrap();
        assert_eq!(report, recount::recount(&model.events, query));
        (model.days_used(), model.parts_ranges(), model.counted())
    };
    let mut query = views(FEBRUARY, FEBRUARY + 3 * DAY_MICROS);
    assert_eq!(ask(&query), (3, 0, vec![]));
    query.group_by = Grouping::by(TimeUnit::Day);
    assert_eq!(ask(&query), (3, 0, vec![]));
    query.group_by = Grouping::by(TimeUnit::Hour);
    assert_eq!(ask(&query), (0, 1, vec![]));
    query.group_by = Grouping::by(TimeUnit::Day);
    query.zone = TimeZone::get("Asia/Kathmandu").unwrap();
    assert_eq!(ask(&query), (0, 1, vec![]));
    query.group_by = Grouping::by(TimeUnit::Month);
    assert_eq!(ask(&query), (3, 0, vec![]));
    // Two quarters are cut, and only they are counted.
    let (from, to) = (FEBRUARY + 60 * MINUTE + 1, FEBRUARY + 2 * DAY_MICROS + 20 * MINUTE);
    let query = views(from, to);
    let (days, parts, counted) = ask(&query);
    assert_eq!((days, parts), (1, 2));
    assert_eq!(counted, [from..FEBRUARY + 75 * MINUTE, to - 5 * MINUTE..to]);
}

#[test]
fn many_users_are_estimated_and_few_are_counted() {
    let day_of = |users: usize| (0..users).map(|n| event(n, FEBRUARY + n as i64)).collect();
    let few = CHEAP_EVENTS_MAX as usize;
    let mut model = Model::compacted(day_of(few));
    let report = ask(&mut model, &views(FEBRUARY, FEBRUARY + DAY_MICROS)).unwrap();
    assert_eq!(report.total, Counts::exactly(few as u64, few as u64));
    assert_eq!(report.source, Source::Events);
    let long = views(FEBRUARY - 4_000 * DAY_MICROS, FEBRUARY + 8 * DAY_MICROS);
    let report = ask(&mut model, &long).unwrap();
    assert_eq!(report.source, Source::Events, "however long the range is");

    let many = few + 1;
    let mut model = Model::compacted(day_of(many));
    for unit in [None, Some(TimeUnit::Day)] {
        let mut query = views(FEBRUARY, FEBRUARY + DAY_MICROS);
        query.group_by = unit.map(Grouping::by).unwrap_or_default();
        let report = ask(&mut model, &query).unwrap();
        assert_eq!(report.source, Source::Rollups);
        let groups = report.groups.iter().map(|group| &group.counts);
        for counts in groups.chain([&report.total]) {
            let users = counts.users;
            assert_eq!(counts.total_events, many as u64);
            assert!(users.error > 0.0 && users.error < 0.01, "{users:?}");
            assert!((users.low..=users.high).contains(&(many as u64)), "{users:?}");
        }
        query.exact = true;
        let report = ask(&mut model, &query).unwrap();
        assert_eq!(report.total, Counts::exactly(many as u64, many as u64));
    }
}

#[test]
fn users_that_must_be_told_apart_take_memory_and_others_do_not() {
    let users = 20_000;
    let events = (0..users).map(|n| Event {
        channel: ["web", "app"][n % 2].to_owned(),
        ..event(n, FEBRUARY)
    });
    let mut model = Model::compacted(events.collect());
    let mut query = views(FEBRUARY, FEBRUARY + DAY_MICROS);
    query.exact = true;
    let mut ask_with = |bytes_max, query: &MetricsQuery| {
        let memory = QueryMemory::new(bytes_max);
        model.memory = memory.question();
        let answer = ask(&mut model, query);
        let held = memory.held();
        model.memory = QueryMemory::new(0).question();
        assert_eq!(memory.held(), 0);
        (answer, held)
    };
    let (report, held) = ask_with(1_000, &query);
    assert_eq!(report.unwrap().total, Counts::exactly(users as u64, users as u64));
    assert!(held < 1_000);
    query.group_by = Grouping::CHANNEL;
    let (report, held) = ask_with(1 << 20, &query);
    let report = report.unwrap();
    assert_eq!(report.total, Counts::exactly(users as u64, users as u64));
    assert_eq!(report.groups[0].counts, Counts::exactly(10_000, 10_000));
    assert!(held < 32 * users, "{held}");
    let (refused, _) = ask_with(16 * users - 1, &query);
    let Err(AnswerError::Store(OutOfMemory::Question { .. })) = refused else {
        panic!("{refused:?}")
    };
}

#[test]
fn users_and_their_bounds_are_never_more_than_events() {
    // So many sets that some estimates are too high and some too low.
    for seed in 0..20 {
        let users = 700 + 13 * seed;
        let events = (0..users).map(|n| event(n + 10_000 * seed, FEBRUARY));
        let mut model = Model::compacted(events.collect());
        let mut query = views(FEBRUARY, FEBRUARY + DAY_MICROS);
        query.group_by = Grouping::by(TimeUnit::Day);
        let report = ask(&mut model, &query).unwrap();
        assert_eq!(report.source, Source::Rollups);
        for counts in [report.total, report.groups[0].counts] {
            let Counts { total_events, users } = counts;
            assert!(users.error > 0.0 && users.low <= users.count, "{counts:?}");
            assert!(users.count <= users.high && users.high <= total_events, "{counts:?}");
        }
    }
}

#[test]
fn an_exact_question_has_a_bound_on_its_intervals() {
    let mut model = Model::compacted(vec![event(1, FEBRUARY)]);
    let mut query = views(0, FEBRUARY + 1);
    query.group_by = Grouping::by(TimeUnit::Hour);
    query.exact = true;
    let report = ask(&mut model, &query).unwrap();
    assert_eq!((report.groups.len(), report.total), (1, Counts::exactly(1, 1)));
    query.group_by = Grouping::by(TimeUnit::Minute);
    let refused = ask(&mut model, &query);
    assert!(matches!(refused, Err(AnswerError::TooLarge(_))), "{refused:?}");
    query.exact = false;
    assert_eq!(ask(&mut model, &query).unwrap().groups.len(), 1);
}

#[test]
fn a_limit_bounds_the_groups_and_the_rest_is_one() {
    let events = (0..=GROUPS_MAX).map(|n| Event {
        channel: format!("channel-{n:05}"),
        ..event(n % 50, FEBRUARY + (n % 2) as i64 * DAY_MICROS)
    });
    let mut model = Model::compacted(events.collect());
    let mut query = views(FEBRUARY, FEBRUARY + 2 * DAY_MICROS);
    query.group_by = Grouping::CHANNEL;
    let refused = ask(&mut model, &query);
    assert!(matches!(refused, Err(AnswerError::TooManyGroups)), "{refused:?}");
    query.limit = Some(GROUPS_MAX - 1);
    let report = ask(&mut model, &query).unwrap();
    assert_eq!(report.groups.len(), GROUPS_MAX);
    let other = report.groups.last().unwrap();
    assert!(other.key.is_other && other.key.channel.is_none());
    assert_eq!(other.counts, Counts::exactly(2, 2));
    query.limit = Some(GROUPS_MAX + 1);
    assert!(matches!(ask(&mut model, &query), Err(AnswerError::TooManyGroups)));
    query.limit = Some(2);
    query.group_by.time = Some(TimeUnit::Day);
    let report = ask(&mut model, &query).unwrap();
    assert_eq!(report, recount::recount(&model.events, &query));
    assert_eq!(report.groups.len(), 4, "each channel has one day");
}

#[test]
fn filling_is_bounded_before_groups_are_made() {
    let mut model = Model::compacted(vec![event(1, FEBRUARY)]);
    let mut query = views(FEBRUARY, FEBRUARY + GROUPS_MAX as i64 * MINUTE);
    query.group_by = Grouping::by(TimeUnit::Minute);
    query.fill = true;
    let report = ask(&mut model, &query).unwrap();
    assert_eq!(report.groups.len(), GROUPS_MAX);
    assert_eq!(report.groups[0].counts, Counts::exactly(1, 1));
    assert_eq!(report.groups[1].counts, Counts::default());
    query.to = at(query.to.as_micros() + 1);
    assert!(matches!(ask(&mut model, &query), Err(AnswerError::TooManyGroups)));
    query.to = Timestamp::parse("9999-12-31T23:59:59Z").unwrap();
    assert!(matches!(ask(&mut model, &query), Err(AnswerError::TooManyGroups)));
}

#[test]
fn a_damaged_set_is_an_error() {
    let mut model = Model::compacted(vec![event(1, FEBRUARY)]);
    model.damage();
    let refused = ask(&mut model, &views(FEBRUARY, FEBRUARY + HOUR_MICROS));
    assert!(matches!(refused, Err(AnswerError::Damaged(_))), "{refused:?}");
}

#[test]
fn rollups_that_are_not_built_yet_are_not_believed() {
    let events = vec![event(1, FEBRUARY), event(2, FEBRUARY + MINUTE)];
    let mut model = Model::compacted(Vec::new());
    model.events = events;
    model.rebuild_needed = true;
    let report = ask(&mut model, &views(FEBRUARY, FEBRUARY + DAY_MICROS)).unwrap();
    assert_eq!(report.total, Counts::exactly(2, 2));
    assert_eq!(report.source, Source::Events);
}

#[test]
fn summing_up_much_takes_breaths() {
    let events: Vec<Event> = (0..3_000)
        .map(|n| event(n % 7, FEBRUARY + n as i64 * 15 * MINUTE))
        .collect();
    let to = FEBRUARY + 3_000 * 15 * MINUTE;
    let mut model = Model::compacted(events);
    let mut query = views(FEBRUARY, to);
    query.group_by = Grouping::by(TimeUnit::Hour);
    query.zone = TimeZone::get("Asia/Kolkata").unwrap();
    let report = ask(&mut model, &query).unwrap();
    assert_eq!(report.total.total_events, 3_000);
    // 3,000 sets are merged, and 750 are finished: at least thirty pauses.
    assert!(model.breaths >= 30, "{}", model.breaths);
}
