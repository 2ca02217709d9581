//! The flags that several commands share.
//!
//! clap prefers a flag to its variable, and both to the default. Each help text ends with the reason for the default.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::store::postgres::with_password;
use crate::store::settings::StoreLocation;
use crate::support::settings::ConfigError;

/// Flags that choose the database, and with it the log.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// PostgreSQL to store events in, as postgres://user:password@host:port/database; without it, the embedded SQLite
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Password, if the URL has none; not percent-encoded. Every user of the machine can see flags: prefer the variable
    #[arg(long, env = "PGPASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub database_password: Option<String>,

    /// Directory of the write-ahead log and of the embedded SQLite database
    #[arg(long, env = "FAST_INGEST_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
}

impl DatabaseArgs {
    /// Directory of the write-ahead log.
    pub fn wal_dir(&self) -> PathBuf {
        self.data_dir.join("wal")
    }

    /// Chooses the store: PostgreSQL if there is a URL, else the embedded SQLite under the data directory.
    ///
    /// An empty URL counts as none, because an unset variable in a compose file arrives empty.
    ///
    /// # Errors
    ///
    /// When the URL is not one of PostgreSQL.
    pub fn location(&self) -> Result<StoreLocation, ConfigError> {
        match self.database_url.as_deref().map(str::trim) {
            None | Some("") => Ok(StoreLocation::Sqlite(self.data_dir.join("events.db"))),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                let password = self.database_password.as_deref().unwrap_or_default();
                Ok(StoreLocation::Postgres(with_password(url, password)))
            }
            Some(_) => Err(ConfigError(
                "DATABASE_URL must start with postgres:// or postgresql://; leave it unset for the embedded SQLite"
                    .to_owned(),
            )),
        }
    }
}

/// Variable of `--when-refused`. `refusal` reads it without clap when the command line itself is wrong.
pub(super) const WHEN_REFUSED: &str = "FAST_INGEST_WHEN_REFUSED";

/// What `serve` does after an error that only a person can fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhenRefused {
    /// End the process at once.
    Exit,
    /// Stay until SIGTERM or SIGINT, then end with the same status.
    Wait,
}
