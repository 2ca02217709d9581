//! What tokio-postgres does not handle in a database URL: parameters that it does not know, a password from another
//! source, and parts that may be a piece of a password.

pub(super) mod refusal;

use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_postgres::config::SslMode;

use super::tls::Verification;
use crate::support::settings::ConfigError;

/// Values of `sslmode`, as shown to people.
const SSL_MODES: &str = "disable, prefer, require, verify-ca or verify-full";

/// The parameters of a URL that are about TLS.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SslParameters {
    /// Whether the connection is encrypted.
    pub(super) mode: SslMode,
    /// How much of the server's certificate is checked.
    pub(super) verification: Verification,
    /// File of root certificates; without it, the system's.
    pub(super) roots: Option<PathBuf>,
}

/// Takes `sslmode` and `sslrootcert` off a URL: tokio-postgres refuses `verify-ca`, `verify-full` and root
/// certificates.
///
/// # Errors
///
/// When a value is not known to libpq, or is not UTF-8.
pub(super) fn take_ssl_parameters(url: &str) -> Result<(String, SslParameters), ConfigError> {
    let (base, _) = split(url);
    let mut mode = None;
    let mut roots = None;
    let mut kept = Vec::new();
    for (name, value) in parameters(url) {
        match percent_decode_str(name).decode_utf8_lossy().as_ref() {
            "sslmode" => mode = Some(decode(value)?),
            "sslrootcert" => roots = Some(decode(value)?),
            _ => kept.push(format!("{name}={value}")),
        }
    }
    // libpq's word for the system's own certificates.
    let roots = roots.filter(|roots| roots != "system").map(PathBuf::from);
    let (mode, verification) = match mode.as_deref() {
        Some("disable") => (SslMode::Disable, Verification::Nothing),
        None | Some("allow" | "prefer") => (SslMode::Prefer, Verification::Nothing),
        // As in libpq, naming a root certificate turns `require` into `verify-ca`.
        Some("require") if roots.is_none() => (SslMode::Require, Verification::Nothing),
        Some("require" | "verify-ca") => (SslMode::Require, Verification::Authority),
        Some("verify-full") => (SslMode::Require, Verification::AuthorityAndName),
        Some(other) => {
            let found = refusal::quoted(url, other).map_or(String::new(), |mode| format!(", not {mode}"));
            return Err(ConfigError(format!("sslmode must be {SSL_MODES}{found}")));
        }
    };
    let url = if kept.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", kept.join("&"))
    };
    Ok((
        url,
        SslParameters {
            mode,
            verification,
            roots,
        },
    ))
}

/// The URL with this password, if it has none of its own. As in libpq, an empty password counts as none.
pub(crate) fn with_password(url: &str, password: &str) -> String {
    let (base, query) = split(url);
    // A `:` before the first `@` separates user and password; it is not that of a port.
    let authority = base.split_once("://").map_or(base, |(_, rest)| rest);
    let credentials = authority.split_once('@').map_or("", |(before, _)| before);
    let has_one = credentials.contains(':')
        || parameters(url).any(|(name, _)| percent_decode_str(name).decode_utf8_lossy() == "password");
    if has_one || password.is_empty() {
        return url.to_owned();
    }
    let joint = match query {
        "" => "?",
        _ => "&",
    };
    let base = url.trim_end_matches(['?', '&']);
    let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
    format!("{base}{joint}password={password}")
}

/// Refuses a URL of which an error could show a piece of the password.
///
/// Credentials end at the first `@`. If there is another one, the text between the two was most likely meant as
/// password, and would be taken for the host, which every error about a connection names.
///
/// # Errors
///
/// [`ConfigError`] says how to write the URL.
pub(super) fn check_credentials(url: &str) -> Result<(), ConfigError> {
    if url.matches('@').count() > 1 {
        return Err(ConfigError(
            "the database URL has more than one `@`: write %40 for each but the one before the host, or leave the password out of the \
             URL and set PGPASSWORD"
                .to_owned(),
        ));
    }
    if has_bad_escape(url) {
        return Err(ConfigError(
            "the database URL has a `%` that two hexadecimal digits do not follow: write %25 for a percent sign"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Whether a `%` begins no escape (RFC 3986, section 2.1). libpq refuses it; tokio-postgres takes it literally, and
/// the login fails.
fn has_bad_escape(url: &str) -> bool {
    let mut parts = url.split('%').skip(1);
    parts.any(|part| {
        !part
            .as_bytes()
            .get(..2)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// A URL before its question mark, and after it.
fn split(url: &str) -> (&str, &str) {
    // A password may hold a question mark; credentials end at the first `@`.
    let host = url.find('@').map_or(0, |at| at + 1);
    match url[host..].find('?') {
        Some(mark) => (&url[..host + mark], &url[host + mark + 1..]),
        None => (url, ""),
    }
}

/// The names and values after the question mark, still percent-encoded.
fn parameters(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let (_, query) = split(url);
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

/// Undoes percent-encoding and no more: to libpq, unlike to a form, a `+` is a `+`.
fn decode(value: &str) -> Result<String, ConfigError> {
    match percent_decode_str(value).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(ConfigError(
            "sslmode and sslrootcert must be UTF-8, percent-encoded".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_from_elsewhere_goes_where_there_is_none() {
        for (url, password, expected) in [
            ("postgres://h/d", "", "postgres://h/d"),
            ("postgres://u@h/d", "a", "postgres://u@h/d?password=a"),
            ("postgres://u@h:1/d?", "a", "postgres://u@h:1/d?password=a"),
            (
                "postgres://u@[::1]:5/d?sslmode=disable",
                "@%:/?&=#+ ü",
                "postgres://u@[::1]:5/d?sslmode=disable&password=%40%25%3A%2F%3F%26%3D%23%2B%20%C3%BC",
            ),
            ("postgres://u:own@h/d", "a", "postgres://u:own@h/d"),
            ("postgres://u@h/d?password=own", "a", "postgres://u@h/d?password=own"),
        ] {
            assert_eq!(with_password(url, password), expected);
        }
        let url = with_password("postgres://u@h:1/d?connect_timeout=1", "p@ss%4:/w?rd&");
        let config: tokio_postgres::Config = url.parse().unwrap();
        assert_eq!(config.get_password(), Some("p@ss%4:/w?rd&".as_bytes()));
        assert_eq!(config.get_dbname(), Some("d"));
    }

    #[test]
    fn a_percent_sign_that_begins_no_escape_is_refused() {
        for url in [
            "postgres://u:100%@h/d",
            "postgres://u:%zz@h/d",
            "postgres://u@h/d?application_name=a%4",
            "p%ü",
        ] {
            let error = check_credentials(url).unwrap_err();
            assert!(error.0.contains("%25"), "{url}: {error}");
            assert!(!error.0.contains("100"), "{error}");
        }
        check_credentials("postgres://u:100%25%4a@h/d%C3%BC").unwrap();
    }

    #[test]
    fn ssl_parameters_leave_the_url_and_mean_what_libpq_means() {
        let table = [
            (
                "postgres://h/d",
                "postgres://h/d",
                SslMode::Prefer,
                Verification::Nothing,
                None,
            ),
            (
                "postgres://h/d?sslmode=disable",
                "postgres://h/d",
                SslMode::Disable,
                Verification::Nothing,
                None,
            ),
            (
                "postgres://h/d?sslmode=require",
                "postgres://h/d",
                SslMode::Require,
                Verification::Nothing,
                None,
            ),
            (
                "postgres://h/d?sslmode=require&sslrootcert=%2Fa%20b+c",
                "postgres://h/d",
                SslMode::Require,
                Verification::Authority,
                Some("/a b+c"),
            ),
            (
                "postgres://h/d?connect_timeout=3&sslmode=verify-full&options=-c%20x%3D1",
                "postgres://h/d?connect_timeout=3&options=-c%20x%3D1",
                SslMode::Require,
                Verification::AuthorityAndName,
                None,
            ),
            (
                "postgres://u:p?sslmode=disable&q@h/d?sslmode=require",
                "postgres://u:p?sslmode=disable&q@h/d",
                SslMode::Require,
                Verification::Nothing,
                None,
            ),
            (
                "postgres://h/d?sslrootcert=system&sslmode=verify-ca",
                "postgres://h/d",
                SslMode::Require,
                Verification::Authority,
                None,
            ),
        ];
        for (url, rest, mode, verification, roots) in table {
            let expected = SslParameters {
                mode,
                verification,
                roots: roots.map(PathBuf::from),
            };
            assert_eq!(take_ssl_parameters(url), Ok((rest.to_owned(), expected)), "{url}");
        }
        for refused in ["sslmode=on", "sslmode=", "sslrootcert=%FF"] {
            let url = format!("postgres://h/d?{refused}");
            assert!(take_ssl_parameters(&url).is_err(), "{url}");
        }
    }
}
