//! Runs cargo inside a test that cargo runs.

use std::env;
use std::process::Command;

/// Prefixes of the variables by which cargo tells a process about its package.
const OF_PACKAGE: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"];

/// Removes from a command what cargo tells this process about its package: build scripts of dependencies depend on
/// these variables, so a nested cargo that sees them would rebuild the dependencies, and so would the next cargo.
pub(crate) fn forget_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if OF_PACKAGE.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
}
