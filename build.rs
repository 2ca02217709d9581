//! Has cargo look at `migrations`: they are compiled in by a macro, and cargo does not see what a macro reads.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
