//! Which names a request's `Host` may have, and which sites its `Origin`.
//!
//! A web page that a developer opens can reach a server on their machine: by a name of its own whose DNS points to
//! loopback (DNS rebinding), which makes the answers readable as well, or with a form or a script from its own site,
//! which the browser names in `Origin`. A page can forge neither `Host` nor `Origin`. So a server on loopback serves
//! only loopback's names and those of `--allowed-hosts`.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::error::ApiError;

/// Stands for every name.
const ANY: &str = "*";

/// Which `Host` and `Origin` headers a server accepts.
#[derive(Debug, Clone)]
pub enum Hosts {
    /// Every request.
    Any,
    /// Loopback's names, and these.
    Only {
        /// Names beside loopback's, without port.
        names: Vec<String>,
        /// Whether a `Host` may be any IP address. Health checks from other machines use the address, and no page can
        /// make an address point elsewhere.
        takes_addresses: bool,
    },
}

impl Hosts {
    /// The rule of a server that listens on `address`. Names in `allowed` restrict it also when that is not loopback.
    pub fn new(address: IpAddr, allowed: &[String]) -> Self {
        let is_open = !address.to_canonical().is_loopback() && allowed.is_empty();
        if is_open || allowed.iter().any(|name| name == ANY) {
            return Self::Any;
        }
        Self::Only {
            names: allowed.to_vec(),
            takes_addresses: !address.to_canonical().is_loopback(),
        }
    }

    /// Checks the request's `Host`, of which there is exactly one (in HTTP/1.0 at most one), and the `Origin` that
    /// browsers send.
    pub(super) fn check(&self, head: &Parts) -> Result<(), ApiError> {
        let Self::Only { names, takes_addresses } = self else {
            return Ok(());
        };
        let is_site = |host: &str| is_loopback(host) || is_among(host, names);
        let is_allowed = |host: &str| is_site(host) || *takes_addresses && address_of(host).is_some();
        // A host in the request target overrides the header (RFC 9112, section 3.2.2); both must be allowed.
        let in_target = head.uri.host().is_none_or(&is_allowed);
        let in_header = head
            .headers
            .get(HOST)
            .is_none_or(|host| name_of(host).is_some_and(|name| is_allowed(&name)));
        if !in_target || !in_header {
            return Err(ApiError::HostNotAllowed);
        }
        let mut origins = head.headers.get_all(ORIGIN).iter();
        if origins.all(|origin| site_of(origin).is_some_and(|name| is_site(&name))) {
            Ok(())
        } else {
            Err(ApiError::OriginNotAllowed)
        }
    }
}

/// The host as an IP address, if it is one; IPv6 may have brackets.
fn address_of(host: &str) -> Option<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok()
}

/// `localhost` and what lies below it (RFC 6761, section 6.3), 127.0.0.0/8 and ::1.
fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
        || address_of(name).is_some_and(|address| address.to_canonical().is_loopback())
}

fn is_among(host: &str, allowed: &[String]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    allowed.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// The host of a `Host` header, without its port.
fn name_of(host: &HeaderValue) -> Option<String> {
    let authority: Authority = host.to_str().ok()?.parse().ok()?;
    Some(authority.host().to_owned())
}

/// The host of an `Origin` (RFC 6454, section 7); `None` for `null`, which sandboxed pages and files send.
fn site_of(origin: &HeaderValue) -> Option<String> {
    let (_, authority) = origin.to_str().ok()?.split_once("://")?;
    name_of(&HeaderValue::from_str(authority).ok()?)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hyper::Request;

    use super::*;

    fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn code(hosts: &Hosts, host: &str, origin: Option<&str>) -> &'static str {
        let headers = [("Host", host), ("Origin", origin.unwrap_or_default())];
        let headers = &headers[..1 + usize::from(origin.is_some())];
        match hosts.check(&head("/metrics", headers)) {
            Ok(()) => "ok",
            Err(ApiError::HostNotAllowed) => "host",
            Err(ApiError::OriginNotAllowed) => "origin",
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn on_loopback_only_its_names_are_served() {
        let hosts = Hosts::new(Ipv4Addr::LOCALHOST.into(), &[]);
        for (host, expected) in [
            ("localhost", "ok"),
            ("LOCALHOST:8080", "ok"),
            ("localhost.:8080", "ok"),
            ("app.localhost:8080", "ok"),
            ("127.0.0.1:8080", "ok"),
            ("127.9.9.9", "ok"),
            ("[::1]:8080", "ok"),
            ("[::ffff:127.0.0.1]", "ok"),
            ("rebind.example:8080", "host"),
            ("localhost.example", "host"),
            ("notlocalhost", "host"),
            ("127.0.0.1.example", "host"),
            ("10.0.0.1", "host"),
            ("user@localhost@evil", "host"),
            ("", "host"),
        ] {
            assert_eq!(code(&hosts, host, None), expected, "{host}");
        }
        let absolute = head("http://rebind.example/metrics", &[("Host", "localhost")]);
        assert!(matches!(hosts.check(&absolute), Err(ApiError::HostNotAllowed)));
        hosts.check(&head("/health", &[])).unwrap();
    }

    #[test]
    fn another_site_s_page_is_refused_and_loopback_s_own_is_not() {
        let hosts = Hosts::new("::1".parse().unwrap(), &["stats.example".to_owned()]);
        for (origin, expected) in [
            ("http://localhost:3000", "ok"),
            ("http://127.0.0.1:8080", "ok"),
            ("https://stats.example", "ok"),
            ("https://evil.example", "origin"),
            ("https://evil.example#localhost", "origin"),
            ("null", "origin"),
            ("localhost", "origin"),
        ] {
            assert_eq!(code(&hosts, "localhost", Some(origin)), expected, "{origin}");
        }
        assert_eq!(code(&hosts, "Stats.Example:443", None), "ok");
    }

    #[test]
    fn elsewhere_names_count_only_if_they_are_told() {
        let anywhere: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        assert_eq!(code(&Hosts::new(anywhere, &[]), "any.example", Some("null")), "ok");
        let told = Hosts::new(anywhere, &["stats.example".to_owned()]);
        assert_eq!(code(&told, "stats.example", None), "ok");
        assert_eq!(code(&told, "any.example", None), "host");
        assert_eq!(code(&told, "10.0.0.5:8080", None), "ok");
        assert_eq!(code(&told, "[fd00::1]:8080", None), "ok");
        let from_an_address = Some("http://10.0.0.5");
        assert_eq!(code(&told, "stats.example", from_an_address), "origin");
        let any = Hosts::new(Ipv4Addr::LOCALHOST.into(), &["*".to_owned()]);
        assert_eq!(code(&any, "any.example", Some("https://evil.example")), "ok");
    }
}
