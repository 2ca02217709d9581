//! import
use super::exit::Failure;
/// Flags of `import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {}
/// Imports.
pub fn run(_args: ImportArgs) -> Result<(), Failure> { todo!() }
