//! Parts and sums that somebody changed: each is named, and a rebuild fixes it.

use super::*;

/// Spoils the settled rollups, expects these lines, and checks that a rebuild fixes the rollups.
async fn assert_found(spoil: impl FnOnce(&mut Tables), expected: &[&str]) {
    let mut model = settled(&few_events(), PAIRS_MAX);
    assert_eq!(verify(&mut model).await, [""; 0]);
    spoil(&mut model.edit());
    assert_eq!(verify(&mut model).await, expected);
    rebuild(&mut model, PAIRS_MAX).await;
    assert_eq!(verify(&mut model).await, [""; 0]);
}

/// Changes a part and its sum alike, so that only the rows can tell.
fn spoil_view_web(tables: &mut Tables, wrong: Tally) {
    let (series, bucket) = view_web(tables);
    tables.parts.insert((series, bucket), wrong.clone());
    tables.days.insert((series, today()), Some(wrong));
}

#[tokio::test]
async fn a_wrong_count_is_found() {
    assert_found(
        |tables| spoil_view_web(tables, tally(35, 0..36)),
        &["view / web, 2026-02-01T09:15:00Z, 15 min: rollups have 35 events, the rows 36"],
    )
    .await;
}

#[tokio::test]
async fn wrong_users_are_found() {
    assert_found(
        |tables| spoil_view_web(tables, tally(36, 0..35)),
        &["view / web, 2026-02-01T09:15:00Z, 15 min: rollups have 35 users, the rows 36"],
    )
    .await;
    assert_found(
        |tables| spoil_view_web(tables, tally(36, 1..37)),
        &["view / web, 2026-02-01T09:15:00Z, 15 min: rollups have 36 users, the rows as many others"],
    )
    .await;
}

#[tokio::test]
async fn a_missing_part_and_one_too_many_are_found() {
    assert_found(
        |tables| {
            let (series, bucket) = view_web(tables);
            tables.parts.remove(&(series, bucket));
            tables.days.remove(&(series, today()));
        },
        &["view / web, 2026-02-01T09:15:00Z, 15 min: rollups have 0 events, the rows 36"],
    )
    .await;
    assert_found(
        |tables| {
            let series = tables.series_id(&key("gone", "web"));
            let bucket = Bucket::of(today().start(), Width::Minute);
            tables.parts.insert((series, bucket), tally(1, 0..1));
            tables.days.insert((series, today()), None);
        },
        &["gone / web, 2026-02-01T00:00:00Z, 15 min: rollups have 1 event, the rows 0"],
    )
    .await;
}

#[tokio::test]
async fn a_wrong_or_missing_sum_is_found() {
    let sum = |tables: &mut Tables, sum: Option<Option<Tally>>| {
        let day = (view_web(tables).0, today());
        match sum {
            Some(sum) => tables.days.insert(day, sum),
            None => tables.days.remove(&day),
        };
    };
    for (wrong, expected) in [
        (
            Some(Some(tally(37, 0..36))),
            "view / web, 2026-02-01T00:00:00Z, 1 day: the sum has 37 events, its parts 36",
        ),
        (
            Some(Some(tally(36, 0..37))),
            "view / web, 2026-02-01T00:00:00Z, 1 day: the sum has 37 users, its parts 36",
        ),
        (
            Some(Some(tally(36, 5..41))),
            "view / web, 2026-02-01T00:00:00Z, 1 day: the sum has 36 users, its parts as many others",
        ),
        (
            None,
            "view / web, 2026-02-01T00:00:00Z, 1 day: there are parts, but neither a sum nor a mark that one is due",
        ),
    ] {
        assert_found(|tables| sum(tables, wrong), &[expected]).await;
    }
    // The content of a stale sum does not matter.
    let mut model = settled(&few_events(), PAIRS_MAX);
    sum(&mut model.edit(), Some(None));
    assert_eq!(verify(&mut model).await, [""; 0]);
}

#[tokio::test]
async fn a_sum_without_parts_is_found() {
    assert_found(
        |tables| {
            let series = tables.series_id(&key("gone", "web"));
            tables.days.insert((series, today()), Some(tally(3, 0..2)));
        },
        &["gone / web, 2026-02-01T00:00:00Z, 1 day: the sum has 3 events, its parts 0"],
    )
    .await;
}

/// Queries decide by the row alone: on a day with overflow they would not count the events of a pair that they assume
/// to have a series.
#[tokio::test]
async fn a_row_of_the_day_without_parts_is_found_stale_or_not() {
    for row in [None, Some(tally(0, 0..0))] {
        assert_found(
            |tables| {
                let series = tables.series_id(&key("gone", "web"));
                tables.days.insert((series, today()), row);
            },
            &["gone / web, 2026-02-01T00:00:00Z, 1 day: there are no parts, but a sum or a mark that one is due"],
        )
        .await;
    }
}
