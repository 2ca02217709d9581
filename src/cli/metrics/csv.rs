//! An answer as CSV (RFC 4180), one row for each group.
//!
//! Any client can choose names, so a text that a spreadsheet would read as a formula gets a `'` in front.

use csv::{Terminator, WriterBuilder};

use super::answer::{Dimension, dimensions};
use crate::api::metrics::{Answer, Counts, Group};
use crate::cli::text::printable;

/// The header line and one row for each group, or a row of the total if the query has no groups. The last line has no
/// LF.
pub(super) fn render(answer: &Answer<'_>, is_terminal: bool) -> String {
    let dimensions = dimensions(answer);
    let is_named = dimensions
        .iter()
        .any(|dimension| !matches!(dimension, Dimension::Time(_)));
    let mut header = Vec::new();
    for dimension in &dimensions {
        match dimension {
            Dimension::Time(_) => header.extend(["start", "end"]),
            Dimension::EventName => header.push("event_name"),
            Dimension::Channel => header.push("channel"),
        }
    }
    // A channel may have any name, so the group of all others is marked in a column of its own.
    header.extend(is_named.then_some("other"));
    header.extend([
        "total_events",
        "unique_users",
        "unique_users_error",
        "unique_users_low",
        "unique_users_high",
    ]);
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    let mut write = |row: &[String]| {
        let written = writer.write_record(row);
        written.expect("memory takes every row");
    };
    let header: Vec<String> = header.into_iter().map(str::to_owned).collect();
    write(&header);
    let text = |text: Option<&str>| cell(text.unwrap_or_default(), is_terminal);
    if dimensions.is_empty() {
        write(&counts(&answer.total));
    }
    for group in answer.groups() {
        let Group {
            start,
            end,
            event_name,
            channel,
            ..
        } = group;
        let mut row = Vec::with_capacity(header.len());
        for dimension in &dimensions {
            match dimension {
                Dimension::Time(_) => row.extend([text(start.as_deref()), text(end.as_deref())]),
                Dimension::EventName => row.push(text(event_name.as_deref())),
                Dimension::Channel => row.push(text(channel.as_deref())),
            }
        }
        row.extend(is_named.then(|| group.other.to_string()));
        row.extend(counts(&group.counts));
        write(&row);
    }
    let bytes = writer.into_inner().expect("memory takes every row");
    let text = String::from_utf8(bytes).expect("rows of texts");
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}

fn counts(counts: &Counts) -> [String; 5] {
    let [low, high] = counts.users_range();
    [
        counts.total_events.to_string(),
        counts.unique_users.to_string(),
        counts.unique_users_error.value().to_string(),
        low.to_string(),
        high.to_string(),
    ]
}

/// The text, safe from being read as a formula and, on a terminal, without control characters.
fn cell(text: &str, is_terminal: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        out.push('\'');
    }
    if is_terminal {
        out.push_str(&printable(text));
    } else {
        out.push_str(text);
    }
    out
}
