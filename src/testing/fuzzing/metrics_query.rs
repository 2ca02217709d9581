//! Query strings of `GET /metrics`: whatever is accepted keeps the invariants of a query, does not depend on the order
//! of the parameters, and reads the same when it is written out again.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::metrics::PARAMETERS;
use crate::api::receipt::Receipt;
use crate::event::{NAME_BYTES_MAX, Timestamp};
use crate::http::query::parameters::{ERRORS_LISTED_MAX, parse};
use crate::query::{GROUPS_MAX, MetricsQuery, Order};

/// # Panics
///
/// When an accepted query breaks a promise, or a refusal gives no reason.
pub fn metrics_query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let outcome = parse(text);
    assert_eq!(parse(text), outcome, "a second parse");
    match outcome {
        Ok((query, after)) => {
            check(&query);
            let written = write(&query, after);
            let read = parse(&written);
            assert_eq!(read, Ok((query.clone(), after)), "{text:?} again as {written:?}");
            let mut pairs: Vec<_> = text.split('&').collect();
            pairs.reverse();
            let read = parse(&pairs.join("&"));
            assert_eq!(read, Ok((query, after)), "{text:?} in reverse order");
        }
        Err(errors) => {
            assert!((1..=ERRORS_LISTED_MAX).contains(&errors.len()));
            for error in errors {
                let is_known = PARAMETERS.contains(&error.field.as_str());
                assert_eq!(is_known, error.code != "unknown_parameter", "{error:?} of {text:?}");
                assert!(!error.message.is_empty(), "{error:?}");
            }
        }
    }
}

/// The invariants that [`MetricsQuery`] states.
fn check(query: &MetricsQuery) {
    assert!(query.from <= query.to, "{query:?}");
    assert!(query.from.as_micros() >= 0, "{query:?}");
    let names = [&query.event_name, &query.channel, &query.campaign_id];
    for name in names.into_iter().flatten() {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "{query:?}");
        assert!(!name.contains('\0'), "{query:?}");
    }
    let group_by = query.group_by;
    let groupings =
        usize::from(group_by.time.is_some()) + usize::from(group_by.event_name) + usize::from(group_by.channel);
    assert!(groupings <= 2, "{query:?}");
    let has_names = group_by.event_name || group_by.channel;
    assert!(!query.fill || group_by.time.is_some(), "{query:?}");
    assert!(has_names || query.order == Order::Name, "{query:?}");
    if let Some(limit) = query.limit {
        assert!(has_names && (1..=GROUPS_MAX).contains(&limit), "{query:?}");
    }
}

/// The query string that a careful client would write.
fn write(query: &MetricsQuery, after: Option<Receipt>) -> String {
    let mut parameters = vec![
        ("event_name", query.event_name.clone().unwrap_or_else(|| "*".to_owned())),
        ("from", instant(query.from)),
        ("to", instant(query.to)),
        ("exact", query.exact.to_string()),
    ];
    let mut push = |name, value: Option<String>| {
        parameters.extend(value.map(|value| (name, value)));
    };
    push("channel", query.channel.clone());
    push("campaign_id", query.campaign_id.clone());
    push("tz", query.zone.iana_name().map(str::to_owned));
    if !query.group_by.is_none() {
        push("group_by", Some(query.group_by.to_string()));
    }
    push("fill", query.fill.then(|| "zero".to_owned()));
    if query.group_by.has_names() {
        let order = match query.order {
            Order::Name => "name",
            Order::TotalEvents => "total_events",
            Order::UniqueUsers => "unique_users",
        };
        push("order", Some(order.to_owned()));
    }
    push("limit", query.limit.map(|limit| limit.to_string()));
    push("after", after.map(|receipt| receipt.to_string()));
    let encoded = parameters.iter().map(|(name, value)| {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        format!("{name}={value}")
    });
    encoded.collect::<Vec<_>>().join("&")
}

/// RFC 3339 up to the year 9999. Later instants can only have come from a number of nanoseconds.
fn instant(timestamp: Timestamp) -> String {
    match timestamp.as_micros() {
        0..253_402_300_800_000_000 => timestamp.to_string(),
        micros => format!("{micros}000"),
    }
}
