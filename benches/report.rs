//! `REPORT.md`: the table of a run, the machine that it ran on, and charts.

mod charts;
mod machine;

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use crate::support::series::Series;
use crate::support::table::{Row, Table};

/// Where to write the report: a directory, relative to the package's. None is written without it.
pub(crate) const DIRECTORY_VARIABLE: &str = "FAST_INGEST_BENCH_REPORT";

/// Why a target is missed: the layer, how the text of the row begins, and the reason. Kept here, so that each missed
/// target needs a reason, and a new report still has it. The first match counts; a reason without a missed row is not
/// shown.
const REASONS: &[(&str, &str, &str)] = &[
    (
        "http_ingest",
        "single, 64 connections",
        "A group of about 25 requests pays for one fdatasync, 50 to 70 µs of CPU in the kernel, which is 2 to 3 µs a request; each request \
         is also polled once more, when its ack comes from the log thread. A bare server does neither.",
    ),
    (
        "http_ingest",
        "single: p99 at half",
        "Client, two HTTP threads and the log thread share two cores, and the log thread may have to wait for a scheduler's slice of 3 to \
         4 ms when its sync returns; the bare server's own p99 under the closed load is one such slice too.",
    ),
    (
        "http_ingest",
        "bulk of 1000, 16 connections: server CPU",
        "Parsing, validating and encoding take 0.9 of what serde_json takes for parsing alone. The rest is receiving 100 KB, which the bare \
         server pays for as well (35 to 45 ns an event), writing and syncing the record, and waking threads between the two.",
    ),
    (
        "flush_postgres",
        "batches of",
        "The checkpoint before the rows and the rollups behind them are further round trips, 0.7 to 0.9 ms a batch in which the server \
         stores no event (they cannot be sent ahead: tokio-postgres loses track of the replies when a COPY fails that was started early). \
         And events are decoded, encoded and folded while the server works on the other core, where the bare COPY's bytes were made \
         before its clock started.",
    ),
    (
        "metrics_query",
        "postgres, 10000000 events",
        "Ten million events were loaded a moment ago: autovacuum and the server's own writes share two cores with the one who asks.",
    ),
];
const NO_REASON: &str = "(reason not known yet)";

/// Writes the report and its pictures.
pub(crate) fn write(directory: &Path, table: &Table, series: &[Series]) {
    let pictures = charts::draw_all(directory, series);
    let mut text = String::new();
    compose(&mut text, table, &pictures).expect("a String takes everything");
    let file = directory.join("REPORT.md");
    fs::write(&file, text).expect("the directory for the report is there");
    eprintln!("report: {}", file.display());
}

fn compose(text: &mut String, table: &Table, pictures: &[charts::Picture]) -> fmt::Result {
    writeln!(text, "# What fast-ingest costs, and what limits it\n")?;
    writeln!(
        text,
        "`make bench-report` wrote this: every layer of fast-ingest, each against what it cannot beat, measured by turns in one run on \
         one machine. The modules under `benches/` say how each is measured. Absolute figures are this machine's; ratios are ours.\n"
    )?;
    writeln!(text, "## Setup\n")?;
    writeln!(text, "| | |")?;
    writeln!(text, "|---|---|")?;
    for (name, value) in machine::facts() {
        writeln!(text, "| {name} | {value} |")?;
    }
    writeln!(text, "\n## Results\n")?;
    writeln!(
        text,
        "The ratio is ours over the limit; for times and costs less is better.\n"
    )?;
    writeln!(text, "{table}")?;
    writeln!(text, "## Missed\n")?;
    let missed = table.rows.iter().filter(|row| row.is_met() == Some(false));
    let missed: Vec<_> = missed.map(line_of_missed).collect();
    if missed.is_empty() {
        writeln!(text, "Nothing: every target was met.")?;
    }
    for line in missed {
        writeln!(text, "{line}")?;
    }
    if !pictures.is_empty() {
        writeln!(text, "\n## Pictures")?;
    }
    for charts::Picture { file, sentence } in pictures {
        writeln!(text, "\n{sentence}\n\n![{sentence}]({file})")?;
    }
    Ok(())
}

fn line_of_missed(row: &Row) -> String {
    let [layer, what, ours, limit, ratio, target, _] = row.cells();
    let reason = REASONS
        .iter()
        .find(|(of_layer, prefix, _)| *of_layer == layer && what.starts_with(prefix));
    let reason = reason.map_or(NO_REASON, |(_, _, reason)| reason);
    let against = match row.limit {
        Some(_) => format!("{ours} against {limit}, ratio {ratio}"),
        None => ours,
    };
    format!("- **{layer}**, {what}: {against}, target {target}. {reason}")
}
