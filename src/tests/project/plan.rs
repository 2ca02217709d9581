//! The layers of ARCHITECTURE.md, compared with the names in the files of `src/`: no module names a higher layer, no
//! modules of one layer name each other in a circle, and the product does not name the scaffolding.

mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use references::{modules_named, without_tests};

/// The layers, lowest first: each may use those before it.
const STAIR: [&str; 13] = [
    "support",
    "telemetry",
    "event",
    "api",
    "rollup",
    "wal",
    "query",
    "store",
    "intake",
    "flush",
    "upkeep",
    "http",
    "cli",
];
/// The layers of events, rollups and questions, which know no server and no driver.
const DOMAIN: [&str; 4] = ["api", "event", "rollup", "query"];
const OUTSIDE: [&str; 6] = [
    "hyper",
    "http_body_util",
    "diesel",
    "diesel_async",
    "rusqlite",
    "tokio_postgres",
];
/// The module that only tests, fuzzers and the model checker build.
const SCAFFOLDING: &str = "testing";

/// Each module by its path from the root of the crate, with the source that a build for users compiles.
type Modules = BTreeMap<String, String>;
/// The modules that each module names.
type References = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_house_is_built_by_its_plan() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = Modules::new();
    read(&src, &src, &mut modules);
    assert!(modules.len() > 150, "only {} modules were read", modules.len());
    let floors: BTreeSet<&str> = modules.keys().map(|module| floor(module)).collect();
    let known: BTreeSet<&str> = STAIR.into_iter().chain([SCAFFOLDING]).collect();
    assert_eq!(floors, known, "a layer is not in the plan");
    assert_eq!(faults(&modules), Vec::<String>::new());
    let told_apart = modules.iter().filter(|(module, _)| DOMAIN.contains(&floor(module)));
    for (module, source) in told_apart {
        for outside in OUTSIDE {
            let names_it = source.contains(&format!("{outside}::"));
            assert!(
                !names_it,
                "{module} names {outside}: the domain knows no server and no driver"
            );
        }
    }
}

fn read(src: &Path, directory: &Path, modules: &mut Modules) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let below = path.strip_prefix(src).unwrap();
        if path.is_dir() {
            // The tests are a crate of their own.
            if below != Path::new("tests") {
                read(src, &path, modules);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let parts: Vec<_> = below
                .with_extension("")
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            let is_test = parts.iter().any(|part| part == "tests") || parts.join("::") == "store::sqlite::testing";
            let is_root = matches!(parts[0].as_str(), "lib" | "main");
            if !is_test && !is_root {
                let source = without_tests(&fs::read_to_string(&path).unwrap());
                modules.insert(parts.join("::"), source);
            }
        }
    }
}

/// Everything that breaks the plan, in words.
fn faults(modules: &Modules) -> Vec<String> {
    let references: References = modules
        .iter()
        .map(|(module, source)| (module.clone(), modules_named(module, source, modules)))
        .collect();
    let mut faults = Vec::new();
    for (module, named) in &references {
        for other in named {
            if let Some(why) = is_forbidden(floor(module), floor(other)) {
                faults.push(format!("{module} names {other}: {why}"));
            }
        }
    }
    let mut floors = vec![String::new()];
    floors.extend(modules.keys().cloned());
    for parent in &floors {
        faults.extend(circle_below(parent, &references));
    }
    faults
}

fn is_forbidden(from: &str, to: &str) -> Option<&'static str> {
    if from == to || from == SCAFFOLDING {
        return None;
    }
    if to == SCAFFOLDING {
        return Some("the product must do without the scaffolding");
    }
    if from == "api" {
        return Some("`api` describes the wire without other layers");
    }
    let height = |layer: &str| STAIR.iter().position(|known| *known == layer);
    (height(to) > height(from)).then_some("that is a higher layer")
}

/// The layer that a module is in.
fn floor(module: &str) -> &str {
    module.split("::").next().unwrap()
}

/// A circle among the modules right below `parent`; each of these stands for all that is in it.
fn circle_below(parent: &str, references: &References) -> Option<String> {
    let prefix = match parent {
        "" => String::new(),
        parent => format!("{parent}::"),
    };
    let room = |module: &str| {
        let rest = module.strip_prefix(&prefix)?;
        Some(rest.split("::").next().unwrap().to_owned())
    };
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, named) in references {
        let Some(from) = room(module) else { continue };
        let others = named.iter().filter_map(|other| room(other));
        let others = others.filter(|to| *to != from && (!prefix.is_empty() || from != SCAFFOLDING));
        arrows.entry(from.clone()).or_default().extend(others);
    }
    // A module that names no other below `parent` is in no circle: such modules are removed until none is left.
    loop {
        let ends: Vec<String> = arrows
            .iter()
            .filter(|(_, to)| to.is_empty())
            .map(|(from, _)| from.clone())
            .collect();
        if ends.is_empty() {
            break;
        }
        arrows.retain(|from, _| !ends.contains(from));
        for to in arrows.values_mut() {
            to.retain(|to| !ends.contains(to));
        }
    }
    let left: Vec<_> = arrows.into_keys().collect();
    (!left.is_empty()).then(|| format!("{parent}: there is a circle among these, or they lead to one: {left:?}"))
}

mod tests {
    use super::*;

    fn faults_of(sources: &[(&str, &str)]) -> Vec<String> {
        let modules = sources
            .iter()
            .map(|(module, source)| ((*module).to_owned(), without_tests(source)));
        faults(&modules.collect())
    }

    #[test]
    fn an_arrow_down_is_no_fault() {
        let sources = [
            ("http", "pub mod server;\nuse crate::wal::id::LifeId;"),
            ("http::server", "use super::Nothing;\nuse std::io;"),
            ("wal", "pub mod id;"),
            ("wal::id", "use crate::event::{self, Timestamp};"),
            ("event", "//! For [`crate::http`].\n"),
        ];
        assert_eq!(faults_of(&sources), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_up_is_found_however_it_is_written() {
        for source in [
            "use crate::http::server;",
            "use crate::{event::Timestamp, http::server::{self, serve}};",
            "fn f() { crate::http::server::serve() }",
            "fn f() { super::http::server::serve() }",
        ] {
            let sources = [("wal", source), ("http", "mod server;"), ("http::server", "")];
            let faults = faults_of(&sources);
            assert_eq!(faults, ["wal names http::server: that is a higher layer"], "{source}");
        }
    }

    #[test]
    fn a_circle_is_found_on_every_floor() {
        let two = [
            ("store", ""),
            ("store::a", "use super::b::B;"),
            ("store::b", "use super::c;"),
            ("store::c", "use super::a::deep::A;"),
            ("store::a::deep", ""),
        ];
        let faults = faults_of(&two);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("store: there is a circle"), "{faults:?}");
    }

    #[test]
    fn the_product_must_do_without_the_scaffolding_but_tests_may_use_it() {
        let source = "use crate::testing::disk;\n";
        let sources = [
            ("wal", source),
            ("testing", ""),
            ("testing::disk", "use crate::wal::Log;"),
        ];
        let faults = faults_of(&sources);
        assert_eq!(
            faults,
            ["wal names testing::disk: the product must do without the scaffolding"]
        );
        let in_tests = "#[cfg(test)]\nmod tests {\n    use crate::testing::disk;\n}\n";
        let sources = [("wal", in_tests), ("testing", ""), ("testing::disk", "")];
        assert_eq!(faults_of(&sources), Vec::<String>::new());
    }
}
