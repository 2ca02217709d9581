//! The cap on pairs a day.

use super::*;

fn capped(pairs_per_day_max: usize) -> Limits {
    Limits::new(pairs_per_day_max)
}

/// Events of `pairs`, one each, on the day of `NOW` or days later.
fn flush(model: &Model, days_later: i64, pairs: &[(&str, &str)]) {
    let start = at(NOW + days_later * DAY_MICROS);
    let event = |&(name, channel)| (name, channel, "ann", start);
    let events: Vec<_> = pairs.iter().map(event).collect();
    model.flush(start, &events);
}

/// Events of each series on the day of `NOW` or days later, as `name/channel`, `name/*` and `*/*`.
fn counts(model: &Model, days_later: i64) -> Vec<(String, u64)> {
    let tables = model.tables();
    let day = Day::of(at(NOW + days_later * DAY_MICROS));
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for ((series, bucket), tally) in &tables.parts {
        if bucket.day() == day {
            let key = tables.key(*series);
            let [name, channel] = [&key.event_name, &key.channel].map(|text| text.as_deref().unwrap_or("*").to_owned());
            *counts.entry(format!("{name}/{channel}")).or_default() += tally.events;
        }
    }
    counts.into_iter().collect()
}

fn expect(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    let owned = |(series, events): &(&str, u64)| ((*series).to_owned(), *events);
    expected.iter().map(owned).collect()
}

fn overflow(model: &Model) -> Vec<u64> {
    model.tables().overflow.into_values().collect()
}

#[test]
fn pairs_beyond_the_cap_count_in_their_name_if_it_is_in_and_in_everything() {
    let model = Model::default();
    flush(&model, 0, &[("b", "x"), ("a", "z"), ("a", "y"), ("a", "x")]);
    flush(&model, 0, &[("b", "x")]);
    compacted(&model, NOW, &capped(2));
    let expected = [("*/*", 5), ("a/*", 3), ("a/x", 1), ("a/y", 1)];
    assert_eq!(counts(&model, 0), expect(&expected));
    assert_eq!(overflow(&model), [3]);
    assert_whole(&model);
}

#[test]
fn a_day_at_its_cap_is_not_closed_before_somebody_is_turned_away() {
    let model = Model::default();
    flush(&model, 0, &[("a", "x"), ("b", "x")]);
    compacted(&model, NOW, &capped(2));
    flush(&model, 0, &[("a", "x"), ("b", "x")]);
    compacted(&model, NOW, &capped(2));
    assert_eq!(overflow(&model), [0; 0]);
    flush(&model, 0, &[("c", "x")]);
    compacted(&model, NOW, &capped(3));
    assert_eq!(overflow(&model), [0; 0]);
    assert_whole(&model);
}

#[test]
fn a_closed_day_lets_nobody_in_even_under_a_raised_cap() {
    let model = Model::default();
    flush(&model, 0, &[("a", "x"), ("b", "x")]);
    compacted(&model, NOW, &capped(1));
    assert_eq!(overflow(&model), [1]);
    for round in 1..3 {
        flush(&model, 0, &[("a", "x"), ("a", "y"), ("b", "x"), ("c", "x")]);
        compacted(&model, NOW, &capped(100));
        let expected = [("*/*", 2 + 4 * round), ("a/*", 1 + 2 * round), ("a/x", 1 + round)];
        assert_eq!(counts(&model, 0), expect(&expected));
        assert_eq!(overflow(&model), [1 + 3 * round]);
    }

    // The next day keeps its room for the pair of this one; later ones have room again.
    flush(&model, 1, &[("b", "x"), ("a", "x"), ("c", "x")]);
    flush(&model, 4, &[("c", "x"), ("d", "x")]);
    compacted(&model, NOW + 4 * DAY_MICROS, &capped(1));
    assert_eq!(counts(&model, 1), expect(&[("*/*", 3), ("a/*", 1), ("a/x", 1)]));
    assert_eq!(counts(&model, 4), expect(&[("*/*", 2), ("c/*", 1), ("c/x", 1)]));
    assert_eq!(overflow(&model), [7, 2, 1]);
}

#[test]
fn old_minutes_of_a_closed_day_stay_with_their_series() {
    let model = Model::default();
    flush(&model, 0, &[("a", "x"), ("b", "x")]);
    compacted(&model, NOW, &capped(1));
    let before = counts(&model, 0);
    assert_eq!(compacted(&model, NOW + DAY_MICROS, &capped(1)).minutes, 3);
    assert_eq!(counts(&model, 0), before);
    assert_eq!(overflow(&model), [1]);
}
