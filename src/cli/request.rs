//! Asking a server over HTTP: its URL, from flags and variables, and one GET request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::http::settings::{DEFAULT_PORT, host, port};

/// Value of `User-Agent`.
pub(super) const AGENT: &str = concat!("fast-ingest/", env!("CARGO_PKG_VERSION"));

/// Which server to ask.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Server to ask; a path in the URL is put before the route. By default the server on this machine, at --host and
    /// --port. Only http:// so far
    #[arg(long, env = "FAST_INGEST_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Address that the server on this machine listens on, as it was given to `serve`; 0.0.0.0 and :: mean loopback
    #[arg(long, env = "FAST_INGEST_HOST", default_value = "127.0.0.1", value_parser = host)]
    pub host: IpAddr,
    /// Port of the server on this machine
    #[arg(long, env = "PORT", default_value_t = DEFAULT_PORT, value_parser = port)]
    pub port: u16,
}

impl ServerArgs {
    /// The URL of the server, without a slash at the end.
    pub(super) fn url(&self) -> String {
        let url = self.url.as_deref().unwrap_or_default().trim();
        if !url.is_empty() {
            return url.trim_end_matches('/').to_owned();
        }
        let host = match self.host {
            IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            host => host,
        };
        format!("http://{}", SocketAddr::new(host, self.port))
    }
}

/// The URI of a route of the server at `url`; `route` begins with a slash and may have a query string.
///
/// # Errors
///
/// A text for the user if the URL cannot be used.
pub(super) fn uri(url: &str, route: &str) -> anyhow::Result<Uri> {
    let example = "write for example http://127.0.0.1:8080";
    let uri: Uri = url
        .parse()
        .map_err(|_| anyhow!("--url {url}: is not a URL; {example}"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            bail!("--url {url}: https is not supported yet; use http, through a tunnel if need be")
        }
        _ => bail!("--url {url}: must begin with http://; {example}"),
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        bail!("--url {url}: names no host; {example}");
    };
    if uri.query().is_some() || authority.as_str().contains('@') {
        bail!("--url {url}: must be without user, password and query; {example}");
    }
    let path = uri.path().trim_end_matches('/');
    Ok(format!("http://{authority}{path}{route}").parse()?)
}

/// Sends one GET on a new connection. An answer longer than `bytes_max` is an error.
pub(super) async fn get(uri: &Uri, bytes_max: usize) -> anyhow::Result<(StatusCode, Bytes)> {
    let authority = uri.authority().context("the URL has no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
        .await
        .context("cannot connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), bytes_max)
            .collect()
            .await
            .map_err(anyhow::Error::from_boxed)?;
        anyhow::Ok((status, body.to_bytes()))
    };
    // The connection's future only moves bytes; if it fails, the exchange reports the error.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(args: &[&str]) -> String {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            server: ServerArgs,
        }
        // Every flag is given, so that the environment of the tests does not matter.
        let given = ["--url=", "--host=", "--port="]
            .into_iter()
            .filter(|flag| !args.iter().any(|arg| arg.starts_with(flag)));
        let line = ["command"].into_iter().chain(given).chain(args.iter().copied());
        <Command as clap::Parser>::try_parse_from(line).unwrap().server.url()
    }

    #[test]
    fn the_server_is_asked_where_it_listens_and_empty_values_count_as_none() {
        assert_eq!(url(&[]), "http://127.0.0.1:8080");
        assert_eq!(url(&["--port=81"]), "http://127.0.0.1:81");
        assert_eq!(url(&["--host=10.1.2.3"]), "http://10.1.2.3:8080");
        assert_eq!(url(&["--host=fd00::1"]), "http://[fd00::1]:8080");
        assert_eq!(url(&["--host=[fd00::1]"]), "http://[fd00::1]:8080");
        assert_eq!(url(&["--host=localhost"]), "http://127.0.0.1:8080");
        assert_eq!(url(&["--host=0.0.0.0"]), "http://127.0.0.1:8080");
        assert_eq!(url(&["--host=::"]), "http://[::1]:8080");
        assert_eq!(url(&["--url=http://a:1/", "--port=2"]), "http://a:1");
    }
}
