//! The command that runs each client, if this machine has the programs that it needs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::nested_cargo::forget_package;

/// Where the clients are.
pub(super) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/clients");
/// Directory for the clients that have to be compiled.
const COMPILED: &str = env!("CARGO_TARGET_TMPDIR");

/// Reports a skipped test past the capture of its output, so that the skip is seen and counted.
pub(super) fn say_skipped(reason: &str) {
    // On a line of its own, even if the harness has begun a line.
    let line = format!("\nclients: skipped, {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

pub(super) fn shell() -> Result<Command, String> {
    look_for("curl", &["--version"])?;
    look_for("awk", &["BEGIN {}"])?;
    interpreted("bash", &["-c", ":"], "curl.sh")
}

pub(super) fn python() -> Result<Command, String> {
    interpreted("python3", &["--version"], "client.py")
}

pub(super) fn javascript() -> Result<Command, String> {
    let node = interpreted("node", &["--version"], "client.mjs")?;
    match runs("node", &["-e", "process.exit(globalThis.fetch ? 0 : 1)"]) {
        true => Ok(node),
        false => Err("node is older than 18".to_owned()),
    }
}

pub(super) fn php() -> Result<Command, String> {
    let php = interpreted("php", &["--version"], "client.php")?;
    match runs("php", &["-r", "exit(extension_loaded('curl') ? 0 : 1);"]) {
        true => Ok(php),
        false => Err("php has no curl extension".to_owned()),
    }
}

pub(super) fn go() -> Result<Command, String> {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    look_for("go", &["version"])?;
    let client = CLIENT.get_or_init(|| {
        let path = Path::new(COMPILED).join("client-go");
        // Built in a directory of its own and then renamed, because another run of the tests may be executing the old
        // file.
        let dir = tempfile::tempdir_in(COMPILED).unwrap();
        let fresh = dir.path().join("client");
        let mut go = Command::new("go");
        go.arg("build").arg("-o").arg(&fresh).arg("client.go");
        compile(go.current_dir(FOLDER));
        std::fs::rename(fresh, &path).unwrap();
        path
    });
    Ok(Command::new(client))
}

/// Built by cargo, which has put the crates that it needs beside the tests' own.
#[allow(clippy::unnecessary_wraps, reason = "one shape for all languages")]
pub(super) fn rust() -> Result<Command, String> {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--locked", "--offline", "--example", "client"])
            .arg("--message-format=json")
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        forget_package(&mut cargo);
        let messages = compile(&mut cargo);
        let mut messages = messages
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let path = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
        path.expect("an executable")
    });
    Ok(Command::new(client))
}

fn interpreted(program: &str, arguments: &[&str], file: &str) -> Result<Command, String> {
    look_for(program, arguments)?;
    let mut command = Command::new(program);
    command.arg(Path::new(FOLDER).join(file));
    Ok(command)
}

fn look_for(program: &str, arguments: &[&str]) -> Result<(), String> {
    match runs(program, arguments) {
        true => Ok(()),
        false => Err(format!("{program} is not installed")),
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs a compiler, which must succeed; returns its output.
fn compile(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
