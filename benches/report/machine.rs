//! What a figure depends on besides our code: machine, disk, versions, and how much is synced.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::postgres;
use crate::support::disk;

const UNKNOWN: &str = "unknown";
const SYNC_MODE: &str =
    "group: fdatasync before every 202; PostgreSQL fsync on, synchronous_commit on; SQLite synchronous=FULL";

/// Names and values, always in this order.
pub(super) fn facts() -> Vec<(&'static str, String)> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let sync_micros = disk::median_fdatasync().as_micros();
    vec![
        ("CPU", format!("{}, {cores} cores", cpu_model())),
        ("Memory", memory()),
        ("Kernel", kernel()),
        ("Disk", file_system(Path::new(env!("CARGO_TARGET_TMPDIR")))),
        ("Append and fdatasync of one event", format!("median {sync_micros} µs")),
        ("Sync mode", SYNC_MODE.to_owned()),
        ("fast-ingest", env!("CARGO_PKG_VERSION").to_owned()),
        ("Commit", output(Path::new("git"), &["describe", "--always", "--dirty"])),
        ("Rust", output(Path::new("rustc"), &["--version"])),
        (
            "PostgreSQL",
            output(&postgres::programs().join("postgres"), &["--version"]),
        ),
        ("SQLite", rusqlite::version().to_owned()),
        (
            "Date",
            jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        ),
    ]
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // Some architectures do not name the model.
    field(&text, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = field(&text, "MemTotal").and_then(|value| value.trim_end_matches(" kB").parse::<f64>().ok());
    kibibytes.map_or_else(
        || UNKNOWN.to_owned(),
        |kibibytes| format!("{:.1} GiB", kibibytes / f64::from(1 << 20)),
    )
}

/// The value of a name in lines of the form `name: value`.
fn field(text: &str, name: &str) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let value = fields.find(|(of_line, _)| of_line.trim() == name)?.1;
    Some(value.trim().to_owned())
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| UNKNOWN.to_owned(), |release| format!("Linux {}", release.trim()))
}

/// Type and options of the file system that holds a directory. Options that contain a path are left out: they would
/// reveal where files are kept.
fn file_system(directory: &Path) -> String {
    let directory = directory.canonicalize().expect("the build made the directory");
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?, fields.next()?))
    });
    // Of two mounts at one place the later hides the earlier; `max_by_key` returns the last.
    let mount = mounts
        .filter(|(place, _, _)| directory.starts_with(place))
        .max_by_key(|(place, _, _)| place.len());
    let Some((_, kind, options)) = mount else {
        return UNKNOWN.to_owned();
    };
    let options: Vec<_> = options.split(',').filter(|option| !option.contains('/')).collect();
    format!("{kind} ({})", options.join(", "))
}

/// First line of a program's output.
fn output(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok();
    let output = output.filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text.as_deref().and_then(|text| text.lines().next());
    line.unwrap_or(UNKNOWN).trim().to_owned()
}
