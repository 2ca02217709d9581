//! What an error of SQLite means for the caller. The rule is that of PostgreSQL: only codes that blame the data are
//! data errors, and the generic code is unclear.

use rusqlite::{Error, ffi};

use crate::query::snapshot::QueryTooLarge;
use crate::rollup::users::DamagedSet;
use crate::store::{QueryError, StoreError};

/// Classifies an error.
pub(super) fn store_error(error: &Error) -> StoreError {
    let (code, message) = match error {
        Error::SqliteFailure(failure, message) => (
            failure.extended_code,
            message.clone().unwrap_or_else(|| failure.to_string()),
        ),
        Error::SqlInputError { error, msg, .. } => (error.extended_code, msg.clone()),
        Error::FromSqlConversionFailure(.., cause) if cause.is::<DamagedSet>() => {
            return StoreError::Schema(format!(
                "{cause}; `fast-ingest rollup rebuild` builds the rollups again"
            ));
        }
        other => return StoreError::Unavailable(other.to_string()),
    };
    match code & 0xff {
        ffi::SQLITE_CONSTRAINT | ffi::SQLITE_TOOBIG | ffi::SQLITE_MISMATCH => StoreError::Data {
            code: name(code),
            message,
        },
        // The generic code: statements that do not fit the schema, among others. Only the message tells them apart.
        ffi::SQLITE_ERROR if is_about_schema(&message) => StoreError::Schema(format!(
            "the database schema does not fit: {message}; `fast-ingest migrate up` brings it up to date"
        )),
        // Other errors may come from a trigger or CHECK that computes something, such as "malformed JSON".
        ffi::SQLITE_ERROR => StoreError::Unclear {
            code: name(code),
            message,
        },
        _ => StoreError::Unavailable(format!("{message} ({})", name(code))),
    }
}

/// Classifies an error of a query, which may have been given up by the code that reads its rows.
pub(super) fn query_error(error: &Error) -> QueryError {
    match error {
        Error::UserFunctionError(cause) if let Some(error) = cause.downcast_ref::<QueryTooLarge>() => (*error).into(),
        other => store_error(other).into(),
    }
}

/// Classifies an error of one of this program's own tables. Treated as a fault of the data, it would quarantine good
/// events.
pub(super) fn no_event_to_blame(table: &str, error: &Error) -> StoreError {
    match store_error(error) {
        StoreError::Data { code, message } => StoreError::Schema(format!(
            "{table} refuses a row of the server's own: {message} ({code}); remove the constraint or trigger that forbids it"
        )),
        StoreError::Unclear { code, message } => StoreError::Unavailable(format!("{table}: {message} ({code})")),
        other => other,
    }
}

/// The error of a query that its progress handler ended.
pub(super) fn interrupted() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_INTERRUPT), None)
}

/// Whether a query was ended by its progress handler.
pub(super) fn is_interrupt(error: &Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
}

fn is_about_schema(message: &str) -> bool {
    ["no such table", "no such column", "has no column named"]
        .iter()
        .any(|words| message.contains(words))
}

/// The symbolic name of a result code, as the manual lists them.
fn name(code: i32) -> String {
    let name = match code {
        ffi::SQLITE_CONSTRAINT_CHECK => "SQLITE_CONSTRAINT_CHECK",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "SQLITE_CONSTRAINT_DATATYPE",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "SQLITE_CONSTRAINT_NOTNULL",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "SQLITE_CONSTRAINT_PRIMARYKEY",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER",
        ffi::SQLITE_CONSTRAINT_UNIQUE => "SQLITE_CONSTRAINT_UNIQUE",
        _ => match code & 0xff {
            ffi::SQLITE_ERROR => "SQLITE_ERROR",
            ffi::SQLITE_BUSY => "SQLITE_BUSY",
            ffi::SQLITE_LOCKED => "SQLITE_LOCKED",
            ffi::SQLITE_READONLY => "SQLITE_READONLY",
            ffi::SQLITE_INTERRUPT => "SQLITE_INTERRUPT",
            ffi::SQLITE_IOERR => "SQLITE_IOERR",
            ffi::SQLITE_CORRUPT => "SQLITE_CORRUPT",
            ffi::SQLITE_FULL => "SQLITE_FULL",
            ffi::SQLITE_CANTOPEN => "SQLITE_CANTOPEN",
            ffi::SQLITE_TOOBIG => "SQLITE_TOOBIG",
            ffi::SQLITE_CONSTRAINT => "SQLITE_CONSTRAINT",
            ffi::SQLITE_MISMATCH => "SQLITE_MISMATCH",
            ffi::SQLITE_NOTADB => "SQLITE_NOTADB",
            _ => return format!("SQLite code {code}"),
        },
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_code_has_its_consequence() {
        let table = [
            (ffi::SQLITE_BUSY, "busy", "retry"),
            (ffi::SQLITE_LOCKED, "locked", "retry"),
            (ffi::SQLITE_FULL, "full", "retry"),
            (ffi::SQLITE_IOERR_FSYNC, "disk", "retry"),
            (ffi::SQLITE_CANTOPEN, "cannot open", "retry"),
            (ffi::SQLITE_READONLY, "read-only", "retry"),
            (ffi::SQLITE_CORRUPT, "corrupt", "retry"),
            (ffi::SQLITE_NOMEM, "memory", "retry"),
            (ffi::SQLITE_ERROR, "malformed JSON", "unclear"),
            (ffi::SQLITE_CONSTRAINT_CHECK, "check", "data"),
            (ffi::SQLITE_CONSTRAINT_TRIGGER, "trigger", "data"),
            (ffi::SQLITE_TOOBIG, "too big", "data"),
            (ffi::SQLITE_ERROR, "no such table: events", "schema"),
            (ffi::SQLITE_ERROR, "table events has no column named tags", "schema"),
        ];
        for (code, message, expected) in table {
            let class = match store_error(&Error::SqliteFailure(ffi::Error::new(code), Some(message.to_owned()))) {
                StoreError::Unavailable(_) => "retry",
                StoreError::Data { .. } => "data",
                StoreError::Schema(_) => "schema",
                StoreError::Unclear { .. } => "unclear",
            };
            assert_eq!(class, expected, "{code} {message}");
        }
    }
}
