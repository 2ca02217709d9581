//! The patches of `make mutants` are read and applied in memory: one that no longer applies is found before the bugs
//! are planted.

use std::path::Path;

use crate::mutants::{self, Check, Mutant, PatchFile};
use crate::torture::PLANS;

#[test]
fn every_patch_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patches = mutants::read(root).unwrap();
    let patched = mutants::apply(root, &patches).unwrap();
    let bugs: Vec<_> = patches.iter().filter_map(|patch| patch.mutant.as_ref()).collect();
    assert!(bugs.len() > 50, "README.md says more than fifty");
    for Mutant { bug, .. } in bugs {
        let asks = format!("is_planted(\"{bug}\")");
        assert!(patched.values().any(|text| text.contains(&asks)), "{bug}");
    }
}

/// A check whose tests have moved would find nothing to run, which would count as a bug that no test notices.
#[test]
fn what_catches_each_bug_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for patch in mutants::read(root).unwrap() {
        let Some(Mutant { bug, check }) = patch.mutant else {
            continue;
        };
        let is_there = match &check {
            Check::Unit(path) => has_tests(&root.join("src"), path),
            Check::Integration(path) => has_tests(&root.join("src/tests"), path),
            Check::Plan(name, _) => PLANS.iter().any(|plan| plan.name == name),
        };
        assert!(is_there, "{bug}: {check:?} finds nothing");
    }
}

/// Whether the leading modules of a path are files, and the last of these contains the rest of the path.
fn has_tests(sources: &Path, path: &str) -> bool {
    let mut file = sources.to_owned();
    let mut names = path.split("::").peekable();
    while let Some(name) = names.next_if(|name| file.join(name).with_extension("rs").is_file()) {
        file.push(name);
    }
    let Ok(text) = std::fs::read_to_string(file.with_extension("rs")) else {
        return false;
    };
    // A macro makes the tests of these names.
    let named = names.find(|name| !name.starts_with("on_"));
    named.is_none_or(|name| text.contains(&format!("fn {name}")) || text.contains(&format!("mod {name}")))
}

const SOUND: &str = "\
Bug: NoSync
Caught by: plan kill 10
It does not sync.

--- a/src/lib.rs
+++ b/src/lib.rs
@@ -1,2 +1,2 @@
-sync();
+if !is_planted(\"NoSync\") { sync(); }
 answer();
";

#[test]
fn a_patch_names_its_bug_and_what_catches_it() {
    let patch = parse("sync.patch", SOUND).unwrap();
    let mutant = Mutant {
        bug: "NoSync".to_owned(),
        check: Check::Plan("kill".to_owned(), 10),
    };
    assert_eq!(patch.mutant, Some(mutant));
}

#[test]
fn a_patch_that_does_not_say_all_of_it_is_refused_by_name() {
    let broken = [
        ("Bug: ", "Bug "),
        ("Caught by: plan kill 10\n", ""),
        ("plan kill 10", "plan kill"),
        ("plan kill 10", "somebody"),
        ("It does not sync.", ""),
        ("\"NoSync\"", "\"NoSink\""),
    ];
    for (words, instead) in broken {
        let text = SOUND.replacen(words, instead, 1);
        let error = parse("sync.patch", &text).unwrap_err();
        assert!(error.starts_with("sync.patch: "), "{error}");
    }
    parse("README.md", SOUND).unwrap_err();
}

#[test]
fn a_patch_whose_lines_are_gone_or_stand_twice_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("src/lib.rs");
    std::fs::create_dir(root.path().join("src")).unwrap();
    let patches = [parse("sync.patch", SOUND).unwrap()];
    for (text, words) in [
        ("write();\nsync();\nanswer();\n", None),
        ("write();\nanswer();\n", Some("no longer have")),
        ("sync();\nanswer();\nsync();\nanswer();\n", Some("2 places")),
    ] {
        std::fs::write(&source, text).unwrap();
        let applied = mutants::apply(root.path(), &patches);
        match words {
            None => {
                let planted = &applied.unwrap()[Path::new("src/lib.rs")];
                assert!(planted.starts_with("write();\nif !is_planted"), "{planted}");
            }
            Some(words) => {
                let error = applied.unwrap_err();
                assert!(error.starts_with("sync.patch: src/lib.rs: "), "{error}");
                assert!(error.contains(words), "{error}");
            }
        }
    }
}

fn parse(name: &str, text: &str) -> Result<PatchFile, String> {
    PatchFile::parse(name.to_owned(), text.to_owned())
}
