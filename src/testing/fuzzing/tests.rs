//! The targets on stable: everything in the committed corpus and everything that once crashed, and random bytes.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

type Target = fn(&[u8]);

/// Each with the name of its directories below `fuzz/corpus` and `fuzz/regressions`.
const TARGETS: [(&str, Target); 5] = [
    ("parse", super::parse),
    ("segment", super::segment),
    ("mutated_segment", super::mutated_segment),
    ("metrics_query", super::metrics_query),
    ("copy", super::copy),
];

/// Runs the target on each file of a directory; returns how many there were.
fn replay(dir: &Path, target: Target) -> usize {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let mut files = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        // So the output of a failed test ends with the file that caused it.
        println!("{}", path.display());
        target(&fs::read(&path).unwrap());
        files += 1;
    }
    files
}

#[test]
fn the_corpus_holds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, target) in TARGETS {
        let seeds = replay(&fuzz.join("corpus").join(name), target);
        assert!(seeds > 0, "{name} has no corpus");
        replay(&fuzz.join("regressions").join(name), target);
    }
}

proptest! {
    #[test]
    fn random_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (_, target) in TARGETS {
            target(&bytes);
        }
    }

    /// Small numbers are often valid choices, lengths and flags; large ones seldom are.
    #[test]
    fn small_numbers_hold(bytes in prop::collection::vec(0..16u8, 0..400)) {
        for (_, target) in TARGETS {
            target(&bytes);
        }
    }
}
