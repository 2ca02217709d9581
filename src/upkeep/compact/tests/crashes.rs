//! Calls that fail, at each place and in any order: nothing is lost, nothing counted twice.

use proptest::prelude::*;

use super::*;
use crate::testing::rollup_model::Fault;

/// A database in which each step has something to do: deltas of today and of old days, minutes that are due, past days.
fn busy() -> Model {
    let model = Model::default();
    let crowd: Vec<String> = (0..PART_EXACT_MAX + 50).map(|n| format!("user-{n}")).collect();
    let flush = |now: i64, starts: &[i64]| {
        for start in starts {
            let views = crowd.iter().map(|user| ("view", "web", user.as_str(), at(*start)));
            let mut events: Vec<_> = views.collect();
            events.push(("click", "app", "ann", at(*start)));
            model.flush(at(now), &events);
        }
    };
    let earlier = NOW - 2 * DAY_MICROS;
    flush(earlier, &[earlier, earlier + MINUTE_MICROS, earlier - DAY_MICROS]);
    settle(&model, earlier, &Limits::new(1_000));
    flush(NOW, &[NOW, earlier, earlier - DAY_MICROS]);
    model
}

fn failing_at_each_call(step: impl Fn(&Model) -> Result<(), StoreError>, calls_expected: std::ops::Range<usize>) {
    for fault in [Fault::Before as fn(usize) -> Fault, Fault::After] {
        let mut calls = 0;
        loop {
            let model = busy();
            model.fail(fault(calls));
            let outcome = step(&model);
            let has_outlived_the_step = model.heal();
            assert_eq!(outcome.is_ok(), has_outlived_the_step);
            assert_whole(&model);
            settle(&model, NOW, &Limits::new(1_000));
            assert!(model.tables().deltas.is_empty());
            assert_whole(&model);
            if has_outlived_the_step {
                break;
            }
            calls += 1;
        }
        assert!(calls_expected.contains(&calls), "{calls} calls");
    }
}

#[test]
fn a_compaction_that_fails_anywhere_leaves_all_or_nothing() {
    let limits = Limits::new(1_000);
    let step = |model: &Model| {
        block_on(compact(&mut model.connect(), at(NOW), &limits)).map(|compacted| {
            assert!(compacted.deltas > 0 && compacted.minutes > 0);
        })
    };
    failing_at_each_call(step, 10..30);
}

#[test]
fn a_sum_that_fails_anywhere_leaves_all_or_nothing() {
    let limits = Limits::new(1_000);
    let step = |model: &Model| {
        block_on(sum_up_days(&mut model.connect(), at(NOW), &limits)).map(|summed_up| assert!(summed_up.days > 0))
    };
    failing_at_each_call(step, 5..30);
}

#[derive(Debug, Clone)]
enum Op {
    /// Name, channel, first user, users, minutes ago.
    Flush(Vec<(usize, usize, u32, u32, i64)>),
    Compact(Limits, Option<Fault>),
    SumUp(Limits, Option<Fault>),
    /// Minutes.
    Wait(i64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let users = prop_oneof![9 => 1..4_u32, 1 => 90..160_u32];
    let ago = prop_oneof![3 => 0..40_i64, 2 => 0..600_i64, 1 => 0..6_000_i64];
    let event = (0..3_usize, 0..2_usize, 0..200_u32, users, ago);
    let limits = || {
        let pairs_max = prop_oneof![2 => Just(1_000_usize), 1 => 1..6_usize];
        (1..8_usize, 1..6_usize, 1..4_usize, 1..10_usize, pairs_max).prop_map(
            |(deltas_max, minutes_max, days_max, day_parts_max, pairs_per_day_max)| Limits {
                deltas_max,
                minutes_max,
                days_max,
                day_parts_max,
                pairs_per_day_max,
            },
        )
    };
    let fault = || {
        prop_oneof![
            1 => Just(None),
            1 => (0..12_usize).prop_map(|n| Some(Fault::Before(n))),
            1 => (0..12_usize).prop_map(|n| Some(Fault::After(n))),
        ]
    };
    let op = prop_oneof![
        4 => prop::collection::vec(event, 1..6).prop_map(Op::Flush),
        4 => (limits(), fault()).prop_map(|(limits, fault)| Op::Compact(limits, fault)),
        2 => (limits(), fault()).prop_map(|(limits, fault)| Op::SumUp(limits, fault)),
        2 => prop_oneof![1..60_i64, 1..2_000_i64].prop_map(Op::Wait),
    ];
    prop::collection::vec(op, 1..25)
}

fn run(op: &Op, model: &Model, now: &mut i64) {
    match op {
        Op::Flush(runs) => {
            let rows = runs.iter().flat_map(|(name, channel, first, users, ago)| {
                let start = at(*now - ago * MINUTE_MICROS);
                (*first..first + users).map(move |user| (*name, *channel, user.to_string(), start))
            });
            let rows: Vec<_> = rows.collect();
            let (names, channels) = (["a", "b", "c"], ["x", "y"]);
            let events: Vec<_> = rows
                .iter()
                .map(|(name, channel, user, start)| (names[*name], channels[*channel], user.as_str(), *start))
                .collect();
            model.flush(at(*now), &events);
        }
        Op::Wait(minutes) => *now += minutes * MINUTE_MICROS,
        Op::Compact(limits, fault) => {
            fault.map(|fault| model.fail(fault));
            let outcome = block_on(compact(&mut model.connect(), at(*now), limits));
            assert_eq!(outcome.is_err(), fault.is_some() && !model.heal());
        }
        Op::SumUp(limits, fault) => {
            fault.map(|fault| model.fail(fault));
            let outcome = block_on(sum_up_days(&mut model.connect(), at(*now), limits));
            assert_eq!(outcome.is_err(), fault.is_some() && !model.heal());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn rollups_count_what_the_events_are_whatever_happens(ops in ops()) {
        let model = Model::default();
        let mut now = NOW;
        for op in &ops {
            run(op, &model, &mut now);
            assert_whole(&model);
        }
        now += 2 * DAY_MICROS;
        settle(&model, now, &small_limits());
        assert_whole(&model);
        let tables = model.tables();
        assert!(tables.deltas.is_empty());
        let mut widths = tables.parts.keys().map(|(_, bucket)| bucket.width);
        assert!(widths.all(|width| width == Width::Quarter));
        assert!(tables.days.values().all(Option::is_some));
    }
}
