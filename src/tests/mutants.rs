//! The bugs that patches plant: one file each in `src/tests/mutants/`, which describes the bug, names the check that
//! must catch it, and contains the change. `run_mutants.rs` says at its top how to write one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};
use diffy::{Line, Patch};

/// The directory of the patches, from the project's root.
pub(crate) const DIR: &str = "src/tests/mutants";
/// The one patch without a bug: it adds what all others need. Its name sorts it before them.
const SWITCH: &str = "00-switch.patch";
/// What to do about a patch that no longer applies.
const MEND: &str =
    "Make it again: change the sources as it says, put `git diff` after its first lines, and undo the change";

/// A check that must notice a bug.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// Tests of the library whose path contains these words.
    Unit(String),
    /// Tests of the integration binary whose path contains these words.
    Integration(String),
    /// A plan of `make torture` with this many cycles.
    Plan(String, u32),
}

impl Check {
    /// Reads words such as `unit wal::tests::swarm`, `integration store::contract::flush` or `plan kill 10`.
    pub(crate) fn parse(words: &str) -> Option<Self> {
        match *words.split(' ').collect::<Vec<_>>() {
            ["unit", filter] => Some(Self::Unit(filter.to_owned())),
            ["integration", filter] => Some(Self::Integration(filter.to_owned())),
            ["plan", plan, cycles] => Some(Self::Plan(plan.to_owned(), cycles.parse().ok()?)),
            _ => None,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(filter) => write!(f, "unit {filter}"),
            Self::Integration(filter) => write!(f, "integration {filter}"),
            Self::Plan(plan, cycles) => write!(f, "plan {plan} {cycles}"),
        }
    }
}

/// A bug, and the check that must catch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mutant {
    pub(crate) bug: String,
    pub(crate) check: Check,
}

/// One patch file of the directory.
#[derive(Debug)]
pub(crate) struct PatchFile {
    name: String,
    text: String,
    /// `None` for the switch.
    pub(crate) mutant: Option<Mutant>,
}

/// Reads all patches, in the order of their names. An error is a sentence that names the file.
pub(crate) fn read(root: &Path) -> Result<Vec<PatchFile>, String> {
    let dir = root.join(DIR);
    let entries = fs::read_dir(&dir).map_err(|error| format!("{DIR}: {error}"))?;
    let names = entries.map(|entry| {
        let name = entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
        name.map_err(|error| format!("{DIR}: {error}"))
    });
    let names: BTreeSet<String> = names.collect::<Result<_, _>>()?;
    let mut patches = Vec::new();
    for name in names {
        let text = fs::read_to_string(dir.join(&name)).map_err(|error| format!("{name}: {error}"));
        patches.push(PatchFile::parse(name, text?)?);
    }
    let mut bugs = BTreeSet::new();
    for mutant in patches.iter().filter_map(|patch| patch.mutant.as_ref()) {
        if !bugs.insert(&mutant.bug) {
            return Err(format!("{}: two patches plant it", mutant.bug));
        }
    }
    Ok(patches)
}

/// Applies all patches, one after the other, to the sources under `root`; returns the files that they change, by their
/// path from there. An error is a sentence that names the patch and says what to do.
pub(crate) fn apply(root: &Path, patches: &[PatchFile]) -> Result<BTreeMap<PathBuf, String>, String> {
    let mut patched = BTreeMap::new();
    for patch in patches {
        patch.apply(root, &mut patched)?;
    }
    Ok(patched)
}

impl PatchFile {
    /// Parses a patch and its first lines.
    pub(crate) fn parse(name: String, text: String) -> Result<Self, String> {
        if !name.ends_with(".patch") {
            return Err(format!("{name}: is not a patch; the directory is for patches only"));
        }
        if name == SWITCH {
            return Ok(Self {
                name,
                text,
                mutant: None,
            });
        }
        let malformed = |what: &str| format!("{name}: {what}; see the top of run_mutants.rs");
        let mut lines = text.lines();
        let mut field = |key: &str| lines.next().and_then(|line| line.strip_prefix(key));
        let bug = field("Bug: ").ok_or_else(|| malformed("the first line is not `Bug: Name`"))?;
        let check = field("Caught by: ").and_then(Check::parse);
        let check = check.ok_or_else(|| malformed("the second line is not `Caught by: check`"))?;
        if field("").is_none_or(|sentence| !sentence.trim_end().ends_with('.')) {
            return Err(malformed("the third line is not a sentence"));
        }
        if !text.contains(&format!("is_planted(\"{bug}\")")) {
            return Err(malformed("it does not ask whether its bug is planted"));
        }
        let bug = bug.to_owned();
        Ok(Self {
            mutant: Some(Mutant { bug, check }),
            name,
            text,
        })
    }

    /// Applies the patch to sources that earlier patches may have changed.
    fn apply(&self, root: &Path, patched: &mut BTreeMap<PathBuf, String>) -> Result<(), String> {
        let name = &self.name;
        for file_patch in PatchSet::parse(&self.text, ParseOptions::unidiff()) {
            let file_patch = file_patch.map_err(|error| format!("{name}: {error}"))?;
            let operation = file_patch.operation().strip_prefix(1);
            let (FileOperation::Modify { original, .. }, Some(patch)) = (operation, file_patch.patch().as_text())
            else {
                return Err(format!("{name}: may only change files"));
            };
            let path = PathBuf::from(original.as_ref());
            let source = match patched.remove(&path) {
                Some(source) => source,
                None => fs::read_to_string(root.join(&path))
                    .map_err(|error| format!("{name}: {original}: {error}. {MEND}"))?,
            };
            let changed =
                apply_strictly(&source, patch).map_err(|reason| format!("{name}: {original}: {reason}. {MEND}"))?;
            patched.insert(path, changed);
        }
        Ok(())
    }
}

/// Lines may have moved, but the context of each hunk must be unchanged, and in one place only.
fn apply_strictly(source: &str, patch: &Patch<'_, str>) -> Result<String, String> {
    for (number, hunk) in (1..).zip(patch.hunks()) {
        let before: String = hunk
            .lines()
            .iter()
            .filter_map(|line| match line {
                Line::Context(text) | Line::Delete(text) => Some(*text),
                Line::Insert(_) => None,
            })
            .collect();
        match source.matches(&before).count() {
            0 => return Err(format!("the sources no longer have the lines of hunk {number}")),
            1 => {}
            places => return Err(format!("hunk {number} fits in {places} places")),
        }
    }
    diffy::apply(source, patch).map_err(|error| error.to_string())
}
