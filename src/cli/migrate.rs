//! migrate
use super::{MigrateCommand, exit::Failure};
/// Runs a migration command.
pub fn run(_command: MigrateCommand) -> Result<(), Failure> { todo!() }
