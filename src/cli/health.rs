//! `fast-ingest health`: one request to a running server, one line, one exit status. Made for container health checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use hyper::{StatusCode, Uri};
use tokio::time::timeout;

use super::args::{DEFAULT_PORT, port};
use super::request;
use crate::exit::{ExitStatus, Failure, OrExit, say};

/// A healthy server answers from memory: this is time for a busy machine. Below the 3 s that the Dockerfile gives this command, so that
/// it says what is wrong before it is killed.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// A health answer has a few hundred bytes; whatever else listens on that port may send more.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Flags of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Server to ask; by default the one on this machine, at --host and --port
    #[arg(long, env = "FAST_INGEST_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Address that the server on this machine listens on, as it was given to `serve`; for 0.0.0.0 and :: it asks on loopback
    #[arg(long, env = "FAST_INGEST_HOST", default_value = "127.0.0.1", value_parser = host)]
    pub host: IpAddr,
    /// Port of the server on this machine
    #[arg(long, env = "PORT", default_value_t = DEFAULT_PORT, value_parser = port)]
    pub port: u16,
}

impl HealthArgs {
    fn url(&self) -> String {
        match self.url.as_deref() {
            Some(url) if !url.is_empty() => url.trim_end_matches('/').to_owned(),
            _ => format!("http://{}", SocketAddr::new(self.host, self.port)),
        }
    }
}

/// An address that can be asked. An empty one counts as not given: that is what an unset variable in a compose file looks like.
fn host(text: &str) -> Result<IpAddr, String> {
    if text.is_empty() {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let host: IpAddr = text
        .parse()
        .map_err(|error: std::net::AddrParseError| error.to_string())?;
    Ok(match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    })
}

/// Prints the server's health in one line. Fails unless the server can accept events.
pub fn run(args: &HealthArgs) -> Result<(), Failure> {
    let url = args.url();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(ExitStatus::Software)?;
    let asked = runtime.block_on(async { timeout(ANSWER_TIME_MAX, ask(&url)).await });
    let (status, line) = asked
        .unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER_TIME_MAX:?}")))
        .with_context(|| format!("{url}/health"))
        .or_exit(ExitStatus::Unavailable)?;
    if status != StatusCode::OK {
        return Err(Failure::new(
            ExitStatus::Unavailable,
            anyhow!("{url}/health: {line}"),
        ));
    }
    say(line)
}

async fn ask(url: &str) -> anyhow::Result<(StatusCode, String)> {
    let uri: Uri = format!("{url}/health").parse().context("not a URL")?;
    if uri.scheme_str() != Some("http") {
        bail!("the URL must start with http://");
    }
    let (status, body) = request::get(&uri, ANSWER_BYTES_MAX).await?;
    Ok((status, summary(status, &body)))
}

/// `ok`, or `degraded: the reason`; for an answer that is not ours, its status.
fn summary(status: StatusCode, body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match (json["status"].as_str(), json["reason"].as_str()) {
        (Some(word), Some(reason)) => format!("{word}: {reason}"),
        (Some(word), None) => word.to_owned(),
        (None, _) => format!("answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(args: &[&str]) -> String {
        #[derive(clap::Parser)]
        struct Health {
            #[command(flatten)]
            args: HealthArgs,
        }
        // Flags only, whatever the environment of the tests holds.
        let given = ["--url=", "--host=", "--port="]
            .into_iter()
            .filter(|flag| !args.iter().any(|arg| arg.starts_with(flag)));
        let line = ["health"]
            .into_iter()
            .chain(given)
            .chain(args.iter().copied());
        <Health as clap::Parser>::try_parse_from(line)
            .unwrap()
            .args
            .url()
    }

    #[test]
    fn the_server_is_asked_where_it_listens_and_empty_values_count_as_none() {
        assert_eq!(url(&[]), "http://127.0.0.1:8080");
        assert_eq!(url(&["--port=81"]), "http://127.0.0.1:81");
        assert_eq!(url(&["--host=10.1.2.3"]), "http://10.1.2.3:8080");
        assert_eq!(url(&["--host=fd00::1"]), "http://[fd00::1]:8080");
        assert_eq!(url(&["--host=0.0.0.0"]), "http://127.0.0.1:8080");
        assert_eq!(url(&["--host=::"]), "http://[::1]:8080");
        assert_eq!(url(&["--url=http://a:1/", "--port=2"]), "http://a:1");
    }

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
        assert_eq!(
            summary(
                StatusCode::SERVICE_UNAVAILABLE,
                br#"{"status":"unavailable","reason":"full"}"#
            ),
            "unavailable: full"
        );
        assert_eq!(
            summary(StatusCode::NOT_FOUND, b"<html>"),
            "answered 404 Not Found"
        );
    }
}
