//! `fast-ingest health`: one request to a running server, one line, one exit status. Made for container health checks.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use hyper::{StatusCode, Uri};
use tokio::time::timeout;

use super::request::{self, ServerArgs};
use super::text::counted;
use crate::api::health::Health;
use crate::api::routes::HEALTH;
use crate::support::exit::{ExitStatus, Failure, OrExit, say};

/// Longest wait for the answer. A healthy server answers from memory, so this is for a busy machine. Below the 3 s that
/// the Dockerfile gives this command, so that it can say what is wrong before it is killed.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Longest answer. A health answer has a few hundred bytes; another program on that port may send more.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Flags of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Flags that choose the server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Prints the server's health in one line. Fails unless the server can accept events.
pub fn run(args: &HealthArgs) -> Result<(), Failure> {
    let url = args.server.url();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(ExitStatus::Software)?;
    let asked = runtime.block_on(async { timeout(ANSWER_TIME_MAX, ask(&url)).await });
    let (status, line) = asked
        .unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER_TIME_MAX:?}")))
        .with_context(|| format!("{url}{HEALTH}"))
        .or_exit(ExitStatus::Unavailable)?;
    if status != StatusCode::OK {
        return Err(Failure::new(ExitStatus::Unavailable, anyhow!("{url}{HEALTH}: {line}")));
    }
    say(line)
}

async fn ask(url: &str) -> anyhow::Result<(StatusCode, String)> {
    let uri: Uri = format!("{url}{HEALTH}").parse().context("not a URL")?;
    if uri.scheme_str() != Some("http") {
        bail!("the URL must start with http://");
    }
    let (status, body) = request::get(&uri, ANSWER_BYTES_MAX).await?;
    Ok((status, summary(status, &body)))
}

/// `ok`, or `degraded: the reason`, and how far the flush is behind; the HTTP status if another program answered.
fn summary(status: StatusCode, body: &[u8]) -> String {
    let health: Health = serde_json::from_slice(body).unwrap_or_default();
    if health.status.is_empty() {
        return format!("answered {status}");
    }
    let mut line = health.status.into_owned();
    if let Some(reason) = health.reason {
        line.push_str(&format!(": {reason}"));
    }
    let flush = health.flush;
    if flush.lag_events > 0 {
        let waiting = counted(flush.lag_events, "event");
        line.push_str(&format!("; {waiting} not in the database yet"));
    }
    if let Some(seconds) = flush.lag_seconds.filter(|seconds| *seconds >= 1.0) {
        line.push_str(&format!(", the flush is {seconds:.0} s behind"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_gives_the_command_more_time_than_it_takes() {
        let dockerfile = include_str!("../../Dockerfile");
        let (_, rest) = dockerfile.split_once("HEALTHCHECK").expect("a check");
        let timeout = rest
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("--timeout="))
            .expect("a limit");
        assert!(humantime::parse_duration(timeout).unwrap() > ANSWER_TIME_MAX);
    }

    #[test]
    fn the_line_says_what_the_server_said() {
        assert_eq!(summary(StatusCode::OK, br#"{"status":"ok"}"#), "ok");
        let behind = br#"{"status":"ok","flush":{"lag_events":320000,"lag_seconds":12.3}}"#;
        assert_eq!(
            summary(StatusCode::OK, behind),
            "ok; 320,000 events not in the database yet, the flush is 12 s behind"
        );
        let at_start = br#"{"status":"degraded","reason":"no database","flush":{"lag_events":1}}"#;
        assert_eq!(
            summary(StatusCode::OK, at_start),
            "degraded: no database; 1 event not in the database yet"
        );
        assert_eq!(
            summary(
                StatusCode::SERVICE_UNAVAILABLE,
                br#"{"status":"unavailable","reason":"full"}"#
            ),
            "unavailable: full"
        );
        assert_eq!(summary(StatusCode::NOT_FOUND, b"<html>"), "answered 404 Not Found");
    }
}
