//! What an error of PostgreSQL means for the caller, decided by SQLSTATE.
//!
//! Invariant: only classes that blame the data lead to quarantine, among them those that a user's own trigger raises. A
//! class that PostgreSQL does not use for its own state is [`StoreError::Unclear`]: an event must never be quarantined
//! on a doubt.

use std::error::Error as _;
use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::store::{SinkError, StoreError};

/// How long past the server's own statement timeout a reply is awaited. A frozen peer keeps TCP alive and would never
/// answer.
pub(super) const REPLY_GRACE: Duration = Duration::from_secs(5);

/// What to do about a pooler that moves sessions between server processes.
pub(super) const POOLER_REMEDY: &str =
    "set pool_mode=session there, or let the database URL point to PostgreSQL itself";

/// Why a statement of the flush failed.
#[derive(Debug)]
pub(super) enum StatementError {
    /// No partition takes the row: the partition vanished after it was made. Make it again and repeat the batch.
    NoPartition(String),
    /// The server, or something between it and us, has ended the session. Another session may work.
    SessionEnded(String),
    /// Anything else, classified.
    Store(StoreError),
}

impl From<StoreError> for StatementError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<tokio_postgres::Error> for StatementError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            // A trigger can raise the same code without a constraint's name, so only the server's routine tells.
            Some(db) if db.code().code() == "23514" && db.routine() == Some("ExecFindPartition") => {
                Self::NoPartition(db.message().to_owned())
            }
            _ if has_ended_session(&error) => Self::SessionEnded(describe(&error)),
            _ => Self::Store(store_error(&error)),
        }
    }
}

impl From<StatementError> for StoreError {
    /// A partition that is still missing after partitions were made is no fault of the event: the event is retried, not
    /// quarantined.
    fn from(failure: StatementError) -> Self {
        match failure {
            StatementError::NoPartition(message) | StatementError::SessionEnded(message) => Self::Unavailable(message),
            StatementError::Store(error) => error,
        }
    }
}

/// Why a batch was not stored.
#[derive(Debug)]
pub(super) enum FlushFailure {
    /// The checkpoint was not at the batch's beginning.
    CheckpointMoved,
    /// A statement failed.
    Statement(StatementError),
}

impl<E: Into<StatementError>> From<E> for FlushFailure {
    fn from(error: E) -> Self {
        Self::Statement(error.into())
    }
}

impl From<FlushFailure> for SinkError {
    fn from(failure: FlushFailure) -> Self {
        match failure {
            FlushFailure::CheckpointMoved => Self::CheckpointMoved,
            FlushFailure::Statement(failure) => failure.into(),
        }
    }
}

impl From<StatementError> for SinkError {
    fn from(failure: StatementError) -> Self {
        StoreError::from(failure).into()
    }
}

/// Waits for a reply, but not longer than `limit` plus [`REPLY_GRACE`].
pub(super) async fn bounded<T, E: Into<StatementError>>(
    limit: Duration,
    reply: impl Future<Output = Result<T, E>>,
) -> Result<T, StatementError> {
    match tokio::time::timeout(limit + REPLY_GRACE, reply).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(StatementError::Store(StoreError::Unavailable(format!(
            "no answer within {:?}",
            limit + REPLY_GRACE
        )))),
    }
}

/// Classifies an error of a statement or connection.
pub(super) fn store_error(error: &tokio_postgres::Error) -> StoreError {
    match error.as_db_error() {
        Some(db) => classify_db(db),
        None => StoreError::Unavailable(describe(error)),
    }
}

fn classify_db(db: &DbError) -> StoreError {
    let (code, message) = (db.code().code(), db.message());
    let place = db.where_().unwrap_or_default();
    let is_in_function = place.contains("PL/") || place.contains("function");
    if code.starts_with("42") && is_in_function {
        return StoreError::Schema(format!(
            "a trigger or function on the table fails: {message} ({code}, {place}); fix or remove it"
        ));
    }
    // A trigger moved the row into another month. The code means a missing feature, but the fault is with this row.
    if code == "0A000" && db.routine() == Some("ExecBRInsertTriggers") {
        return StoreError::Data {
            code: code.to_owned(),
            message: message.to_owned(),
        };
    }
    match classify(code, message) {
        StoreError::Unclear { .. } if db.parsed_severity() != Some(Severity::Error) => {
            StoreError::Unavailable(describe_db(db))
        }
        error => error,
    }
}

/// Classifies by SQLSTATE.
pub(super) fn classify(code: &str, message: &str) -> StoreError {
    match code.get(..2).unwrap_or_default() {
        // Values, constraints and limits; then what the user's own functions and triggers raise.
        "22" | "23" | "54" | "P0" | "09" | "21" | "27" | "2F" | "38" | "39" | "44" => StoreError::Data {
            code: code.to_owned(),
            message: message.to_owned(),
        },
        // The session does not know a statement that it prepared, or knows one that another session prepared.
        "26" | "42" if matches!(code, "26000" | "42P05") => StoreError::Schema(format!(
            "{message} ({code}): statements of one session reached different server processes, as with a pooler in transaction mode; {POOLER_REMEDY}"
        )),
        "42" if code == "42501" => StoreError::Schema(format!(
            "{message} ({code}): grant the database user the rights that `fast-ingest migrate up` needs"
        )),
        "42" => StoreError::Schema(format!(
            "the database schema does not fit: {message} ({code}); `fast-ingest migrate up` brings it up to date"
        )),
        "" | "08" | "0A" | "25" | "28" | "3D" | "40" | "53" | "55" | "57" | "58" | "XX" => {
            StoreError::Unavailable(format!("{message} ({code})"))
        }
        _ => StoreError::Unclear {
            code: code.to_owned(),
            message: message.to_owned(),
        },
    }
}

/// Classifies a refusal by one of this program's own tables. Treated as a fault of the data, it would quarantine good
/// events.
pub(super) fn no_event_to_blame(table: &str, failure: StatementError) -> StatementError {
    match failure {
        StatementError::Store(StoreError::Data { code, message }) => StoreError::Schema(format!(
            "{table} refuses a row of the server's own: {message} ({code}); remove the constraint or trigger that forbids it"
        ))
        .into(),
        StatementError::Store(StoreError::Unclear { code, message }) => {
            StoreError::Unavailable(format!("{table}: {message} ({code})")).into()
        }
        other => other,
    }
}

/// Whether a failed connection looks like a server that is about to start: nothing listens yet, it says that it is
/// starting, or something in front of it closes the connection.
pub(super) fn may_be_starting(error: &tokio_postgres::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, UnexpectedEof};
    let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match cause {
        Some(cause) => matches!(cause.kind(), ConnectionRefused | ConnectionReset | UnexpectedEof),
        None => error.is_closed() || error.code() == Some(&SqlState::CANNOT_CONNECT_NOW),
    }
}

/// Whether an error means that its session has ended, not that a statement is wrong.
fn has_ended_session(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        // Poolers send the severity in the older field only, and always in English.
        Some(db) => matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) || db.severity() == "FATAL",
        None => {
            let cause = error.source();
            error.is_closed() || cause.is_some_and(|cause| cause.is::<std::io::Error>())
        }
    }
}

/// The error with its causes in one line. tokio-postgres keeps the useful part in the cause.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return describe_db(db);
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        write!(text, ": {error}").expect("writing to a String");
        cause = error.source();
    }
    text
}

fn describe_db(db: &DbError) -> String {
    format!("{} ({})", db.message(), db.code().code())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word for a class in the table below.
    fn class(code: &str) -> &'static str {
        match classify(code, "message") {
            StoreError::Unavailable(_) => "retry",
            StoreError::Data { code: kept, .. } => {
                assert_eq!(kept, code);
                "data"
            }
            StoreError::Schema(text) => {
                assert!(text.contains("fast-ingest migrate up"), "{text}");
                "schema"
            }
            StoreError::Unclear { code: kept, .. } => {
                assert_eq!(kept, code);
                "unclear"
            }
        }
    }

    #[test]
    fn each_class_of_sqlstate_has_its_consequence() {
        let table = [
            ("08006", "retry"),
            ("53100", "retry"),
            ("53300", "retry"),
            ("57014", "retry"),
            ("57P01", "retry"),
            ("57P03", "retry"),
            ("40001", "retry"),
            ("40P01", "retry"),
            ("55P03", "retry"),
            ("25006", "retry"),
            ("25P02", "retry"),
            ("28P01", "retry"),
            ("3D000", "retry"),
            ("XX000", "retry"),
            ("22003", "data"),
            ("22021", "data"),
            ("22P02", "data"),
            ("23502", "data"),
            ("23514", "data"),
            ("54000", "data"),
            ("42P01", "schema"),
            ("42703", "schema"),
            ("42501", "schema"),
            ("0A000", "retry"),
            ("58030", "retry"),
            ("P0001", "data"),
            ("P0004", "data"),
            ("09000", "data"),
            ("21000", "data"),
            ("27000", "data"),
            ("2F004", "data"),
            ("38000", "data"),
            ("39000", "data"),
            ("44000", "data"),
            ("ZZZZZ", "unclear"),
            ("FI001", "unclear"),
            ("", "retry"),
        ];
        for (code, expected) in table {
            assert_eq!(class(code), expected, "{code}");
        }
        for code in ["26000", "42P05"] {
            let error = classify(code, "message");
            assert!(
                matches!(&error, StoreError::Schema(text) if text.contains("pool_mode=session")),
                "{error}"
            );
        }
    }
}
