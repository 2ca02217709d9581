//! Messages about a wrong database URL, which name the wrong part and the values that it may have.
//!
//! A URL may hold a password, and a password that was not percent-encoded can end up in any part. So nothing is quoted
//! unless it is certain where the password ends: before the only `@`.

use percent_encoding::percent_decode_str;

use super::parameters;

/// The message when nothing may be quoted, or no particular part is wrong.
const MALFORMED: &str = "the database URL cannot be read: expected postgres://user:password@host:port/database, special characters in \
                         the password percent-encoded, or without password and PGPASSWORD set";
/// Longest piece of a URL that is quoted.
const QUOTED_MAX: usize = 64;

/// Parameters that a URL may have, and the values that they take.
const PARAMETERS: [(&str, &str); 20] = [
    ("application_name", "a name"),
    ("channel_binding", "disable, prefer or require"),
    ("connect_timeout", "a number of seconds"),
    ("dbname", "a name"),
    ("host", "names of hosts"),
    ("hostaddr", "IP addresses"),
    ("keepalives", "0 or 1"),
    ("keepalives_idle", "a number of seconds"),
    ("keepalives_interval", "a number of seconds"),
    ("keepalives_retries", "a number"),
    ("load_balance_hosts", "disable or random"),
    ("options", "options of the session"),
    ("password", "a password"),
    ("port", "numbers from 1 to 65535"),
    ("sslmode", super::SSL_MODES),
    ("sslnegotiation", "postgres or direct"),
    ("sslrootcert", "a file, or `system`"),
    ("target_session_attrs", "any, read-write or read-only"),
    ("tcp_user_timeout", "a number of seconds"),
    ("user", "a name"),
];

/// Parameters of other programs' URLs, and what to use here in place of them.
const ELSEWHERE: [(&str, &str); 6] = [
    ("schema", "to name a schema, write options=-c%20search_path%3DNAME"),
    ("search_path", "to name a schema, write options=-c%20search_path%3DNAME"),
    (
        "currentSchema",
        "to name a schema, write options=-c%20search_path%3DNAME",
    ),
    (
        "connection_limit",
        "leave it out; --query-connections sets how many connections queries may use",
    ),
    ("pgbouncer", "leave it out; PgBouncer has to be in session mode"),
    ("gssencmode", "leave it out; there is no GSS encryption here"),
];

/// Explains what is wrong with a URL that could not be parsed.
pub(in crate::store::postgres) fn explain(url: &str) -> String {
    if !may_be_quoted(url) {
        return MALFORMED.to_owned();
    }
    bad_port(url)
        .or_else(|| bad_parameter(url))
        .unwrap_or_else(|| MALFORMED.to_owned())
}

/// Quotes the value of a parameter, if it cannot be part of a password.
pub(super) fn quoted(url: &str, value: &str) -> Option<String> {
    (may_be_quoted(url) && is_plain(value)).then(|| format!("`{value}`"))
}

/// Whether the text after the credentials cannot be part of a password.
fn may_be_quoted(url: &str) -> bool {
    match url.matches('@').count() {
        // What looks like a port may be the password of somebody who forgot the host.
        0 => ports(url).all(is_port),
        1 => true,
        _ => false,
    }
}

fn is_plain(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ',');
    text.len() <= QUOTED_MAX && text.chars().all(is_plain)
}

fn bad_port(url: &str) -> Option<String> {
    let port = ports(url).find(|port| !is_port(port))?;
    let port = quoted(url, port)?;
    Some(format!(
        "the port in the database URL is {port}: expected a number from 1 to 65535"
    ))
}

fn bad_parameter(url: &str) -> Option<String> {
    let password = password(url);
    for (name, value) in parameters(url) {
        let name = percent_decode_str(name).decode_utf8_lossy();
        let is_told = !name.is_empty() && is_plain(&name) && !password.contains(name.as_ref());
        let Some((_, expected)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
            return is_told.then(|| unknown(&name));
        };
        let alone = format!("postgres://host/?{name}={value}");
        if alone.parse::<tokio_postgres::Config>().is_err() {
            let value = quoted(url, value).filter(|_| name != "password");
            let value = value.unwrap_or_else(|| "something else".to_owned());
            return Some(format!(
                "the parameter `{name}` of the database URL is {value}: expected {expected}"
            ));
        }
    }
    None
}

fn unknown(name: &str) -> String {
    let instead = ELSEWHERE.iter().find(|(known, _)| *known == name);
    let instead = instead.map_or("leave it out", |(_, instead)| instead);
    let known: Vec<&str> = PARAMETERS.iter().map(|(name, _)| *name).collect();
    format!(
        "the database URL has the parameter `{name}`, which is not known here: {instead}. Known are {}",
        known.join(", ")
    )
}

fn password(url: &str) -> &str {
    let credentials = url.split_once('@').map_or("", |(before, _)| before);
    let (_, credentials) = credentials.split_once("://").unwrap_or(("", credentials));
    credentials.split_once(':').map_or("", |(_, password)| password)
}

/// The ports after the names of hosts.
fn ports(url: &str) -> impl Iterator<Item = &str> {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let hosts = rest.split(['/', '?']).next().unwrap_or_default();
    hosts.split(',').filter_map(|host| {
        let behind = host.rfind(']').map_or(0, |end| end + 1);
        host[behind..].split_once(':').map(|(_, port)| port)
    })
}

fn is_port(port: &str) -> bool {
    port.is_empty() || port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        let table = [
            (
                "postgres://u:p@h/d?pgbouncer=true",
                &["`pgbouncer`", "session mode", "Known are"][..],
            ),
            ("postgres://u:p@h/d?schema=public", &["`schema`", "search_path%3DNAME"]),
            (
                "postgres://u:p@h/d?connect_timeout=3&search_path=x",
                &["`search_path`", "search_path%3DNAME"],
            ),
            ("postgres://h/d?gssencmode=disable", &["`gssencmode`", "leave it out"]),
            (
                "postgres://h:5433/d?connection_limit=5",
                &["`connection_limit`", "--query-connections"],
            ),
            ("postgres://u:p@h/d?other=5", &["`other`", "sslrootcert"]),
            ("postgres://u:p@h:54x2/d", &["`54x2`", "1 to 65535"]),
            ("postgres://u:p@h:70000/d", &["`70000`", "1 to 65535"]),
            ("postgres://u:p@h:1,[::1]:0x2/d", &["`0x2`", "1 to 65535"]),
            (
                "postgres://u:p@h/d?connect_timeout=soon",
                &["`connect_timeout`", "`soon`", "seconds"],
            ),
            (
                "postgres://u:p@h/d?target_session_attrs=primary",
                &["`primary`", "read-write"],
            ),
        ];
        for (url, words) in table {
            url.parse::<tokio_postgres::Config>().unwrap_err();
            let text = explain(url);
            for word in words {
                assert!(text.contains(word), "{url}: no {word} in {text}");
            }
        }
    }

    #[test]
    fn no_part_of_a_password_is_quoted() {
        for url in [
            "postgres://user:pa@ss?secret=1@host/db",
            "postgres://user:pa@ss:secret@host/db",
            "postgres://user:secret",
            "postgres://user:secret?secret=1",
            "postgres://user:secret@host/db?secret=1",
            "postgres://user@host/db?port=x&password=%FF",
        ] {
            url.parse::<tokio_postgres::Config>().unwrap_err();
            assert!(!explain(url).contains("secret"), "{url}: {}", explain(url));
        }
    }
}
