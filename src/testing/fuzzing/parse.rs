//! Event bodies, against a plain reader of the wire contract: both accept the same bodies, with the same values, and
//! what is accepted survives the codec.

mod model;

use self::model::Model;
use crate::event::parse::{EVENTS_LISTED_MAX, PROBLEMS_LISTED_MAX, ParseError, parse_bulk, parse_event};
use crate::event::{EventRef, Timestamp, codec};

/// 2026-02-01T09:30:00Z
const NOW: Timestamp = Timestamp::from_micros(1_769_938_200_000_000);
/// Small, so that inputs can exceed it.
const EVENTS_MAX: usize = 4;

/// Tries the bytes as the body of either route.
///
/// # Panics
///
/// When the parser and the model disagree.
pub fn parse(data: &[u8]) {
    let body = std::str::from_utf8(data).ok();
    let body = body.map(|body| body.strip_prefix('\u{feff}').unwrap_or(body));

    let mut single = Vec::new();
    let outcome = parse_event(data, NOW, &mut single).map(|()| 1);
    let expected = body.and_then(|body| Model::of_event(body, NOW));
    check(data, outcome, &single, expected.map(|model| vec![model]));

    let mut bulk = Vec::new();
    let outcome = parse_bulk(data, EVENTS_MAX, NOW, &mut bulk);
    let expected = body.and_then(|body| Model::of_bulk(body, EVENTS_MAX, NOW));
    check(data, outcome, &bulk, expected);
}

fn check(body: &[u8], outcome: Result<u32, ParseError>, encoded: &[u8], expected: Option<Vec<Model>>) {
    let count = match outcome {
        Ok(count) => count,
        Err(error) => {
            assert!(expected.is_none(), "refused, but should not be: {error:?}");
            return check_error(&error);
        }
    };
    let expected = expected.expect("accepted, but should not be");
    assert_eq!(count as usize, expected.len());
    assert!(
        encoded.len() <= body.len(),
        "an encoded event is never longer than its JSON"
    );
    let mut rest = encoded;
    for model in &expected {
        let (event, behind) = codec::decode(rest).expect("what was accepted decodes");
        assert_eq!(Model::of(&event), *model);
        let mut again = Vec::new();
        codec::encode(&event, &mut again);
        assert_eq!(again, rest[..rest.len() - behind.len()]);
        rest = behind;
    }
    assert!(rest.is_empty(), "bytes after the last event");
}

/// Checks that an error helps the client: bounded, in order, and with messages.
fn check_error(error: &ParseError) {
    assert!(!error.to_string().is_empty());
    let ParseError::Invalid { errors, invalid_count } = error else {
        return;
    };
    assert!(*invalid_count > 0 && !errors.is_empty());
    assert!(errors.len() <= EVENTS_LISTED_MAX * PROBLEMS_LISTED_MAX);
    assert!(errors.is_sorted_by_key(|error| error.index));
    assert!(errors.iter().all(|error| !error.message.is_empty()));
}

impl Model {
    fn of(event: &EventRef<'_>) -> Self {
        Self {
            event_name: event.event_name.to_owned(),
            channel: event.channel.to_owned(),
            user_id: event.user_id.to_owned(),
            micros: event.timestamp.as_micros(),
            event_id: event.event_id.map(str::to_owned),
            campaign_id: event.campaign_id.map(str::to_owned),
            tags: event.tags.map(|tags| tags.iter().map(str::to_owned).collect()),
            metadata: event.metadata.map(str::to_owned),
        }
    }
}
