//! The table of results: each layer, its limit, and whether the target was met.

use std::fmt::{self, Display};

/// The result that a measurement should reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Our value over the limit's, at least.
    RatioAtLeast(f64),
    /// Our value over the limit's, at most.
    RatioAtMost(f64),
    /// Our value, at least.
    AtLeast(f64),
    /// Our value, at most.
    AtMost(f64),
    /// No target: for information.
    None,
}

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Name of the bench.
    pub(crate) layer: String,
    /// What was measured, and under which load.
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    /// The value of the baseline that cannot be beaten.
    pub(crate) limit: Option<f64>,
    pub(crate) target: Target,
}

/// All lines.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
}

impl Row {
    /// Our value over the limit's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.limit.map(|limit| self.ours / limit)
    }

    /// Whether the target was met, if there is one.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let ratio = || self.ratio().expect("a ratio needs a limit");
        match self.target {
            Target::RatioAtLeast(least) => Some(ratio() >= least),
            Target::RatioAtMost(most) => Some(ratio() <= most),
            Target::AtLeast(least) => Some(self.ours >= least),
            Target::AtMost(most) => Some(self.ours <= most),
            Target::None => None,
        }
    }

    /// The row's columns as text.
    pub(crate) fn cells(&self) -> [String; 7] {
        let with_unit = |value: f64| format!("{} {}", Figure(value), self.unit);
        let target = match self.target {
            Target::RatioAtLeast(least) => format!("≥ {least}"),
            Target::RatioAtMost(most) => format!("≤ {most}"),
            Target::AtLeast(least) => format!("≥ {least} {}", self.unit),
            Target::AtMost(most) => format!("≤ {most} {}", self.unit),
            Target::None => String::new(),
        };
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [
            self.layer.clone(),
            self.what.clone(),
            with_unit(self.ours),
            self.limit.map_or_else(String::new, with_unit),
            self.ratio().map_or_else(String::new, |ratio| Figure(ratio).to_string()),
            target,
            met.to_owned(),
        ]
    }
}

const HEADINGS: [&str; 7] = ["layer", "what", "ours", "limit", "ratio", "target", "met"];

impl Table {
    /// Adds a row, and prints it at once: the table comes only after many minutes.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{}", row.cells().join(" | "));
        self.rows.push(row);
    }
}

/// As a table of Markdown, its columns aligned.
impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = [HEADINGS.map(str::to_owned)]
            .into_iter()
            .chain(self.rows.iter().map(Row::cells))
            .collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<_> = (0..HEADINGS.len()).filter_map(width).collect();
        let mut write = |line: &[String; 7]| {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                // Numbers are aligned to the right.
                if (2..=4).contains(&column) {
                    write!(f, "| {cell:>width$} ")?;
                } else {
                    write!(f, "| {cell:width$} ")?;
                }
            }
            writeln!(f, "|")
        };
        write(&lines[0])?;
        let rule = |column: usize| match column {
            2..=4 => format!("{:->width$}:", "", width = widths[column] - 1),
            _ => "-".repeat(widths[column]),
        };
        write(&std::array::from_fn(rule))?;
        lines[1..].iter().try_for_each(write)
    }
}

/// A number, shown with three significant digits.
pub(crate) struct Figure(pub(crate) f64);

impl Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.0.abs() {
            size if size >= 100.0 => 0,
            size if size >= 10.0 => 1,
            size if size >= 1.0 => 2,
            _ => 3,
        };
        write!(f, "{:.decimals$}", self.0)
    }
}
