//! serve
use super::exit::Failure;
/// Runs the server.
pub fn run(_args: crate::config::ServeArgs) -> Result<(), Failure> { todo!() }
