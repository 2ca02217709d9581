//! A refusal as JSON.

use serde::Serialize;

use super::ParameterError;
use crate::event::parse::EventError;

/// RFC 9457, section 3, with our extension members behind `detail`.
#[derive(Serialize)]
pub(super) struct ProblemBody<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) title: &'static str,
    pub(super) status: u16,
    pub(super) detail: &'a str,
    pub(super) code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invalid_count: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<ListedError<'a>>,
}

/// One problem of the events or parameters.
#[derive(Serialize)]
pub(super) struct ListedError<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    field: &'a str,
    code: &'static str,
    message: &'a str,
}

impl<'a> From<&'a EventError> for ListedError<'a> {
    fn from(error: &'a EventError) -> Self {
        Self {
            index: Some(error.index),
            field: &error.field,
            code: error.code,
            message: &error.message,
        }
    }
}

impl<'a> From<&'a ParameterError> for ListedError<'a> {
    fn from(error: &'a ParameterError) -> Self {
        Self {
            index: None,
            field: &error.field,
            code: error.code,
            message: &error.message,
        }
    }
}
