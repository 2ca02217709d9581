//! What the benches share: bodies of distinct events, loads and servers, and the table of results.

pub(crate) mod batches;
pub(crate) mod borrowed;
pub(crate) mod client;
pub(crate) mod database;
pub(crate) mod disk;
pub(crate) mod paired;
pub(crate) mod process;
pub(crate) mod raw_copy;
pub(crate) mod requests;
pub(crate) mod series;
pub(crate) mod servers;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod traffic;

use std::fmt::Write as _;

use fast_ingest::event::Timestamp;

/// The current time for benches: fixed, so that runs are comparable.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000)
}

/// A bulk body of `events` distinct events, as a product's backend would send them.
pub(crate) fn bulk_body(events: usize, with_metadata: bool) -> String {
    let mut body = String::from("[");
    for index in 0..events {
        let separator = if index == 0 { "" } else { "," };
        let metadata = if with_metadata {
            format!(
                r#","metadata":{{"page":"/pricing/{index}","referrer":"https://example.com/?q=event","ms":{index},"ok":true}}"#
            )
        } else {
            String::new()
        };
        write!(
            body,
            r#"{separator}{{"event_name":"page_view","channel":"web","user_id":"user-{:06}","timestamp":{}{metadata}}}"#,
            index * 7919 % 1_000_000,
            1_769_938_200_000_u64 + index as u64,
        )
        .expect("a String takes everything");
    }
    body.push(']');
    body
}

/// The value below which this share of the sorted values lies.
pub(crate) fn quantile<T: Copy>(sorted: &[T], share: f64) -> T {
    let index = (sorted.len() as f64 * share).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

/// The middle one of the values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// Comma-separated numbers from an environment variable, for runs of another size; without it those of a full run.
pub(crate) fn sizes(variable: &str, full: &[f64]) -> Vec<f64> {
    let Ok(text) = std::env::var(variable) else {
        return full.to_vec();
    };
    let numbers = text.split(',').map(|number| number.trim().parse());
    numbers
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
}
