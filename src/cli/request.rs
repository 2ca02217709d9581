//! Asking a server over HTTP: where it is, and one request with one answer.

use std::convert::Infallible;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where a server listens unless told otherwise.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// Who asks.
pub(super) const AGENT: &str = concat!("fast-ingest/", env!("CARGO_PKG_VERSION"));

/// A URL as it was typed. An empty one is what an unset variable in a compose file looks like.
pub(super) fn url_or_default(text: &str) -> Result<String, Infallible> {
    let url = text.trim();
    Ok(if url.is_empty() { DEFAULT_URL } else { url }.to_owned())
}

/// A route of the server at `url`; `route` begins with a slash and may have a query string.
///
/// # Errors
///
/// A text for the user if this is no URL that can be used.
pub(super) fn uri(url: &str, route: &str) -> anyhow::Result<Uri> {
    let example = "write for example http://127.0.0.1:8080";
    let uri: Uri = url
        .parse()
        .map_err(|error| anyhow!("--url {url}: {error}; {example}"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            bail!("--url {url}: https is not supported yet; use http, through a tunnel if need be")
        }
        _ => bail!("--url {url}: must begin with http://; {example}"),
    }
    let Some(authority) = uri
        .authority()
        .filter(|authority| !authority.host().is_empty())
    else {
        bail!("--url {url}: names no host; {example}");
    };
    if uri.query().is_some() || authority.as_str().contains('@') {
        bail!("--url {url}: must be without user, password and query; {example}");
    }
    let path = uri.path().trim_end_matches('/');
    Ok(format!("http://{authority}{path}{route}").parse()?)
}

/// One GET on a connection of its own. An answer longer than `bytes_max` is an error.
pub(super) async fn get(uri: &Uri, bytes_max: usize) -> anyhow::Result<(StatusCode, Bytes)> {
    let authority = uri.authority().context("the URL has no host")?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
        .await
        .context("cannot connect")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
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
    // The connection's own future only moves bytes; when it ends first, the exchange reports what is wrong.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}
