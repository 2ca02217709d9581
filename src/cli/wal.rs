//! `fast-ingest wal …`: the state of the log for a person who has to decide something, and the decision.

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
    /// Print segments, sequences, sizes, the checkpoint's place, and what recovery would do; changes nothing
    Inspect(DatabaseArgs),
    /// Let the flush go on where it must not decide by itself: over a gap, without its checkpoint, into another
    /// database, or as a log of its own
    ///
    /// Without --yes it says what it would do and changes nothing. A server may go on meanwhile, and takes the answer
    /// up by itself.
    Adopt(AdoptArgs),
}

/// `fast-ingest wal adopt`
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// Which log and which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// First sequence that shall be stored; what is before it and not in the database is skipped, counted and recorded.
    /// By default the first one that the log still has, or the first one that was never stored
    #[arg(long, value_name = "SEQUENCE", value_parser = count::<Sequence>)]
    pub from: Option<Sequence>,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

/// Says which database is asked.
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
