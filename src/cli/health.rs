//! health
use super::exit::Failure;
/// Flags of `health`.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {}
/// Asks a server.
pub fn run(_args: &HealthArgs) -> Result<(), Failure> { todo!() }
