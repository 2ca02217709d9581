//! An answer for people: aligned columns, local times, a bar for each group.

use jiff::civil::DateTime;

use super::answer::{Dimension, dimensions};
use super::range::Zone;
use crate::api::metrics::{Answer, Counts, Group};
use crate::cli::text::{counted, grouped, printable, width};
use crate::event::Timestamp;

/// Width of a table without a terminal.
const COLUMNS_DEFAULT: usize = 80;
/// Widest table: a longer line is hard to follow with the eye.
const COLUMNS_MAX: usize = 160;
/// Least room for bars; with less there are no bars.
const BAR_COLUMNS_MIN: usize = 8;
/// Space between columns.
const GAP: &str = "  ";
/// The end of a bar, by eighths of a cell.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Width that a table may have, in terminal cells.
pub(super) fn columns(is_terminal: bool) -> usize {
    let size = is_terminal.then(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok());
    match size.flatten() {
        Some(size) if size.ws_col > 0 => usize::from(size.ws_col).min(COLUMNS_MAX),
        _ => COLUMNS_DEFAULT,
    }
}

/// The answer in lines, at most `columns` wide unless names or numbers need more.
pub(super) fn render(answer: &Answer<'_>, zone: &Zone, columns: usize) -> String {
    let dimensions = dimensions(answer);
    let mut table = Table::default();
    // The row of totals needs a column for its label.
    let labels = dimensions.len().max(1);
    let mut header: Vec<String> = dimensions.iter().map(|by| printable(name_of(*by))).collect();
    header.resize(labels, String::new());
    header.extend(["events", "users", ""].map(str::to_owned));
    table.rows.push(header);
    for group in answer.groups() {
        let mut row: Vec<String> = dimensions.iter().map(|by| label(group, *by, zone)).collect();
        row.resize(labels, String::new());
        row.extend(numbers(&group.counts));
        table.rows.push(row);
    }
    let mut totals = vec!["total".to_owned()];
    totals.resize(labels, String::new());
    totals.extend(numbers(&answer.total));
    table.rows.push(totals);

    let mut lines = vec![headline(answer, zone), String::new()];
    lines.extend(table.lines(labels, &bars(answer, table.width(), columns)));
    lines.extend(footnotes(answer));
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n")
}

/// Rows of cells. The first columns are text, then come numbers; the last column is the error of an estimate.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.rows[0].len()];
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = width(cell).max(*widest);
            }
        }
        widths
    }

    fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().filter(|width| **width > 0).sum::<usize>() + GAP.len() * widths.len()
    }

    fn lines(&self, labels: usize, bars: &[String]) -> Vec<String> {
        let widths = self.widths();
        let mut lines = Vec::with_capacity(self.rows.len());
        for (row, cells) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                // A column without any text is left out.
                if widths[column] == 0 {
                    continue;
                }
                let padding = " ".repeat(widths[column] - width(cell));
                let is_number = (labels..cells.len() - 1).contains(&column);
                let (before, after) = if is_number {
                    (padding, String::new())
                } else {
                    (String::new(), padding)
                };
                line.extend([&before, cell, &after, GAP]);
            }
            // The header has no bar.
            let bar = row.checked_sub(1).and_then(|group| bars.get(group));
            line.push_str(bar.map_or("", String::as_str));
            lines.push(line);
        }
        lines
    }
}

fn name_of(dimension: Dimension<'_>) -> &str {
    match dimension {
        Dimension::Time(unit) => unit,
        Dimension::EventName => "event_name",
        Dimension::Channel => "channel",
    }
}

fn label(group: &Group<'_>, dimension: Dimension<'_>, zone: &Zone) -> String {
    let name = match dimension {
        Dimension::Time(unit) => {
            let start = group.start.as_deref().unwrap_or_default();
            return time(start, unit, zone);
        }
        Dimension::EventName => &group.event_name,
        Dimension::Channel => &group.channel,
    };
    match name {
        Some(name) => printable(name),
        None if group.other => "(other)".to_owned(),
        None => String::new(),
    }
}

/// The start of a bucket in local time, in the form of its unit. A text that is not an instant is shown as it is.
fn time(instant: &str, unit: &str, zone: &Zone) -> String {
    let micros = Timestamp::parse(instant).map(Timestamp::as_micros);
    let Ok(micros) = micros else {
        return printable(instant);
    };
    let Some(local) = zone.local(micros) else {
        return printable(instant);
    };
    let date = local.date();
    match unit {
        "month" => local.strftime("%Y-%m").to_string(),
        "week" => {
            let week = date.iso_week_date();
            format!("{}-W{:02}", week.year(), week.week())
        }
        "day" => date.to_string(),
        _ if zone.is_repeated(local) => format!("{} {}", clock(local), zone.offset(micros)),
        _ => clock(local),
    }
}

/// Date and time, with seconds only if they are not zero.
fn clock(local: DateTime) -> String {
    let form = if local.second() == 0 && local.subsec_nanosecond() == 0 {
        "%Y-%m-%d %H:%M"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    local.strftime(form).to_string()
}

fn numbers(counts: &Counts) -> [String; 3] {
    let error = counts.unique_users_error.value();
    let error = if error > 0.0 {
        format!("±{:.1}%", error * 100.0)
    } else {
        String::new()
    };
    [grouped(counts.total_events), grouped(counts.unique_users), error]
}

/// A bar for each group; the largest fills the rest of the line.
fn bars(answer: &Answer<'_>, used: usize, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(used);
    let events = answer.groups().iter().map(|group| group.counts.total_events);
    let largest = events.clone().max().unwrap_or(0);
    if room < BAR_COLUMNS_MIN || largest == 0 {
        return Vec::new();
    }
    let bar = |events: u64| {
        let eighths = (events as f64 / largest as f64 * room as f64 * 8.0).round() as usize;
        // A group with few events gets a visible bar, unlike one without events.
        let eighths = eighths.max(usize::from(events > 0));
        "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
    };
    events.map(bar).collect()
}

fn headline(answer: &Answer<'_>, zone: &Zone) -> String {
    let instant = |text: &str| time(text, "", zone);
    let name = printable(&answer.event_name);
    let source = answer.source.as_deref().map(printable);
    format!(
        "{}: {} to {}, {}{}",
        name,
        instant(&answer.from),
        instant(&answer.to),
        printable(zone.name()),
        source.map_or(String::new(), |source| format!(", from {source}")),
    )
}

fn footnotes(answer: &Answer<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if answer.total.unique_users_error.value() > 0.0 {
        let [low, high] = answer.total.users_range();
        notes.push(format!(
            "± is the standard error of an estimate. 95 times in 100 the total of users is between {} and {}; --exact counts them.",
            grouped(low),
            grouped(high)
        ));
    } else if answer
        .groups()
        .iter()
        .any(|group| group.counts.unique_users_error.value() > 0.0)
    {
        notes.push("± is the standard error of an estimate; --exact counts users.".to_owned());
    }
    if answer.overflowed {
        notes.push(
            "Some days have more pairs of name and channel than --rollup-pairs-max; there, events were counted one by one."
                .to_owned(),
        );
    }
    if let Some(pending) = answer.pending_events.filter(|pending| *pending > 0) {
        let until = answer.counted_until.as_deref().map(printable);
        let until = until.map_or_else(String::new, |until| {
            format!("; all that the server accepted before {until} is counted")
        });
        let pending = counted(pending, "event");
        notes.push(format!("Not in the database yet: {pending}{until}."));
    }
    if !notes.is_empty() {
        notes.insert(0, String::new());
    }
    notes
}
