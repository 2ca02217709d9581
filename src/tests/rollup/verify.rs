//! `fast-ingest verify` and `fast-ingest rollup rebuild` on real databases: rollups that were tampered with are named
//! and fixed, flushes may go on meanwhile, and a database older than rollups gets its first ones built.

use fast_ingest::event::Timestamp;
use fast_ingest::event::bucket::Day;
use fast_ingest::event::bucket::{DAY_MICROS, HOUR_MICROS};
use fast_ingest::store::settings::StoreLocation;
use fast_ingest::store::{StoreError, migrations};
use fast_ingest::upkeep::rebuild::{PAIRS_MAX_DEFAULT, Rebuilt, Rules, rebuild_day, rebuild_day_and_rest};
use fast_ingest::upkeep::upgrade;
use fast_ingest::upkeep::verify::verify_day;
use tokio::sync::watch;

use crate::store::contract::contract;
use crate::support::database::{Database, Event, FEBRUARY, batch_of, event};
use crate::support::process::{Ended, run};

contract! {
    a_rollup_that_was_tampered_with_is_named_and_mended,
    days_whose_events_were_removed_keep_their_rollups,
    only_the_days_asked_for_are_gone_through,
    rebuilding_loses_and_doubles_nothing_while_flushes_go_on,
    flushes_get_in_between_the_days_of_a_rebuild,
    events_that_are_older_than_the_rollups_are_counted,
    an_interrupted_first_build_goes_on_where_it_stopped,
    a_schema_that_is_behind_is_refused,
}

const QUARTER_PAST_NINE: i64 = FEBRUARY + 9 * HOUR_MICROS + HOUR_MICROS / 4;

fn three_events() -> [Event<'static>; 3] {
    [
        event("page_view", "ann", QUARTER_PAST_NINE),
        event("page_view", "bob", QUARTER_PAST_NINE + 1),
        event("page_view", "bob", QUARTER_PAST_NINE + 14 * 60_000_000),
    ]
}

async fn store_three_events(database: &Database) {
    let mut sink = database.sink_at(0).await;
    sink.flush(batch_of(0, &three_events()).view()).await.unwrap();
}

/// Runs a command of the binary on the database.
pub(crate) async fn command(database: &Database, words: &[&str]) -> Ended {
    let (flag, value) = match database.settings().location {
        StoreLocation::Postgres(url) => ("--database-url", url),
        StoreLocation::Sqlite(path) => {
            let data_dir = path.parent().unwrap().to_str().unwrap();
            ("--data-dir", data_dir.to_owned())
        }
    };
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    words.extend([flag.to_owned(), value]);
    let ended = tokio::task::spawn_blocking(move || run(&words.iter().map(String::as_str).collect::<Vec<_>>()));
    ended.await.unwrap()
}

#[track_caller]
pub(crate) fn assert_says(ended: &Ended, stdout: &str) {
    assert_eq!((ended.code(), &*ended.stdout), (0, stdout), "{ended:?}");
}

const RIGHT: &str = "verified 3 events in 1 day: no difference\n";

async fn a_rollup_that_was_tampered_with_is_named_and_mended(database: Database) {
    store_three_events(&database).await;
    assert_says(&command(&database, &["verify"]).await, RIGHT);
    for (tampering, expected) in [
        (
            "UPDATE rollups SET events = events + 1 WHERE series_id =
             (SELECT id FROM rollup_series WHERE event_name = 'page_view' AND channel = 'web')",
            &[
                "page_view / web, 2026-02-01T00:00:00Z, 1 day: the sum has 3 events, its parts 4",
                "page_view / web, 2026-02-01T09:15:00Z, 15 min: rollups have 4 events, the rows 3",
            ][..],
        ),
        (
            "DELETE FROM rollup_days WHERE series_id = (SELECT id FROM rollup_series WHERE event_name IS NULL)",
            &[
                "all events, 2026-02-01T00:00:00Z, 1 day: there are parts, but neither a sum nor a mark that one is due",
            ][..],
        ),
        (
            "DELETE FROM rollups WHERE series_id IN (SELECT id FROM rollup_series WHERE channel = 'web');
             UPDATE rollup_days SET stale = (1 = 1) WHERE series_id IN (SELECT id FROM rollup_series WHERE channel = 'web')",
            &[
                "page_view / web, 2026-02-01T00:00:00Z, 1 day: there are no parts, but a sum or a mark that one is due",
                "page_view / web, 2026-02-01T09:15:00Z, 15 min: rollups have 0 events, the rows 3",
            ][..],
        ),
        (
            "DELETE FROM events WHERE user_id = 'ann';
             INSERT INTO rollup_overflow (day, events) SELECT min(day), 1 FROM rollup_days",
            &[
                "all events, 2026-02-01T00:00:00Z, 1 day: rollups have 1 event without a series of their own, the rows 0",
                "all events, 2026-02-01T09:15:00Z, 15 min: rollups have 3 events, the rows 2",
                "page_view / all channels, 2026-02-01T09:15:00Z, 15 min: rollups have 3 events, the rows 2",
                "page_view / web, 2026-02-01T09:15:00Z, 15 min: rollups have 3 events, the rows 2",
            ][..],
        ),
    ] {
        let rebuilt = command(&database, &["rollup", "rebuild"]).await;
        assert_says(&rebuilt, "rebuilt 1 day, 3 events\n");
        assert_eq!(database.count("rollup_deltas").await, 0);
        assert_says(&command(&database, &["verify"]).await, RIGHT);
        database.execute(tampering).await;
        let ended = command(&database, &["verify"]).await;
        assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), expected);
        let differences = match expected.len() {
            1 => "1 difference in 1 day".to_owned(),
            n => format!("{n} differences in 1 day"),
        };
        ended.assert_refusal(65, &[&differences, "`fast-ingest rollup rebuild`"]);
    }
    let rebuilt = command(&database, &["rollup", "rebuild"]).await;
    assert_says(&rebuilt, "rebuilt 1 day, 2 events\n");
    let verified = command(&database, &["verify"]).await;
    assert_says(&verified, "verified 2 events in 1 day: no difference\n");
}

async fn days_whose_events_were_removed_keep_their_rollups(database: Database) {
    store_three_events(&database).await;
    let rebuild = ["rollup", "rebuild"];
    assert_says(&command(&database, &rebuild).await, "rebuilt 1 day, 3 events\n");
    database.execute("DELETE FROM events").await;
    let gone = "2026-02-01: rollups have 3 events and no event is stored: were they removed on purpose? rollup rebuild keeps such days\n";
    let kept = "rebuilt 0 days, 0 events\nkept the rollups of 1 day whose events are gone; --forget removes them\n";
    for _ in 0..2 {
        let ended = command(&database, &["verify"]).await;
        assert_eq!(ended.stdout, gone);
        ended.assert_refusal(65, &["1 day with rollups", "`fast-ingest rollup rebuild --forget`"]);
        assert_says(&command(&database, &rebuild).await, kept);
        assert_eq!(database.count("rollup_days").await, 3);
    }
    let forgot = command(&database, &["rollup", "rebuild", "--forget"]).await;
    let removed = "rebuilt 0 days, 0 events\nremoved the rollups of 1 day whose events are gone\n";
    assert_says(&forgot, removed);
    assert_eq!(database.count("rollups").await, 0);
    let verified = command(&database, &["verify"]).await;
    assert_says(&verified, "verified 0 events in 0 days: no difference\n");
}

async fn only_the_days_asked_for_are_gone_through(database: Database) {
    let mut sink = database.sink_at(0).await;
    let events = [
        event("page_view", "ann", FEBRUARY),
        event("page_view", "ann", FEBRUARY + 2 * DAY_MICROS),
        event("page_view", "ann", FEBRUARY + 3 * DAY_MICROS - 1),
    ];
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    for (range, expected) in [
        (&[][..], "rebuilt 2 days, 3 events\n"),
        (&["--from", "2026-02-02"], "rebuilt 1 day, 2 events\n"),
        (&["--to", "2026-02-02"], "rebuilt 1 day, 1 event\n"),
        (
            &["--from", "2026-02-03", "--to", "2026-02-03"],
            "rebuilt 1 day, 2 events\n",
        ),
        (&["--from", "2026-02-04"], "rebuilt 0 days, 0 events\n"),
    ] {
        let rebuilt = command(&database, &[&["rollup", "rebuild"], range].concat()).await;
        assert_says(&rebuilt, expected);
        let verified = command(&database, &["verify"]).await;
        assert_says(&verified, "verified 3 events in 2 days: no difference\n");
    }
    database.execute("DELETE FROM rollup_days").await;
    let to_the_second = command(&database, &["verify", "--to", "2026-02-02"]).await;
    to_the_second.assert_refusal(65, &["3 differences in 1 day"]);
    let wrong = ["verify", "--from", "2026-02-02", "--to", "2026-02-01"];
    command(&database, &wrong).await.assert_refusal(78, &["--from", "--to"]);
    command(&database, &["verify", "--from", "yesterday"])
        .await
        .assert_refusal(2, &["2026-02-01"]);
}

async fn rebuilding_loses_and_doubles_nothing_while_flushes_go_on(database: Database) {
    const FLUSHES: u64 = 40;
    let (flushed, mut flushes) = watch::channel(0);
    let mut sink = database.sink_at(0).await;
    let flusher = tokio::spawn(async move {
        for number in 0..FLUSHES {
            let user = format!("user-{number}");
            let late = QUARTER_PAST_NINE + i64::try_from(number).unwrap() * 60_000_000;
            let events = [
                event("page_view", &user, QUARTER_PAST_NINE),
                event("click", &user, late),
            ];
            sink.flush(batch_of(number * 2, &events).view()).await.unwrap();
            flushed.send(number + 1).unwrap();
        }
    });
    let day = Day::of(Timestamp::from_micros(FEBRUARY));
    let mut rollups = database.store().open_rollups().await.unwrap();
    let rules = Rules::new(PAIRS_MAX_DEFAULT);
    // Ends when the flusher drops its sender. Each round waits for a flush, so that flush and rebuild alternate as
    // SQLite's one writer.
    while flushes.changed().await.is_ok() {
        rebuild_day(&mut *rollups, day, rules, Timestamp::now()).await.unwrap();
        let verdict = verify_day(&mut *rollups, day).await.unwrap();
        assert_eq!(verdict.differences, []);
    }
    flusher.await.unwrap();
    let verdict = verify_day(&mut *rollups, day).await.unwrap();
    assert_eq!((verdict.events, verdict.differences), (2 * FLUSHES, vec![]));
}

async fn flushes_get_in_between_the_days_of_a_rebuild(database: Database) {
    const FLUSHES: u64 = 10;
    let mut sink = database.sink_at(0).await;
    let events: Vec<String> = (0..1_000).map(|number| format!("user-{number}")).collect();
    let events: Vec<_> = events
        .iter()
        .map(|user| event("page_view", user, QUARTER_PAST_NINE))
        .collect();
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let flusher = tokio::spawn(async move {
        for number in 0..FLUSHES {
            let events = [event("page_view", "ann", QUARTER_PAST_NINE)];
            let batch = batch_of(1_000 + number, &events);
            sink.flush(batch.view()).await.unwrap();
        }
    });
    let day = Day::of(Timestamp::from_micros(FEBRUARY));
    let mut rollups = database.store().open_rollups().await.unwrap();
    let rules = Rules::new(PAIRS_MAX_DEFAULT);
    // Rebuilds without waiting for the flusher, which must finish all the same.
    while !flusher.is_finished() {
        rebuild_day_and_rest(&mut *rollups, day, rules).await.unwrap();
    }
    flusher.await.unwrap();
    let verdict = verify_day(&mut *rollups, day).await.unwrap();
    assert_eq!((verdict.events, verdict.differences), (1_000 + FLUSHES, vec![]));
}

async fn events_that_are_older_than_the_rollups_are_counted(database: Database) {
    store_three_events(&database).await;
    // Back to the release before the rollups.
    for _ in 0..3 {
        command(&database, &["migrate", "down", "--yes"]).await;
    }
    let built = command(&database, &["migrate", "up"]).await;
    assert_says(
        &built,
        "applied 2026-11-23-000000_rollups\napplied 2026-11-28-000000_lineage\napplied 2026-11-29-000000_user_key\nbuilt rollups for 3 events in 1 day\n",
    );
    assert_says(&command(&database, &["verify"]).await, RIGHT);
    assert_eq!(database.count("rollup_days").await, 3);

    // An earlier run was interrupted after the migration.
    let interrupted = database.migrate(|location| {
        // Back to the release before the rollups.
        migrations::down(location, false)?;
        migrations::down(location, false)?;
        migrations::down(location, false)?;
        migrations::apply(location, std::time::Duration::ZERO)
    });
    assert_eq!(interrupted.await.unwrap().len(), 3);
    let error = database.store().check_rollups().await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Schema(text)
            if text.contains("not built yet") && text.contains("`fast-ingest migrate up`")),
        "{error}"
    );
    command(&database, &["verify"])
        .await
        .assert_refusal(78, &["not built yet", "`fast-ingest migrate up`"]);
    let built = database
        .migrate(|location| upgrade::build_rollups(location, PAIRS_MAX_DEFAULT))
        .await
        .unwrap();
    let expected = Rebuilt {
        days: 1,
        events: 3,
        ..Rebuilt::default()
    };
    assert_eq!(built, Some(expected));
    database.store().check_schema().await.unwrap();
    let again = command(&database, &["migrate", "up"]).await;
    assert_says(&again, "nothing to apply: the schema is up to date\n");
    assert_says(&command(&database, &["verify"]).await, RIGHT);
}

async fn an_interrupted_first_build_goes_on_where_it_stopped(database: Database) {
    let mut sink = database.sink_at(0).await;
    let events = [0, 1, 2].map(|day| event("page_view", "ann", FEBRUARY + day * DAY_MICROS));
    sink.flush(batch_of(0, &events).view()).await.unwrap();
    let unbuilt = database.migrate(|location| {
        // Back to the release before the rollups.
        migrations::down(location, false)?;
        migrations::down(location, false)?;
        migrations::down(location, false)?;
        migrations::apply(location, std::time::Duration::ZERO)
    });
    unbuilt.await.unwrap();
    // The state that the transaction of the first day leaves.
    let day = Day::of(Timestamp::from_micros(FEBRUARY));
    let mut rollups = database.store().open_rollups().await.unwrap();
    rollups.begin(true).await.unwrap();
    assert_eq!(rollups.build_from().await.unwrap(), None);
    let next = Day::of(day.end());
    rollups.set_build_from(next).await.unwrap();
    rollups.commit().await.unwrap();
    rollups.begin_reading().await.unwrap();
    assert_eq!(rollups.build_from().await.unwrap(), Some(next));
    rollups.commit().await.unwrap();
    let built = command(&database, &["migrate", "up"]).await;
    assert_says(&built, "built rollups for 2 events in 2 days\n");
    rollups.begin(true).await.unwrap();
    assert_eq!(rollups.build_from().await.unwrap(), None);
    assert!(!rollups.rebuild_needed().await.unwrap());
    // A slower run must not leave a mark for a build to come.
    rollups.set_build_from(next).await.unwrap();
    assert_eq!(rollups.build_from().await.unwrap(), None);
    rollups.commit().await.unwrap();
}

async fn a_schema_that_is_behind_is_refused(database: Database) {
    command(&database, &["migrate", "down", "--yes"]).await;
    for words in [&["verify"][..], &["rollup", "rebuild"]] {
        command(&database, words)
            .await
            .assert_refusal(78, &["schema is behind", "`fast-ingest migrate up`"]);
    }
}
