//! Another cargo, run by a test that cargo runs.

use std::env;
use std::process::Command;

/// What the names of variables begin with by which cargo tells a process about its package.
const OF_PACKAGE: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"];

/// Keeps from a command what cargo tells this process about its package: build scripts of dependencies ask for it, so
/// another cargo that heard of it would build these anew, and the next one again.
pub(crate) fn forget_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if OF_PACKAGE.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
}
