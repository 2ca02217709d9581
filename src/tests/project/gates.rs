//! What the project's commands promise, compared with the files that define them.

#[path = "../../../benches/choice.rs"]
mod choice;

use std::fs;
use std::path::Path;
use std::process::Command;

use choice::{Choice, LAYERS};

const MAKEFILE: &str = include_str!("../../../Makefile");
const MANIFEST: &str = include_str!("../../../Cargo.toml");
const BENCHES: &str = include_str!("../../../benches/main.rs");
const README: &str = include_str!("../../../README.md");

/// Documents that people read beside the code.
const PAPERS: [&str; 10] = [
    "README.md",
    ".github/CONTRIBUTING.md",
    "deploy/clients/README.md",
    "migrations/README.md",
    "src/ARCHITECTURE.md",
    "src/CHANGELOG.md",
    "src/cli/README.md",
    "src/http/README.md",
    "src/rollup/README.md",
    "src/tests/torture/README.md",
];

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
            assert!(check.contains(&format!(" --test {name}")), "{name} is not linted");
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
        assert!(command.contains(" min") && command.contains(" GB of disk"), "{command}");
    }
}

#[test]
fn each_link_of_the_papers_leads_to_a_file_and_a_heading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut links = 0;
    for paper in PAPERS {
        let text = fs::read_to_string(root.join(paper)).unwrap();
        let targets = text.split("](").skip(1);
        let targets = targets.map(|rest| rest.split_once(')').expect("the end of a link").0);
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = root.join(paper).parent().unwrap().join(file);
            let there = fs::read_to_string(&file);
            let there = there.unwrap_or_else(|error| panic!("{paper}: {target}: {error}"));
            let is_there = heading.is_empty() || headings(&there).any(|name| name == heading);
            assert!(is_there, "{paper}: no heading for {target}");
            links += 1;
        }
    }
    assert!(links > 20, "only {links} links are read");
}

/// The anchors of a paper's headings, as links name them.
fn headings(paper: &str) -> impl Iterator<Item = String> {
    let lines = paper.lines().filter(|line| line.starts_with('#'));
    lines.map(|line| {
        let name = line.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        name.chars().filter(kept).collect::<String>().replace(' ', "-")
    })
}

#[test]
fn the_settings_of_the_readme_are_those_of_the_help() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fast-ingest"));
    let help = command.args(["serve", "--help"]).output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let rows: Vec<_> = README.lines().filter(|line| line.starts_with("| `--")).collect();
    assert_eq!(rows.len(), 8, "{rows:?}");
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let flag = cells[1].trim_matches('`');
        let entry = format!("\n      {flag} ");
        let (_, of_flag) = help.split_once(&entry).expect(flag);
        let (of_flag, _) = of_flag.split_once("\n      --").unwrap_or((of_flag, ""));
        let variable = cells[2].split('`').nth(1).unwrap();
        assert!(of_flag.contains(&format!("[env: {variable}")), "{row}: {of_flag}");
        // A cell with words instead of a value means that there is no default.
        let value = cells[3].trim_matches('`');
        let has_default = of_flag.contains("[default: ");
        assert_eq!(has_default, !value.contains(' '), "{row}: {of_flag}");
        assert!(
            !has_default || of_flag.contains(&format!("[default: {value}]")),
            "{row}"
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
        assert!(matches!(choose(&format!("{layer} --bench")), Choice::Run(_)), "{layer}");
        // The list and the layers that run are the same.
        assert!(BENCHES.contains(&format!("selection.has(\"{layer}\")")), "{layer}");
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
