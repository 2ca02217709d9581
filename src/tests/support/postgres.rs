//! A throw-away PostgreSQL for tests.
//!
//! The server is started by a small shell wrapper whose standard input is a pipe from this process. The wrapper takes
//! commands from it. When the pipe ends, also because this process is killed, the wrapper stops the server and removes
//! its directory.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

const NO_BINARIES: &str = "no PostgreSQL 15 or newer (initdb, pg_ctl, postgres) found in PATH, where distributions put it, or by \
                           `pg_config --bindir`: install the distribution's package (Debian: postgresql, Fedora: postgresql-server), \
                           or run `make test`, which says what it needs";
/// Oldest release that the store supports.
const RELEASE_MIN: u32 = 15;
/// Variable with the directory of the programs to use, whatever else is installed.
const PROGRAMS: &str = "FAST_INGEST_TEST_POSTGRES";
/// Where packages install the programs, one directory per release: the parent, the prefix of the release's name, and
/// the rest of the path. The Makefile looks in the same places.
const PACKAGED: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
];

/// Arguments: directory of the programs, `on` or `off` for fsync, and for a standby the data directory and the port of
/// its primary. It answers each command by one line, `ok …` or `failed`.
const WRAPPER: &str = r#"
bin=$1 fsync=$2 primary=$3 primary_port=$4
cd /
dir=$(mktemp -d "${TMPDIR:-/tmp}/fast-ingest-pg.XXXXXX") || exit 1
cleanup() {
    "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop </dev/null >/dev/null 2>&1
    rm -rf "$dir"
}
trap cleanup EXIT
# Ctrl-C reaches the whole process group, and a reader that died makes our answers fail; only the end of the commands ends us.
trap '' INT TERM HUP PIPE
init() {
    "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale="$1" --no-sync </dev/null >"$dir/log" 2>&1
}
stand_by() {
    cp -a "$primary" "$dir/data" && touch "$dir/data/standby.signal" &&
        echo "primary_conninfo = 'host=127.0.0.1 port=$primary_port user=postgres'" >>"$dir/data/postgresql.auto.conf"
}
make() {
    if [ -n "$primary" ]; then stand_by; else init C.UTF-8 || { rm -rf "$dir/data"; init C; }; fi
}
if make; then
    echo "ok $dir"
else
    cat "$dir/log" >&2
    echo failed
    exit 1
fi
while read -r verb argument; do
    case $verb in
    start)
        "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 -o "-p $argument -c listen_addresses=127.0.0.1 \
            -c unix_socket_directories= -c fsync=$fsync -c max_connections=100 -c dynamic_shared_memory_type=mmap" start </dev/null >/dev/null 2>&1
        ;;
    stop)
        "$bin/pg_ctl" -D "$dir/data" -m "$argument" -w -t 60 stop </dev/null >/dev/null 2>&1
        ;;
    promote) "$bin/pg_ctl" -D "$dir/data" -w -t 60 promote </dev/null >/dev/null 2>&1 ;;
    kill)
        pidfile=$dir/data/postmaster.pid
        read -r pid <"$pidfile"
        children=$(cat "/proc/$pid/task/$pid/children")
        # Some of the children may be gone by now. Nobody is left to remove the shared memory, named by the last word of line 7.
        kill -KILL "$pid" && { kill -KILL $children 2>/dev/null || true; } &&
            ipcrm -m "$(sed -n '7s/.* //p' "$pidfile")" && rm "$pidfile"
        ;;
    backup) rm -rf "$dir/backup" && cp -a "$dir/data" "$dir/backup" ;;
    restore) rm -rf "$dir/data" && mv "$dir/backup" "$dir/data" ;;
    *) false ;;
    esac
    if [ $? = 0 ]; then echo ok; else tail -n 20 "$dir/log" >&2; echo failed; fi
done
"#;

/// How a server is stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StopMode {
    /// Sessions are cut, data is written.
    Fast,
    /// As if the server had crashed.
    Immediate,
}

/// A server with its own data directory, on a free port of the loopback interface.
pub(crate) struct Cluster {
    wrapper: Mutex<Wrapper>,
    port: u16,
    databases: AtomicU32,
}

struct Wrapper {
    child: Child,
    /// The directory with the server's data in `data`.
    dir: String,
    /// Dropped with the cluster, which tells the wrapper to clean up.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    /// A running server without fsync: fast, but it would not survive a crash of the machine.
    pub(crate) fn start() -> Self {
        Self::start_with_fsync(false)
    }

    /// A running server, with fsync if asked for.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed or does not start.
    pub(crate) fn start_with_fsync(fsync: bool) -> Self {
        Self::start_of(&programs(), fsync)
    }

    /// A running server of the release whose programs are in this directory.
    pub(crate) fn start_of(programs: &Path, fsync: bool) -> Self {
        let mut wrapper = Wrapper::spawn(programs, fsync, &[]);
        // Another process may take the port between the choice and the server's start.
        for _ in 0..5 {
            let port = free_port();
            if wrapper.command(&format!("start {port}")) {
                return Self {
                    wrapper: Mutex::new(wrapper),
                    port,
                    databases: AtomicU32::new(0),
                };
            }
        }
        panic!("PostgreSQL did not start; its log is above");
    }

    /// A standby of a stopped server, on this port: it follows once that server is started again.
    pub(crate) fn standby_of(primary: &Self, port: u16) -> Self {
        let data = format!("{}/data", primary.wrapper.lock().unwrap().dir);
        let wrapper = Wrapper::spawn(&programs(), false, &[&data, &primary.port.to_string()]);
        let databases = primary.databases.load(Ordering::Relaxed);
        let standby = Self {
            wrapper: Mutex::new(wrapper),
            port,
            databases: AtomicU32::new(databases),
        };
        standby.start_again();
        standby
    }

    /// One server for all tests of this process that do not stop it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// URL of the database `name`.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Makes an empty database and returns its URL.
    pub(crate) async fn create_database(&self) -> String {
        self.create_database_with("").await
    }

    /// Makes an empty database with these options of `CREATE DATABASE`.
    pub(crate) async fn create_database_with(&self, options: &str) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&self.url("postgres")).await;
        admin
            .batch_execute(&format!("CREATE DATABASE {name} {options}"))
            .await
            .expect("a fresh name");
        self.url(&name)
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(&self, mode: StopMode) {
        let mode = match mode {
            StopMode::Fast => "fast",
            StopMode::Immediate => "immediate",
        };
        assert!(self.command(&format!("stop {mode}")), "PostgreSQL did not stop");
    }

    /// Starts it again with the same port and data, and waits until it accepts connections.
    pub(crate) fn start_again(&self) {
        let started = self.command(&format!("start {}", self.port));
        assert!(started, "PostgreSQL did not start again");
    }

    /// Makes a copy of a stopped server's data.
    pub(crate) fn back_up(&self) {
        assert!(self.command("backup"), "PostgreSQL was not copied");
    }

    /// Puts the copy back in place of a stopped server's data.
    pub(crate) fn restore(&self) {
        assert!(self.command("restore"), "PostgreSQL was not put back");
    }

    /// Kills every process of the server, as when its machine dies. It cannot be started again.
    pub(crate) fn kill(&self) {
        assert!(self.command("kill"), "PostgreSQL was not killed");
    }

    /// Promotes a standby, and waits until it accepts writes.
    pub(crate) fn promote(&self) {
        assert!(self.command("promote"), "PostgreSQL was not promoted");
    }

    fn command(&self, command: &str) -> bool {
        self.wrapper.lock().unwrap().command(command)
    }
}

impl Wrapper {
    /// For a standby, `primary` holds data directory and port of its primary; otherwise it is empty.
    fn spawn(programs: &Path, fsync: bool, primary: &[&str]) -> Self {
        let mut command = as_unprivileged_user();
        let fsync = if fsync { "on" } else { "off" };
        command
            .args(["sh", "-c", WRAPPER, "sh"])
            .arg(programs)
            .arg(fsync)
            .args(primary);
        let mut child = command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut wrapper = Self {
            child,
            dir: String::new(),
            commands,
            answers,
        };
        let dir = wrapper.answer();
        wrapper.dir = dir.expect("initdb fails for the reason above");
        wrapper
    }

    fn command(&mut self, command: &str) -> bool {
        let commands = self.commands.as_mut().expect("taken only on drop");
        commands
            .write_all(format!("{command}\n").as_bytes())
            .expect("the wrapper listens");
        self.answer().is_some()
    }

    /// The text after an `ok`; `None` after a failure.
    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the wrapper answers");
        let rest = line.strip_prefix("ok")?;
        Some(rest.trim().to_owned())
    }
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the PostgreSQL wrapper: {error}");
        }
    }
}

/// A plain connection for setting up and inspecting the database past the store.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect("the test's server answers");
    tokio::spawn(connection);
    client
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

/// Directory of the server's programs: the one that the environment names, the first in PATH, or the newest that
/// packages installed.
pub(crate) fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_usable = |directory: &PathBuf| release_in(directory) >= Some(RELEASE_MIN);
    if let Some(named) = std::env::var_os(PROGRAMS).map(PathBuf::from) {
        let named_here = named.display();
        assert!(
            is_usable(&named),
            "{PROGRAMS}={named_here}: no PostgreSQL 15 or newer there"
        );
        return named;
    }
    if let Some(directory) = std::env::split_paths(&path).find(is_usable) {
        return directory;
    }
    let packaged = PACKAGED.iter().flat_map(|(parent, prefix, rest)| {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(move |entry| entry.path().join(rest))
    });
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    packaged
        .chain(configured)
        .filter(is_usable)
        .max_by_key(|directory| release_in(directory))
        .expect(NO_BINARIES)
}

/// The release of the programs in a directory, if all of them are there and run.
pub(crate) fn release_in(directory: &Path) -> Option<u32> {
    let is_there = |name: &&str| directory.join(name).exists();
    if !["initdb", "pg_ctl", "postgres"].iter().all(is_there) {
        return None;
    }
    let output = Command::new(directory.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    release(&String::from_utf8_lossy(&output.stdout))
}

/// The release in a text like `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`.
fn release(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits = number.find(|c: char| !c.is_ascii_digit());
    number[..digits.unwrap_or(number.len())].parse().ok()
}

#[test]
fn the_release_is_read_from_what_the_server_says() {
    let debian = "postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n";
    assert_eq!(release(debian), Some(15));
    assert_eq!(release("postgres (PostgreSQL) 19beta1\n"), Some(19));
    assert_eq!(release("postgres: error\n"), None);
}

/// PostgreSQL refuses to run as root, so root runs the wrapper as another user.
pub(crate) fn as_unprivileged_user() -> Command {
    let id = |arguments: &[&str]| {
        let output = Command::new("id")
            .args(arguments)
            .stderr(Stdio::null())
            .output()
            .ok()
            .filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if id(&["-u"]).as_deref() != Some("0") {
        return Command::new("env");
    }
    let user = ["postgres", "nobody"]
        .into_iter()
        .find(|user| id(&["-u", user]).is_some());
    let user = user.expect("root needs a user `postgres` or `nobody` to run PostgreSQL as");
    let has = |program: &str| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    if has("runuser") {
        let mut command = Command::new("runuser");
        command.args(["-u", user, "--"]);
        return command;
    }
    let group = id(&["-g", user]).expect("a user has a group");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", &group, "--clear-groups", "--"]);
    command
}
