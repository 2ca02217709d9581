//! What other processes cost: CPU time and memory as the kernel counts them, in `/proc`.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// CPU time that the live threads of a process have used, each with its name. User and system time, to the nanosecond.
pub(crate) fn cpu_of_threads(pid: u32) -> Vec<(String, Duration)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    tasks
        .filter_map(|task| {
            let task = task.ok()?.path();
            let name = fs::read_to_string(task.join("comm")).ok()?;
            Some((name.trim().to_owned(), cpu_of_task(&task)?))
        })
        .collect()
}

/// CPU time that the live threads of a process have used.
pub(crate) fn cpu(pid: u32) -> Duration {
    cpu_of_threads(pid).into_iter().map(|(_, cpu)| cpu).sum()
}

/// CPU time that the calling thread has used.
pub(crate) fn cpu_of_this_thread() -> Duration {
    // The kernel counts it when the thread leaves its CPU, else only at the next tick.
    thread::sleep(Duration::from_micros(1));
    cpu_of_task(Path::new("/proc/thread-self")).expect("this thread runs")
}

/// First field of `schedstat`: nanoseconds on a CPU.
fn cpu_of_task(task: &Path) -> Option<Duration> {
    let schedstat = fs::read_to_string(task.join("schedstat")).ok()?;
    let nanos = schedstat.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// CPU time of a process and of all its children, also of those that have ended: PostgreSQL is many processes.
pub(crate) fn cpu_of_family(parent: u32) -> Duration {
    let Some(stat) = Stat::of(parent) else {
        return Duration::ZERO;
    };
    // The kernel adds a child's time to its parent's when the parent has waited for it, in ticks of 10 ms.
    let gone = Duration::from_millis(10 * stat.ticks_of_children_gone);
    let children = pids().filter(|&pid| Stat::of(pid).is_some_and(|stat| stat.parent == parent));
    gone + cpu_of_live(parent) + children.map(cpu_of_live).sum::<Duration>()
}

fn cpu_of_live(pid: u32) -> Duration {
    cpu_of_task(Path::new(&format!("/proc/{pid}"))).unwrap_or_default()
}

/// The process whose command line has this argument.
pub(crate) fn pid_with_argument(program: &str, argument: &str) -> Option<u32> {
    pids().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0);
        words.next().is_some_and(|word| word.ends_with(program.as_bytes()))
            && words.any(|word| word == argument.as_bytes())
    })
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("Linux has it");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

struct Stat {
    parent: u32,
    ticks_of_children_gone: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold any character, so fields are counted from the last parenthesis; the state is the first
        // after it.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(1)?).ok()?,
            ticks_of_children_gone: number(13)? + number(14)?,
        })
    }
}

/// Largest resident memory since the process started, in bytes.
pub(crate) fn peak_resident(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM:")
}

/// Resident memory now, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS:")
}

fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes: u64 = line
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .expect("the kernel says so");
    1024 * kibibytes
}

/// Raises the limit of open files of this process, and of those that it starts, to the maximum: each of two servers
/// gets a thousand connections.
pub(crate) fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum needs no privilege");
}
