//! The server's answer, prepared to be shown: its dimensions, its JSON, its errors.

use hyper::StatusCode;

use crate::api::metrics::Answer;
use crate::api::problem::Problem;
use crate::cli::text::{acts_on_a_terminal, printable};
use crate::support::exit::{ExitStatus, Failure};

/// One word of `group_by`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension<'a> {
    /// Buckets of this unit, such as `day`.
    Time(&'a str),
    EventName,
    Channel,
}

/// The words of the answer's `group_by`, in the order of the query.
pub(super) fn dimensions<'a>(answer: &'a Answer<'_>) -> Vec<Dimension<'a>> {
    let words = answer.group_by.iter().flat_map(|words| words.split(','));
    words
        .map(|word| match word {
            "event_name" => Dimension::EventName,
            "channel" => Dimension::Channel,
            unit => Dimension::Time(unit),
        })
        .collect()
}

/// The server's JSON in one line. For a terminal, characters that it would act on become `\u` escapes, which mean the
/// same in JSON.
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

/// The failure for an answer other than 200, in one line.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let exit = match status {
        StatusCode::BAD_REQUEST => ExitStatus::Usage,
        _ => ExitStatus::Unavailable,
    };
    let Ok(problem) = serde_json::from_slice::<Problem<'static>>(body) else {
        return Failure::new(exit, anyhow::anyhow!("the server answered {status}"));
    };
    let listed = problem.errors.iter();
    let listed: Vec<String> = listed
        .map(|error| format!("{} {}", error.field, error.message))
        .collect();
    let text = match (listed.is_empty(), problem.detail.is_empty()) {
        // The detail only points to the list.
        (false, _) => listed.join("; "),
        (true, false) => problem.detail.into_owned(),
        (true, true) => format!("{status} {}", problem.title),
    };
    Failure::new(exit, anyhow::anyhow!(printable(&text)))
}
