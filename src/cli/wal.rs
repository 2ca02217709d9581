//! `fast-ingest wal …`: shows a person the state of the log, and takes the decision that the flush cannot make.

mod adopt;
mod found;
mod inspect;

use clap::{Args, Subcommand};

use super::args::DatabaseArgs;
use super::text::printable;
use crate::store;
use crate::support::exit::{ExitStatus, Failure, OrExit as _, say};
use crate::support::settings::count;
use crate::wal::id::Sequence;

/// `fast-ingest wal …`
#[derive(Debug, Subcommand)]
pub enum WalCommand {
    /// Print segments, sequences, sizes, the checkpoint, and what recovery would do; changes nothing
    Inspect(DatabaseArgs),
    /// Let the flush continue where it must not decide by itself: after a gap, without its checkpoint, into another
    /// database, or as a new log
    ///
    /// Without --yes it says what it would do and changes nothing. A server may run meanwhile, and acts on the decision
    /// by itself.
    Adopt(AdoptArgs),
}

/// `fast-ingest wal adopt`
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// Flags that choose the log and the database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// First sequence to store; earlier ones that are not in the database are skipped, counted and recorded. By default
    /// the first one that the log still has, or the first one that was never stored
    #[arg(long, value_name = "SEQUENCE", value_parser = count::<Sequence>)]
    pub from: Option<Sequence>,
    /// Carry it out, instead of only saying what would be done
    #[arg(long)]
    pub yes: bool,
}

/// Prints which database the command uses.
fn say_database(args: &DatabaseArgs) -> Result<(), Failure> {
    let location = args.location().or_exit(ExitStatus::Config)?;
    let name = printable(&store::describe(&location));
    say(format_args!("database    {name}"))
}

/// Runs a log command.
///
/// # Errors
///
/// When the directory cannot be read (74), a start would be refused (65), or the database does not answer (69).
pub fn run(command: WalCommand) -> Result<(), Failure> {
    match command {
        WalCommand::Inspect(args) => inspect::run(&args),
        WalCommand::Adopt(args) => adopt::run(&args),
    }
}
