//! The command line: commands, flags, and the variables and the file that flags may come from.
//!
//! The types here only hold what was typed. `settings` and [`args`] resolve it to settings; the other submodules run
//! the commands.

pub mod args;
mod env_file;
pub mod health;
pub mod import;
pub mod metrics;
pub mod migrate;
pub mod refusal;
mod request;
pub mod rollup;
pub mod serve;
mod settings;
mod text;
pub mod wal;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::builder::Resettable;
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use args::DatabaseArgs;
use settings::ServeArgs;

use crate::support::exit::{ExitStatus, Failure, OrExit as _};
use crate::support::settings::positive_duration;
use crate::telemetry::LogFormat;
use crate::upkeep::settings::RollupCap;

/// Prefix of the names of our own variables.
const OURS: &str = "FAST_INGEST_";
/// Prefixes of variables with [`OURS`] that this program does not read: those of the tests, of the clients in
/// `deploy/clients`, and those that Kubernetes sets in containers for a service called fast-ingest.
const OF_OTHERS: [&str; 6] = [
    "FAST_INGEST_TEST_",
    "FAST_INGEST_KEY",
    "FAST_INGEST_GIVE_UP_AFTER",
    "FAST_INGEST_TRY_TIMEOUT",
    "FAST_INGEST_SERVICE_",
    "FAST_INGEST_PORT",
];

/// A durable front door for events, in front of PostgreSQL.
///
/// A 202 means the events are in the write-ahead log and fdatasync has returned. They reach the database exactly once.
#[derive(Debug, Parser)]
#[command(name = "fast-ingest", version, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    /// The command, with its flags.
    #[command(subcommand)]
    pub command: Command,

    /// Format of log lines: `text` for people, `json` for machines (one object a line)
    #[arg(long, global = true, env = "FAST_INGEST_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, help_heading = "Logs")]
    pub log_format: LogFormat,

    /// What to log: a level, or a filter such as `info,fast_ingest::flush=debug`
    #[arg(
        long,
        global = true,
        env = "FAST_INGEST_LOG",
        default_value = "info",
        value_name = "FILTER",
        help_heading = "Logs"
    )]
    pub log: String,

    /// File of NAME=value lines, for variables that are not set; by default no file is read. src/cli/README.md says
    /// what a line may look like
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub env_file: Option<PathBuf>,
}

/// The commands of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    ///
    /// Without --database-url it stores events in an embedded SQLite database under the data directory, ready at once.
    /// With it, events go to PostgreSQL 15 or newer; run `fast-ingest migrate up` first.
    Serve(Box<ServeArgs>),

    /// Create, update or remove the database schema
    #[command(subcommand)]
    Migrate(MigrateCommand),

    /// Send events from files to a running server
    Import(Box<import::ImportArgs>),

    /// Ask a running server how often something happened
    Metrics(Box<metrics::MetricsArgs>),

    /// Check the rollups that GET /metrics reads against the stored events; exit status 65 if they differ
    ///
    /// Counts every event again and changes nothing. A server may run meanwhile.
    Verify(rollup::VerifyArgs),

    /// Maintain the rollups that GET /metrics reads
    #[command(subcommand)]
    Rollup(RollupCommand),

    /// Inspect the write-ahead log, and decide how the flush continues when it cannot decide by itself
    #[command(subcommand)]
    Wal(wal::WalCommand),

    /// Ask a running server for its health: exit status 0 if it can accept events
    Health(health::HealthArgs),
}

/// `fast-ingest migrate …`
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Upgrade the schema to what this binary needs; does nothing when it is up to date
    Up {
        /// Flags that choose the database.
        #[command(flatten)]
        database: DatabaseArgs,
        /// Time to wait for a PostgreSQL server that refuses connections or is still starting; by default the command
        /// fails at once and says why
        #[arg(long, value_name = "TIME", value_parser = positive_duration)]
        wait: Option<Duration>,
        /// The cap for rollups that are built for events from before there were rollups.
        #[command(flatten)]
        rollups: RollupCap,
    },
    /// Undo the newest migration (--all: every one). Without --yes it only says what would be dropped
    Down {
        /// Flags that choose the database.
        #[command(flatten)]
        database: DatabaseArgs,
        /// Undo every migration, not only the newest
        #[arg(long)]
        all: bool,
        /// Confirm that the data may be dropped
        #[arg(long)]
        yes: bool,
    },
    /// List the migrations, applied and pending; exit status 78 if the schema is behind
    Status(DatabaseArgs),
}

/// `fast-ingest rollup …`
#[derive(Debug, Subcommand)]
pub enum RollupCommand {
    /// Rebuild the rollups from the stored events
    ///
    /// Works day by day, and a server may run meanwhile. Interrupted at any moment, it leaves each day either as it was
    /// or rebuilt.
    Rebuild(rollup::RebuildArgs),
}

/// A command line as it was typed, and the variables that are set but empty. An empty variable counts as unset, because
/// an unset variable in a compose file arrives empty.
#[derive(Debug)]
pub struct Typed {
    /// The command line.
    pub cli: Cli,
    /// Names of the variables that are set but empty.
    pub empty_variables: Vec<String>,
    /// Names of variables that begin like ours and that no command reads, most likely misspelt.
    pub unknown_variables: Vec<String>,
}

/// Reads the command line, and the file of settings that it names. Ends the process if the command line is wrong or
/// asks for help.
///
/// # Errors
///
/// When that file cannot be read (74), or has a bad line (78).
pub fn parse() -> Result<Typed, Failure> {
    let mut command = Cli::command();
    let known = variables_of(&command);
    if let Some(path) = env_file::path_in(std::env::args_os()) {
        let said = |error: &dyn Display| anyhow!("{} {}: {error}", env_file::FLAG, path.display());
        let text = fs::read(&path).map_err(|error| said(&error));
        let settings = env_file::parse(&text.or_exit(ExitStatus::Io)?);
        let settings = settings.map_err(|error| said(&error)).or_exit(ExitStatus::Config)?;
        if let Some(name) = settings.keys().find(|name| is_unknown(name, &known)) {
            let error = said(&format!("{name} is not a setting of fast-ingest"));
            return Err(Failure::new(ExitStatus::Config, error));
        }
        command = with_defaults(command, &|name| {
            let is_set = std::env::var_os(name).is_some_and(|value| !value.is_empty());
            let value = settings.get(name.to_str()?).filter(|_| !is_set);
            value.filter(|value| !value.is_empty()).cloned()
        });
    }
    let unknown_variables = unknown_variables(&known);
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let mut empty = BTreeSet::new();
    let command = with_negative_numbers(without_variables(command, &is_empty, &mut empty));
    let matches = command.try_get_matches();
    let cli = matches
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .unwrap_or_else(|error| refusal::end(&error));
    Ok(Typed {
        cli,
        empty_variables: empty.into_iter().collect(),
        unknown_variables,
    })
}

fn is_unknown(name: &str, known: &BTreeSet<String>) -> bool {
    name.starts_with(OURS) && !known.contains(name) && !OF_OTHERS.iter().any(|others| name.starts_with(others))
}

/// Names of set variables that begin like ours and that no command reads.
fn unknown_variables(known: &BTreeSet<String>) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<_> = names.filter(|name| is_unknown(name, known)).collect();
    unknown.sort();
    unknown
}

/// Names of the variables that a command and its subcommands read.
fn variables_of(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env);
    let own = own.map(|name| name.to_string_lossy().into_owned());
    let others = command.get_subcommands().flat_map(variables_of);
    own.chain(others).collect()
}

/// The command and its subcommands, with a new default for each argument whose variable has a value.
fn with_defaults(command: clap::Command, value_of: &dyn Fn(&OsStr) -> Option<String>) -> clap::Command {
    map_args(command, &mut |arg| match arg.get_env().and_then(value_of) {
        // `--help` shows defaults, but no secrets.
        Some(value) if arg.is_hide_env_values_set() => arg.default_value(value).hide_default_value(true),
        Some(value) => arg.default_value(value),
        None => arg,
    })
}

/// The command and its subcommands, of which `--port -1` gets the answer of the argument's own parser: what is allowed.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    map_args(command, &mut |arg| match arg.get_action() {
        ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_negative_numbers(true),
        _ => arg,
    })
}

/// The command and its subcommands without the variables that are `unwanted`, whose names are added to `names`.
fn without_variables(
    command: clap::Command,
    unwanted: &dyn Fn(&OsStr) -> bool,
    names: &mut BTreeSet<String>,
) -> clap::Command {
    map_args(command, &mut |arg| match arg.get_env() {
        Some(name) if unwanted(name) => {
            names.insert(name.to_string_lossy().into_owned());
            arg.env(Resettable::Reset)
        }
        _ => arg,
    })
}

/// The command and its subcommands, each argument changed.
fn map_args(command: clap::Command, change: &mut dyn FnMut(clap::Arg) -> clap::Arg) -> clap::Command {
    let mut command = command.mut_args(&mut *change);
    let subcommands = command.get_subcommands().map(clap::Command::get_name);
    for name in subcommands.map(str::to_owned).collect::<Vec<_>>() {
        command = command.mut_subcommand(name, |sub| map_args(sub, change));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_reads_a_variable_that_is_taken_from_it() {
        let mut names = BTreeSet::new();
        let all = variables_of(&Cli::command());
        let left = without_variables(Cli::command(), &|name| name != "PORT", &mut names);
        assert!(variables_of(&left).iter().all(|name| name == "PORT"));
        assert!(names.contains("DATABASE_URL") && names.contains("FAST_INGEST_LOG"));
        assert_eq!(names.len() + 1, all.len());
    }
}
