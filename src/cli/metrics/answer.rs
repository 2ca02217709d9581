//! What the server answers, as far as it is shown.

use hyper::StatusCode;
use serde::Deserialize;

use crate::cli::text::{acts_on_a_terminal, printable};
use crate::support::exit::{ExitStatus, Failure};

/// An answer of `GET /metrics`. What a server leaves out means that there is nothing to say.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) event_name: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) group_by: Option<String>,
    pub(super) source: Option<String>,
    #[serde(default)]
    pub(super) overflowed: bool,
    #[serde(default)]
    pub(super) pending_events: u64,
    pub(super) counted_until: Option<String>,
    #[serde(flatten)]
    pub(super) total: Counts,
    #[serde(default)]
    pub(super) groups: Vec<Group>,
}

/// What was counted.
#[derive(Debug, Deserialize)]
pub(super) struct Counts {
    pub(super) total_events: u64,
    pub(super) unique_users: u64,
    /// Relative standard error of `unique_users`.
    #[serde(default)]
    pub(super) unique_users_error: f64,
    unique_users_range: Option<(u64, u64)>,
}

impl Counts {
    /// Between which numbers the true number of users most probably is.
    pub(super) fn users_range(&self) -> (u64, u64) {
        self.unique_users_range
            .unwrap_or((self.unique_users, self.unique_users))
    }
}

/// One group; it has what it is grouped by.
#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub(super) start: Option<String>,
    pub(super) end: Option<String>,
    pub(super) event_name: Option<String>,
    pub(super) channel: Option<String>,
    /// It stands for all that have no group of their own.
    #[serde(default)]
    pub(super) other: bool,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// One thing that groups are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension<'a> {
    /// Buckets of this name.
    Time(&'a str),
    EventName,
    Channel,
}

impl Answer {
    /// What the groups are told apart by, as it was asked for.
    pub(super) fn dimensions(&self) -> Vec<Dimension<'_>> {
        let words = self.group_by.iter().flat_map(|words| words.split(','));
        words
            .map(|word| match word {
                "event_name" => Dimension::EventName,
                "channel" => Dimension::Channel,
                unit => Dimension::Time(unit),
            })
            .collect()
    }
}

/// The server's own words in one line. To a terminal, what it would act on goes as `\u` escapes, which mean the same.
pub(super) fn one_line(body: &[u8], is_terminal: bool) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_end();
    if !is_terminal {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if acts_on_a_terminal(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    out
}

/// The part of an error answer (RFC 9457) that is shown.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<ListedError>,
}

#[derive(Deserialize)]
struct ListedError {
    field: String,
    message: String,
}

/// Why the server does not answer the question: in one line, whatever it says.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let exit = match status {
        StatusCode::BAD_REQUEST => ExitStatus::Usage,
        _ => ExitStatus::Unavailable,
    };
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return Failure::new(exit, anyhow::anyhow!("the server answered {status}"));
    };
    let listed = problem.errors.iter();
    let listed: Vec<String> = listed
        .map(|error| format!("{} {}", error.field, error.message))
        .collect();
    let text = match (listed.is_empty(), problem.detail.is_empty()) {
        // The detail only points to the list.
        (false, _) => listed.join("; "),
        (true, false) => problem.detail,
        (true, true) => format!("{status} {}", problem.title),
    };
    Failure::new(exit, anyhow::anyhow!(printable(&text)))
}
