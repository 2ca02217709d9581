use super::*;
use crate::store::sqlite::testing::{DatabasePlace, plan};

/// The tables grow for as long as the server runs: a statement that looks for few rows must not read a whole table.
#[test]
fn statements_find_their_rows_by_an_index() {
    let place = DatabasePlace::new();
    let reader = place.reader();
    let events_by_name_and_time = "INDEX events_name_ts (event_name=? AND ts>? AND ts<?)";
    let sure = [
        (events_sql(), events_by_name_and_time),
        (days::stored_sql(), "INDEX events_name_ts (event_name>?)"),
        (parts::TAKE_MINUTES.to_owned(), "INDEX rollups_minutes (bucket<?)"),
    ];
    for (sql, index) in sure {
        let steps = plan(&reader, &sql);
        assert!(steps.iter().any(|step| step.contains(index)), "{sql}: {steps:#?}");
        let tables = ["events", "rollups", "rollup_deltas", "rollup_days"];
        for step in steps {
            let scans = |table: &&str| step == format!("SCAN {table}");
            assert!(!tables.iter().any(scans), "{sql}: {step}");
            assert!(!step.contains("TEMP B-TREE"), "{sql}: {step}");
        }
    }
    // This statement has to sort, but only the rows that it found.
    let steps = plan(&reader, &pairs_sql());
    let is_found = |step: &String| step.contains(events_by_name_and_time);
    assert!(steps.iter().any(is_found), "{steps:#?}");
}
