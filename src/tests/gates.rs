//! What the project's commands promise, held against the files that make them up.

#[path = "../../benches/choice.rs"]
mod choice;

use choice::{Choice, LAYERS};

const MAKEFILE: &str = include_str!("../../Makefile");
const MANIFEST: &str = include_str!("../../Cargo.toml");
const BENCHES: &str = include_str!("../../benches/main.rs");
const README: &str = include_str!("../../README.md");

/// Cargo leaves targets with `test = false` out of `--all-targets`.
#[test]
fn make_check_lints_all_targets() {
    let (_, check) = MAKEFILE.split_once("\ncheck:").unwrap();
    let (check, _) = check.split_once("\n\n").unwrap();
    assert!(check.contains("clippy --locked --all-targets -- -D warnings"));
    let mut left_out = 0;
    for target in MANIFEST.split("[[test]]").skip(1) {
        let target = target.split("\n[").next().unwrap();
        if target.contains("test = false") {
            let name = target.split('"').nth(1).unwrap();
            assert!(
                check.contains(&format!(" --test {name}")),
                "{name} is not linted"
            );
            left_out += 1;
        }
    }
    assert!(left_out > 0, "nothing is read of Cargo.toml");
}

#[test]
fn the_readme_gives_time_and_disk_of_the_commands_that_take_long() {
    let (_, commands) = README.split_once("## Developing").unwrap();
    for target in ["test", "bench"] {
        let (_, command) = commands.split_once(&format!("\nmake {target} ")).unwrap();
        let (command, _) = command.split_once("\nmake ").unwrap_or((command, ""));
        let (command, _) = command.split_once("```").unwrap_or((command, ""));
        assert!(
            command.contains(" min") && command.contains(" GB of disk"),
            "{command}"
        );
    }
}

#[test]
fn a_bench_that_nobody_knows_is_refused_with_the_names_of_the_layers() {
    let choose = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Choice::of(&words)
    };
    for unknown in ["unknown --bench", "--bench parsing", "parse growth --bench"] {
        assert!(matches!(choose(unknown), Choice::Refuse(_)), "{unknown}");
    }
    let Choice::Refuse(said) = choose("unknown --bench") else {
        panic!()
    };
    let Choice::Say(help) = choose("--help --bench") else {
        panic!()
    };
    let Choice::Say(list) = choose("--list --bench") else {
        panic!()
    };
    for (layer, _) in LAYERS {
        assert!(said.contains(layer) && help.contains(layer), "{layer}");
        assert!(list.lines().any(|line| line == format!("{layer}: bench")));
        assert!(
            matches!(choose(&format!("{layer} --bench")), Choice::Run(_)),
            "{layer}"
        );
        // The list and what is run are one.
        assert!(
            BENCHES.contains(&format!("selection.has(\"{layer}\")")),
            "{layer}"
        );
    }
    for known in [
        "--bench",
        "flush --bench",
        "http_ingest/single/64 --bench",
        "--quick --bench",
    ] {
        assert!(matches!(choose(known), Choice::Run(_)), "{known}");
    }
    assert_eq!(choose("--quiet"), Choice::Nothing);
}
