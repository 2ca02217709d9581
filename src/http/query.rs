//! `GET /metrics`: query parameters to a [`MetricsQuery`], a report to JSON.
//!
//! The store's future is awaited right here, in the connection's task: when the client goes away hyper drops the handler, that
//! drops the store's future, and that cancels the query in the database. It must not be moved to a task of its own.

use std::collections::BTreeMap;

use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::App;
use super::error::{ApiError, ParameterError};
use super::response::{self, Response};
use crate::event::timestamp::TimestampError;
use crate::event::{NAME_BYTES_MAX, Timestamp};
use crate::query::{Group, GroupBy, GroupKey, MetricsQuery, MetricsReport};
use crate::store::StoreError;

const PARAMETERS: [&str; 4] = ["event_name", "from", "to", "group_by"];
/// Most problems that an answer lists.
const ERRORS_LISTED_MAX: usize = 100;
/// Longest part of an unknown parameter's name that is shown, in characters.
const SHOWN_NAME_CHARS_MAX: usize = 64;

/// Answers a metrics query.
pub(super) async fn metrics(app: &App, query_string: &str) -> Result<Response, ApiError> {
    let query = parse(query_string).map_err(ApiError::BadQuery)?;
    match app.store.metrics(&query).await {
        Ok(report) => Ok(response::json(
            StatusCode::OK,
            &ReportBody::new(&query, &report),
        )),
        Err(error) => {
            match &error {
                // What the client asked for, not what is wrong with us.
                StoreError::QueryTimeout(_)
                | StoreError::TooManyGroups { .. }
                | StoreError::QueryTooLarge => {
                    tracing::info!(%error, "metrics query failed: {error}")
                }
                _ => tracing::warn!(%error, "metrics query failed: {error}"),
            }
            Err(error.into())
        }
    }
}

/// Reads the parameters; on trouble lists every problem, not only the first.
fn parse(query_string: &str) -> Result<MetricsQuery, Vec<ParameterError>> {
    let mut reader = Reader::new(query_string);
    let event_name = reader.event_name();
    let from = reader.instant("from");
    let to = reader.instant("to");
    let group_by = reader.group_by();
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        reader.report("from", "out_of_order", "must not be after `to`");
    }
    match (event_name, from, to) {
        (Some(event_name), Some(from), Some(to)) if reader.errors.is_empty() => Ok(MetricsQuery {
            event_name,
            from,
            to,
            group_by,
        }),
        _ => {
            reader.errors.truncate(ERRORS_LISTED_MAX);
            Err(reader.errors)
        }
    }
}

/// The known parameters that occurred once, and the problems found so far.
struct Reader {
    /// `None` for one that is not UTF-8.
    values: BTreeMap<&'static str, Option<String>>,
    errors: Vec<ParameterError>,
}

impl Reader {
    fn new(query_string: &str) -> Self {
        let mut reader = Self {
            values: BTreeMap::new(),
            errors: Vec::new(),
        };
        for pair in query_string.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A name that is not UTF-8 is no name of ours either way.
            let name = decode(name).unwrap_or_else(|| name.to_owned());
            match PARAMETERS.into_iter().find(|known| *known == name) {
                None => {
                    let shown: String = name.chars().take(SHOWN_NAME_CHARS_MAX).collect();
                    reader.report(
                        &shown,
                        "unknown_parameter",
                        "is not a parameter of this path",
                    );
                }
                Some(known) if reader.values.contains_key(known) => {
                    reader.report(known, "duplicate", "must be given once");
                }
                Some(known) => {
                    reader.values.insert(known, decode(value));
                }
            }
        }
        reader
    }

    fn event_name(&mut self) -> Option<String> {
        let name = self.required("event_name")?;
        if name.len() > NAME_BYTES_MAX {
            self.report(
                "event_name",
                "too_long",
                &format!("must have at most {NAME_BYTES_MAX} bytes"),
            );
            None
        } else if name.contains('\0') {
            // No event can have such a name, and PostgreSQL refuses the parameter.
            self.report("event_name", "nul_character", "must not contain U+0000");
            None
        } else {
            Some(name)
        }
    }

    fn instant(&mut self, name: &'static str) -> Option<Timestamp> {
        // The `+` of an offset means a space in a query string; few clients know to write %2B.
        let text = self.required(name)?.replace(' ', "+");
        let parsed = Timestamp::parse(&text);
        if let Err(error) = parsed {
            let code = match error {
                TimestampError::Malformed => "malformed",
                TimestampError::BeforeEpoch | TimestampError::TooLarge => "out_of_range",
            };
            self.report(name, code, &error.to_string());
        }
        parsed.ok()
    }

    fn group_by(&mut self) -> Option<GroupBy> {
        let word = self.values.remove("group_by")?;
        let Some(word) = word else {
            self.report_not_utf8("group_by");
            return None;
        };
        let found = [GroupBy::Day, GroupBy::Hour, GroupBy::Channel]
            .into_iter()
            .find(|known| known.as_str() == word);
        if found.is_none() {
            let code = if word.is_empty() {
                "empty"
            } else {
                "unknown_value"
            };
            self.report("group_by", code, "must be day, hour or channel");
        }
        found
    }

    fn required(&mut self, name: &'static str) -> Option<String> {
        match self.values.remove(name) {
            Some(Some(value)) if !value.is_empty() => Some(value),
            Some(None) => {
                self.report_not_utf8(name);
                None
            }
            Some(_) => {
                self.report(name, "empty", "must not be empty");
                None
            }
            None => {
                self.report(name, "required", "is required");
                None
            }
        }
    }

    fn report_not_utf8(&mut self, name: &str) {
        self.report(name, "malformed", "must be UTF-8, percent-encoded");
    }

    fn report(&mut self, field: &str, code: &'static str, message: &str) {
        // One more than is shown, so that a flood of parameters does not become a flood of allocations.
        if self.errors.len() <= ERRORS_LISTED_MAX {
            self.errors.push(ParameterError {
                field: field.to_owned(),
                code,
                message: message.to_owned(),
            });
        }
    }
}

/// Undoes the encoding of a form's name or value; `None` if that leaves no UTF-8. (U+FFFD in its place would make the
/// answer one about another name.)
fn decode(encoded: &str) -> Option<String> {
    let spaced = encoded.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[derive(Serialize)]
struct ReportBody<'a> {
    event_name: &'a str,
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_by: Option<&'static str>,
    total_events: u64,
    unique_users: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<GroupBody<'a>>>,
}

#[derive(Serialize)]
struct GroupBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    total_events: u64,
    unique_users: u64,
}

impl<'a> ReportBody<'a> {
    fn new(query: &'a MetricsQuery, report: &'a MetricsReport) -> Self {
        Self {
            event_name: &query.event_name,
            from: query.from.to_string(),
            to: query.to.to_string(),
            group_by: query.group_by.map(GroupBy::as_str),
            total_events: report.total.total_events,
            unique_users: report.total.unique_users,
            groups: query
                .group_by
                .map(|_| report.groups.iter().map(GroupBody::from).collect()),
        }
    }
}

impl<'a> From<&'a Group> for GroupBody<'a> {
    fn from(group: &'a Group) -> Self {
        let (start, end, channel) = match &group.key {
            GroupKey::Bucket { start, end } => {
                (Some(start.to_string()), Some(end.to_string()), None)
            }
            GroupKey::Channel(channel) => (None, None, Some(channel.as_str())),
        };
        let (total_events, unique_users) = (group.counts.total_events, group.counts.unique_users);
        Self {
            start,
            end,
            channel,
            total_events,
            unique_users,
        }
    }
}
