//! What the command line of a run asks for. Apart from the benches, so that the tests can use it too.

/// Every layer that can be measured, with its description.
pub(crate) const LAYERS: [(&str, &str); 9] = [
    ("parse", "parsing, validating and encoding a body"),
    ("group_commit", "appending, syncing and acknowledging"),
    ("flush_sqlite", "the flush into SQLite"),
    ("flush_postgres", "the flush into PostgreSQL"),
    ("http_ingest", "accepting events over HTTP"),
    ("end_to_end", "the whole path, from clients to rows"),
    ("growth", "storing an event as the database grows; 6 GB of disk"),
    ("backlog", "a log of gigabytes after an outage; 12 GB of disk"),
    ("metrics_query", "metrics over millions of events"),
];

/// What a run does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Measure.
    Run(Selection),
    /// Do nothing: this is not `cargo bench`, and only the build was wanted.
    Nothing,
    /// Print this.
    Say(String),
    /// Print this, and fail.
    Refuse(String),
}

impl Choice {
    /// Reads the command line, without the name of the program.
    pub(crate) fn of(arguments: &[String]) -> Self {
        let has = |flags: &[&str]| {
            let mut given = arguments.iter();
            given.any(|argument| flags.contains(&argument.as_str()))
        };
        if has(&["--help", "-h"]) {
            return Self::Say(help());
        }
        if has(&["--list"]) {
            let lines = LAYERS.iter().map(|(name, _)| format!("{name}: bench"));
            return Self::Say(lines.collect::<Vec<_>>().join("\n"));
        }
        if !has(&["--bench"]) {
            return Self::Nothing;
        }
        let mut names = arguments.iter().filter(|argument| !argument.starts_with('-'));
        let (wanted, more) = (names.next().cloned(), names.next());
        if let Some(more) = more {
            return Self::Refuse(format!("only one name can be given; {more:?} is a second one"));
        }
        let selection = Selection(wanted);
        if LAYERS.iter().any(|(layer, _)| selection.has(layer)) {
            Self::Run(selection)
        } else {
            Self::Refuse(selection.finds_nothing())
        }
    }
}

/// What to run: everything whose name contains the given word, which Criterion also gets as its filter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection(Option<String>);

impl Selection {
    /// Whether a measurement, or some of a group of measurements, is to be run.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|wanted| name.contains(wanted) || wanted.starts_with(name))
    }

    /// The message when no name matches.
    pub(crate) fn finds_nothing(&self) -> String {
        let wanted = self.0.as_deref().unwrap_or_default();
        let layers = LAYERS.map(|(name, _)| name).join(", ");
        format!("nothing to measure is called {wanted:?}; the layers are {layers}")
    }
}

fn help() -> String {
    let mut help = "Usage: cargo bench [-- NAME]\n\n\
        Measures every layer against its limit, or only those whose name contains NAME, and prints a table. Everything takes about\n\
        ten minutes and 13 GB of disk where TMPDIR points.\n\nLayers:\n"
        .to_owned();
    for (name, about) in LAYERS {
        help.push_str(&format!("  {name:<16}{about}\n"));
    }
    help.push_str(
        "\nFlags:\n  --list          only lists their names\n  --help          this\n\
         Others are Criterion's, with = before their values, such as --measurement-time=2.",
    );
    help
}
