//! Settings of the HTTP server: address, limits and timeouts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use clap::Args;

use crate::support::settings::{bytes, count, positive_duration};

/// Default port, both of `serve` and of the commands that ask a server.
pub const DEFAULT_PORT: u16 = 8080;

/// Address, limits and timeouts of the HTTP server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// Address to listen on, or a name for it. Loopback by default, because there is no authentication yet
    #[arg(
        long,
        env = "FAST_INGEST_HOST",
        default_value = "127.0.0.1",
        value_parser = host
    )]
    pub host: IpAddr,
    /// Port to listen on; 0 picks a free one and logs it
    #[arg(long, env = "PORT", value_parser = port, default_value_t = DEFAULT_PORT)]
    pub port: u16,
    /// Names beside loopback's that a request's Host and a browser's Origin may have, separated by commas, or * for
    /// any. By default, a server on loopback serves only loopback's names, so that no web page can reach it by a name
    /// of its own
    #[arg(
        long,
        env = "FAST_INGEST_ALLOWED_HOSTS",
        value_delimiter = ',',
        value_name = "NAME",
        value_parser = host_name
    )]
    pub allowed_hosts: Vec<String>,
    /// Greatest age of an event; older ones are refused. Most of those come from clocks that were never set, and each
    /// month of events is a table
    #[arg(long, env = "FAST_INGEST_EVENT_AGE_MAX", default_value = "20years", value_name = "TIME", value_parser = positive_duration)]
    pub event_age_max: Duration,
    /// Connections served at once; more are answered 503 and closed, a flood beyond that only closed. An idle one costs
    /// about 15 KiB
    #[arg(
        long,
        env = "FAST_INGEST_CONNECTIONS_MAX",
        default_value_t = 1024,
        value_name = "N", value_parser = count::<usize>
    )]
    pub connections_max: usize,
    /// Events in one bulk request; what a client can reasonably repeat after a failure
    #[arg(
        long,
        env = "FAST_INGEST_BULK_EVENTS_MAX",
        default_value_t = 1000,
        value_name = "N", value_parser = count::<usize>
    )]
    pub bulk_events_max: usize,
    /// Body of POST /events; the largest legal event fits, escapes included
    #[arg(
        long,
        env = "FAST_INGEST_EVENT_BYTES_MAX",
        default_value = "256KiB",
        value_name = "BYTES", value_parser = bytes::<usize>
    )]
    pub event_bytes_max: usize,
    /// Body of POST /events/bulk; a thousand events of 4 KiB
    #[arg(
        long,
        env = "FAST_INGEST_BODY_BYTES_MAX",
        default_value = "4MiB",
        value_name = "BYTES", value_parser = bytes::<usize>
    )]
    pub body_bytes_max: usize,
    /// Bodies and log records in memory at once, all connections together; further requests get 429. Keeps the process
    /// under 64 MiB
    #[arg(
        long,
        env = "FAST_INGEST_INFLIGHT_BYTES_MAX",
        default_value = "24MiB",
        value_name = "BYTES", value_parser = bytes::<usize>
    )]
    pub inflight_bytes_max: usize,
    /// Time from a request's first byte to the end of its headers; enough for slow networks
    #[arg(long, env = "FAST_INGEST_HEADER_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = positive_duration)]
    pub header_timeout: Duration,
    /// Time for a whole body, then 408; also 408 after a third of that time without a byte. 4 MiB at 1.1 Mbit/s
    #[arg(long, env = "FAST_INGEST_BODY_TIMEOUT", default_value = "30s", value_name = "TIME", value_parser = positive_duration)]
    pub body_timeout: Duration,
    /// Time between requests on a kept connection; longer than the 60 s of common load balancers, so that they close
    /// first
    #[arg(long, env = "FAST_INGEST_IDLE_TIMEOUT", default_value = "75s", value_name = "TIME", value_parser = positive_duration)]
    pub idle_timeout: Duration,
    /// Time for a client to read 64 KiB of an answer, or what is left of it; most answers are smaller
    #[arg(long, env = "FAST_INGEST_WRITE_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = positive_duration)]
    pub write_timeout: Duration,
}

impl HttpSettings {
    /// The address and port to listen on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }
}

/// Parses a port. An empty text means the default: an unset variable in a compose file arrives like this.
///
/// # Errors
///
/// What was expected, for the user.
pub fn port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    text.parse()
        .map_err(|_| "expected a number from 0 to 65535, for example 8080".to_owned())
}

/// Parses an address, also in brackets as in a URL, or resolves a name: of several addresses an IPv4 one, because that
/// is what people type. An empty text means 127.0.0.1.
///
/// # Errors
///
/// What was expected, for the user.
pub fn host(text: &str) -> Result<IpAddr, String> {
    if text.is_empty() {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = bracketed.unwrap_or(text).parse() {
        return Ok(address);
    }
    let found = (text, 0).to_socket_addrs().map_err(|error| {
        format!("expected an IP address or a name that has one ({error}), for example 127.0.0.1, 0.0.0.0 or localhost")
    })?;
    let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
        .first()
        .copied()
        .ok_or_else(|| "this name has no address; use another name, or an IP address".to_owned())
}

/// Parses a name that the `Host` of requests may have, without scheme and port; `*` for any.
///
/// # Errors
///
/// What was expected, for the user.
pub fn host_name(text: &str) -> Result<String, String> {
    let name = text.trim().trim_end_matches('.');
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(name).parse::<Ipv6Addr>() {
        // The form that a request has in `Host`.
        return Ok(format!("[{address}]"));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name != "*" && (name.is_empty() || !name.bytes().all(is_name)) {
        return Err("expected a name without scheme and port, for example stats.example.org, or *".to_owned());
    }
    Ok(name.to_owned())
}
