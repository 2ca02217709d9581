//! The parameters of `GET /metrics`. The answer to a bad query lists every problem, not only the first.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;

use crate::api::metrics::PARAMETERS;
use crate::api::receipt::Receipt;
use crate::event::bucket::TimeUnit;
use crate::event::timestamp::TimestampError;
use crate::event::{EVERY_NAME, NAME_BYTES_MAX, Timestamp};
use crate::http::error::ParameterError;
use crate::query::{GROUPS_MAX, Grouping, MetricsQuery, Order};

/// Most problems that an answer lists.
pub(crate) const ERRORS_LISTED_MAX: usize = 100;
/// Longest part of an unknown parameter's name that is shown, in characters.
const SHOWN_NAME_CHARS_MAX: usize = 64;
/// Most words in `group_by`.
const GROUPINGS_MAX: usize = 2;

/// Reads the parameters: the query, and the receipt whose events must be flushed before it is answered.
pub(crate) fn parse(query_string: &str) -> Result<(MetricsQuery, Option<Receipt>), Vec<ParameterError>> {
    let mut reader = Reader::new(query_string);
    let event_name = reader.required_name("event_name");
    let from = reader.instant("from");
    let to = reader.instant("to");
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        reader.report("from", "out_of_order", "must not be after `to`");
    }
    let group_by = reader.group_by();
    let zone = reader.zone();
    let channel = reader.name("channel");
    let campaign_id = reader.name("campaign_id");
    // A grouping that could not be read is one problem, not three.
    let has_time = group_by.is_none_or(|group_by| group_by.time.is_some());
    let has_names = group_by.is_none_or(Grouping::has_names);
    let fill = reader.choice("fill", "must be zero", &[("zero", true)]);
    reader.demand(
        "fill",
        fill.is_none() || has_time,
        "needs a group_by of minute, hour, day, week or month",
    );
    let order = reader.order();
    let limit = reader.limit();
    let needs_names = "needs a group_by of channel or event_name";
    reader.demand("order", order.is_none() || has_names, needs_names);
    reader.demand("limit", limit.is_none() || has_names, needs_names);
    let exact = reader.choice("exact", "must be true or false", &[("true", true), ("false", false)]);
    let after = reader.after();
    // A client that asks for a few groups means the largest.
    let order_or_default = order.unwrap_or(match limit {
        Some(_) => Order::TotalEvents,
        None => Order::Name,
    });
    match (event_name, from, to, group_by, zone) {
        (Some(event_name), Some(from), Some(to), Some(group_by), Some(zone)) if reader.errors.is_empty() => {
            let event_name = (event_name != EVERY_NAME).then_some(event_name);
            let query = MetricsQuery {
                channel,
                campaign_id,
                zone,
                group_by,
                fill: fill.unwrap_or_default(),
                order: order_or_default,
                limit,
                exact: exact.unwrap_or_default(),
                ..MetricsQuery::new(event_name, from, to)
            };
            Ok((query, after))
        }
        _ => {
            reader.errors.truncate(ERRORS_LISTED_MAX);
            Err(reader.errors)
        }
    }
}

/// The known parameters that occurred once, and the problems found so far.
struct Reader {
    /// `None` for a value that is not UTF-8.
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
            // A name that is not UTF-8 stays encoded: it is unknown either way.
            let name = decode(name).unwrap_or_else(|| name.to_owned());
            match PARAMETERS.iter().copied().find(|known| *known == name) {
                None => {
                    let shown: String = name.chars().take(SHOWN_NAME_CHARS_MAX).collect();
                    reader.report(&shown, "unknown_parameter", "is not a parameter of this path");
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

    fn order(&mut self) -> Option<Order> {
        self.choice(
            "order",
            "must be name, total_events or unique_users",
            &[
                ("name", Order::Name),
                ("total_events", Order::TotalEvents),
                ("unique_users", Order::UniqueUsers),
            ],
        )
    }

    fn after(&mut self) -> Option<Receipt> {
        let text = self.values.remove("after")?;
        let receipt = text.as_deref().and_then(Receipt::parse);
        if receipt.is_none() {
            self.report("after", "malformed", Receipt::FORM);
        }
        receipt
    }

    fn required_name(&mut self, field: &'static str) -> Option<String> {
        if !self.values.contains_key(field) {
            self.report(field, "required", "is required");
        }
        self.name(field)
    }

    /// A name, under the limits that names of events have.
    fn name(&mut self, field: &'static str) -> Option<String> {
        let name = self.value(field)?;
        if name.len() > NAME_BYTES_MAX {
            self.report(field, "too_long", &format!("must have at most {NAME_BYTES_MAX} bytes"));
            None
        } else if name.contains('\0') {
            // No event can have such a name, and PostgreSQL refuses the parameter.
            self.report(field, "nul_character", "must not contain U+0000");
            None
        } else {
            Some(name)
        }
    }

    fn instant(&mut self, field: &'static str) -> Option<Timestamp> {
        if !self.values.contains_key(field) {
            self.report(field, "required", "is required");
        }
        // The `+` of an offset means a space in a query string; few clients know to write %2B.
        let text = self.value(field)?.replace(' ', "+");
        let parsed = Timestamp::parse(&text);
        if let Err(error) = parsed {
            let code = match error {
                TimestampError::Malformed => "malformed",
                TimestampError::BeforeEpoch | TimestampError::TooLarge => "out_of_range",
            };
            self.report(field, code, &error.to_string());
        }
        parsed.ok()
    }

    /// What to group by, maybe nothing; `None` after a problem was reported.
    fn group_by(&mut self) -> Option<Grouping> {
        const FIELD: &str = "group_by";
        if !self.values.contains_key(FIELD) {
            return Some(Grouping::default());
        }
        let text = self.value(FIELD)?;
        let mut group_by = Grouping::default();
        for (n, word) in text.split(',').enumerate() {
            let unit = TimeUnit::ALL.into_iter().find(|unit| unit.as_str() == word);
            let is_new = match (word, unit) {
                ("channel", _) => !std::mem::replace(&mut group_by.channel, true),
                ("event_name", _) => !std::mem::replace(&mut group_by.event_name, true),
                (_, Some(unit)) => group_by.time.replace(unit).is_none(),
                (_, None) => {
                    self.report(
                        FIELD,
                        "unknown_value",
                        "must be one or two of minute, hour, day, week, month, channel and event_name, with a comma between them",
                    );
                    return None;
                }
            };
            let problem = match (is_new, unit.is_some()) {
                (false, true) => "must name at most one of minute, hour, day, week and month",
                (false, false) => "must not name channel or event_name twice",
                (true, _) if n >= GROUPINGS_MAX => "must name at most two",
                (true, _) => continue,
            };
            self.report(FIELD, "conflict", problem);
            return None;
        }
        Some(group_by)
    }

    /// The time zone, UTC unless given; `None` after a problem was reported.
    fn zone(&mut self) -> Option<TimeZone> {
        const FIELD: &str = "tz";
        if !self.values.contains_key(FIELD) {
            return Some(TimeZone::UTC);
        }
        // The `+` of a name such as `Etc/GMT+5` means a space in a query string.
        let name = self.value(FIELD)?.replace(' ', "+");
        let zone = TimeZone::get(&name).ok().filter(|zone| !zone.is_unknown());
        if zone.is_none() {
            self.report(
                FIELD,
                "unknown_value",
                "is not a time zone; give the name of one in the IANA database, such as Europe/Berlin",
            );
        }
        zone
    }

    fn limit(&mut self) -> Option<usize> {
        let text = self.value("limit")?;
        // Digits only: `parse` would accept a sign.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let limit = text
            .parse()
            .ok()
            .filter(|limit| is_number && (1..=GROUPS_MAX).contains(limit));
        if limit.is_none() {
            let message = format!("must be a whole number from 1 to {GROUPS_MAX}");
            self.report("limit", "out_of_range", &message);
        }
        limit
    }

    /// The meaning of a parameter that must be one of `words`.
    fn choice<T: Copy>(&mut self, field: &'static str, demand: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.value(field)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            self.report(field, "unknown_value", demand);
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// The value of a parameter that was given and is not empty.
    fn value(&mut self, field: &'static str) -> Option<String> {
        match self.values.remove(field)? {
            Some(value) if !value.is_empty() => Some(value),
            Some(_) => {
                self.report(field, "empty", "must not be empty");
                None
            }
            None => {
                self.report(field, "malformed", "must be UTF-8, percent-encoded");
                None
            }
        }
    }

    fn demand(&mut self, field: &str, is_met: bool, message: &str) {
        if !is_met {
            self.report(field, "needs_group_by", message);
        }
    }

    fn report(&mut self, field: &str, code: &'static str, message: &str) {
        // Bounded, so that a flood of parameters does not become a flood of allocations.
        if self.errors.len() <= ERRORS_LISTED_MAX {
            self.errors.push(ParameterError {
                field: field.to_owned(),
                code,
                message: message.to_owned(),
            });
        }
    }
}

/// Decodes a form's name or value; `None` if the result is not UTF-8. (Replacing bad bytes by U+FFFD would answer a
/// query for another name.)
fn decode(encoded: &str) -> Option<String> {
    let spaced = encoded.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}
