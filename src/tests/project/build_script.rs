//! `build.rs`: a new migration is compiled in, and nothing else makes cargo run the script again.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_new_migration_is_a_change_and_no_change_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(here.join("build.rs"), dir.join("build.rs")).unwrap();
    fs::write(
        dir.join("Cargo.toml"),
        "[package]\nname = \"scratch\"\nedition = \"2024\"\n[workspace]\n",
    )
    .unwrap();
    fs::create_dir(dir.join("src")).unwrap();
    fs::write(dir.join("src/main.rs"), "fn main() {}\n").unwrap();
    add_migration(dir, "1-first");

    assert!(compiles(dir), "the first time");
    assert!(!compiles(dir), "without a change");
    add_migration(dir, "2-second");
    assert!(compiles(dir), "with a new migration");
    assert!(!compiles(dir), "without a change");
}

fn add_migration(dir: &Path, name: &str) {
    let migration = dir.join("migrations/postgres").join(name);
    fs::create_dir_all(&migration).unwrap();
    fs::write(migration.join("up.sql"), "SELECT 1;\n").unwrap();
}

/// Whether cargo finds something to do.
fn compiles(dir: &Path) -> bool {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline"])
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", dir.join("target"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said.contains("Compiling scratch")
}
