//! `fast-ingest metrics`: the answer of `GET /metrics` on a terminal, or as JSON or CSV for other programs.
//!
//! It asks the running server, because only the server knows its database. The server also checks the options; only
//! instants and the time zone are parsed here, to resolve dates and the default range.

mod answer;
mod csv;
mod range;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;

use super::request::{self, ServerArgs};
use crate::api::metrics::Answer;
use crate::api::routes::METRICS;
use crate::event::Timestamp;
use crate::support::exit::{ExitStatus, Failure, OrExit, say};
use crate::support::settings::count;
use range::{Moment, Zone};

/// Longest wait for the answer. A query may take 10 s by default, and waiting for a receipt 10 s more; an operator may
/// have allowed more.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest answer. It has at most 10,000 groups, each with two names of at most 200 bytes, for which JSON may need six
/// times as many.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Each paragraph is one line, because clap wraps it to the terminal.
const LONG_HELP: &str = "\
Numbers marked ± are estimates, with their standard error.\n\n\
In CSV a text that begins with = + - @, a tab or a carriage return gets a ' in front, so that no spreadsheet reads it as a formula. \
Lines end with CR LF, as in RFC 4180.\n\n\
Exit status: 0 answered; 2 the query is wrong; 69 the server does not answer, or not now; 78 the URL cannot be used.";

/// The flags of `fast-ingest metrics`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = LONG_HELP)]
pub struct MetricsArgs {
    /// Name of the events to count; '*' counts all
    #[arg(value_name = "EVENT")]
    pub event_name: String,

    /// Start of the range: RFC 3339, Unix time, or a date, which means the start of that day in --tz; by default 30
    /// days before --to
    #[arg(long, value_name = "TIME", value_parser = range::moment)]
    pub from: Option<Moment>,
    /// End of the range, not included; by default now
    #[arg(long, value_name = "TIME", value_parser = range::moment)]
    pub to: Option<Moment>,
    /// How to split the range: `minute`, `hour`, `day`, `week`, `month`, `channel`, `event_name`, or two of them as in
    /// `day,channel`
    #[arg(long, value_name = "BY")]
    pub group_by: Option<String>,
    /// Time zone of days and of the times shown, for example Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = range::zone)]
    pub tz: Zone,
    /// Only events of this channel
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Only events of this campaign
    #[arg(long, value_name = "ID")]
    pub campaign_id: Option<String>,
    /// `zero`: also show groups without events
    #[arg(long, value_name = "WITH")]
    pub fill: Option<String>,
    /// Which channels or names come first: `name`, `total_events` or `unique_users`
    #[arg(long, value_name = "ORDER")]
    pub order: Option<String>,
    /// Most channels or names to show; the others are summed up as one group, (other)
    #[arg(long, value_name = "N", value_parser = count::<u32>)]
    pub limit: Option<u32>,
    /// Count every user instead of estimating large numbers; takes longer
    #[arg(long)]
    pub exact: bool,
    /// Wait until the database has the events of this receipt, which is in the answer to a POST
    #[arg(long, value_name = "RECEIPT")]
    pub after: Option<String>,

    /// Flags that choose the server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How to show the answer
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns and bars, for people
    Table,
    /// The server's answer, in one line
    Json,
    /// CSV as in RFC 4180, with a header line
    Csv,
}

/// Sends the query and prints the answer.
///
/// # Errors
///
/// A [`Failure`] with one of the statuses that the help lists.
pub fn run(args: &MetricsArgs) -> Result<(), Failure> {
    let route = format!("{METRICS}?{}", query_string(args, Timestamp::now()));
    let url = args.server.url();
    let uri = request::uri(&url, &route).or_exit(ExitStatus::Config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(ExitStatus::Software)?;
    let asked = runtime.block_on(async { timeout(ANSWER_TIME_MAX, request::get(&uri, ANSWER_BYTES_MAX)).await });
    // Do not wait for a name lookup that may still run on a helper thread.
    runtime.shutdown_background();
    let (status, body) = asked
        .unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER_TIME_MAX:?}")))
        .with_context(|| url.clone())
        .or_exit(ExitStatus::Unavailable)?;
    if status != StatusCode::OK {
        return Err(answer::refusal(status, &body));
    }
    let answer: Answer = serde_json::from_slice(&body)
        .context("this is not the answer of a fast-ingest server")
        .with_context(|| url.clone())
        .or_exit(ExitStatus::Unavailable)?;
    let is_terminal = io::stdout().is_terminal();
    say(match args.format {
        Format::Table => table::render(&answer, &args.tz, table::columns(is_terminal)),
        Format::Json => answer::one_line(&body, is_terminal),
        Format::Csv => csv::render(&answer, is_terminal),
    })
}

/// The query string for `GET /metrics`.
fn query_string(args: &MetricsArgs, now: Timestamp) -> String {
    let range = range::resolve(args.from, args.to, &args.tz, now);
    let (from, to) = (range.start.to_string(), range.end.to_string());
    let limit = args.limit.map(|limit| limit.to_string());
    let parameters = [
        ("event_name", Some(args.event_name.as_str())),
        ("from", Some(&from)),
        ("to", Some(&to)),
        ("group_by", args.group_by.as_deref()),
        // Left out for UTC, the default, so that a server without a time zone database answers too.
        ("tz", Some(args.tz.name()).filter(|name| *name != "UTC")),
        ("channel", args.channel.as_deref()),
        ("campaign_id", args.campaign_id.as_deref()),
        ("fill", args.fill.as_deref()),
        ("order", args.order.as_deref()),
        ("limit", limit.as_deref()),
        ("exact", args.exact.then_some("true")),
        ("after", args.after.as_deref()),
    ];
    let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let pairs: Vec<String> = given
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    pairs.join("&")
}
