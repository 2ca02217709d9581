//! Makes cargo watch `migrations`: a macro compiles them in, and cargo does not see which files a macro reads.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
