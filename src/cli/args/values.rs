//! From the text of one flag to its value. What cannot be read is answered with what is allowed, in words for whoever typed it:
//! clap puts the value and the flag in front.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::time::Duration;

use bytesize::ByteSize;

use crate::config::SyncMode;

/// Where `serve` listens and `health` asks unless told otherwise.
pub const DEFAULT_PORT: u16 = 8080;

/// Reads a size such as `64MiB`.
///
/// # Errors
///
/// A text for the user.
pub fn bytes(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| {
        "expected a number of bytes, KiB, MiB or GiB, for example 500000, 64MiB or 1.5GiB"
            .to_owned()
    })
}

/// Reads a whole number.
///
/// # Errors
///
/// A text for the user.
pub fn count<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    count_between::<0, { u64::MAX }, N>(text)
}

/// Reads a whole number from `MIN` to `MAX`.
///
/// # Errors
///
/// A text for the user.
pub fn count_between<const MIN: u64, const MAX: u64, N: TryFrom<u64>>(
    text: &str,
) -> Result<N, String> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits {
        return Err("expected a whole number in digits alone, for example 100".to_owned());
    }
    let number: Option<u64> = text.parse().ok();
    if let Some(number) = number
        && (MIN..=MAX).contains(&number)
        && let Ok(number) = N::try_from(number)
    {
        return Ok(number);
    }
    Err(match number {
        Some(number) if number < MIN => format!("must be at least {MIN}, for example {MIN}"),
        _ if MAX < u64::MAX => format!("must be at most {MAX}, for example {MAX}"),
        _ => "larger than any number that makes sense here".to_owned(),
    })
}

/// Reads a time such as `10s`; zero would mean "never" to some readers and "at once" to others, so it is refused.
///
/// # Errors
///
/// A text for the user.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        Ok(_) => Err("must be longer than 0".to_owned()),
        Err(_) => Err("expected a time with its unit, for example 200ms, 10s or 5m".to_owned()),
    }
}

/// Reads a port. An empty `PORT` is what an unset variable in a compose file looks like.
///
/// # Errors
///
/// A text for the user.
pub fn port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    text.parse()
        .map_err(|_| "expected a number from 0 to 65535, for example 8080".to_owned())
}

/// An address, also in brackets as in a URL, or a name for one: of several addresses an IPv4 one, because that is what people type. An
/// empty one counts as not given.
///
/// # Errors
///
/// A text for the user.
pub fn host(text: &str) -> Result<IpAddr, String> {
    if text.is_empty() {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = bracketed.unwrap_or(text).parse() {
        return Ok(address);
    }
    let found = (text, 0)
        .to_socket_addrs()
        .map_err(|error| format!(
            "neither an IP address nor a name that has one ({error}); write for example 127.0.0.1, 0.0.0.0 or localhost"
        ))?;
    let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
        .first()
        .copied()
        .ok_or_else(|| "a name without an address".to_owned())
}

/// A name that requests may call the server by, without scheme and port; `*` for any.
///
/// # Errors
///
/// A text for the user.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let name = text.trim().trim_end_matches('.');
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(name).parse::<Ipv6Addr>() {
        // As a request writes it.
        return Ok(format!("[{address}]"));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name != "*" && (name.is_empty() || !name.bytes().all(is_name)) {
        return Err(
            "expected a name without scheme and port, for example stats.example.org, or *"
                .to_owned(),
        );
    }
    Ok(name.to_owned())
}

/// Reads `--sync`.
///
/// # Errors
///
/// A text for the user.
pub(super) fn sync_mode(text: &str) -> Result<SyncMode, String> {
    if text == "group" {
        return Ok(SyncMode::Group);
    }
    let interval = text.strip_prefix("interval=");
    let interval =
        interval.ok_or("expected `group` or `interval=TIME`, for example `interval=200ms`")?;
    positive_duration(interval).map(SyncMode::Interval)
}
