//! wal
use super::{WalCommand, exit::Failure};
/// Runs a log command.
pub fn run(_command: WalCommand) -> Result<(), Failure> { todo!() }
