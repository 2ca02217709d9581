//! The real binary as a child process: started, watched, and stopped in every way.
//!
//! A server runs on a port that the system picks and its log names. Its output is printed when a test fails.

pub(crate) mod client;
pub(crate) mod command;
mod log;
pub(crate) mod proxy;
pub(crate) mod stored;

use std::fs;
use std::io::BufReader;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use client::{Answer, Connection};
pub(crate) use command::{Ended, run, run_to_end};
use command::{binary, wait_or_kill};
use log::ServerLog;
use stored::Database;

/// Far longer than any of these tests takes: it turns a hang into a failure. `make mutants` allows less.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// What the server logs before its address once it listens.
const READY: &str = "ready: listening on http://";
/// Pause between two polls of a condition that sends no signal.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Copies the files of a directory, but not its subdirectories, as a machine image or `cp` does.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// How to start a server, with small limits where a test needs to reach them.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    arguments: Vec<String>,
    /// A program and its arguments that run the server; empty without one.
    wrapper: Vec<String>,
}

impl Launch {
    /// A server with all its state under `data_dir`, on a free port.
    pub(crate) fn new(data_dir: &Path, database: &Database) -> Self {
        let data_dir = data_dir.to_str().unwrap();
        let launch = Self {
            arguments: ["serve", "--data-dir", data_dir, "--port", "0"]
                .map(str::to_owned)
                .to_vec(),
            wrapper: Vec::new(),
        };
        match database {
            Database::Sqlite(_) => launch,
            Database::Postgres(url) => launch.with("--database-url", url),
        }
    }

    /// Adds a flag. A later flag does not replace an earlier one.
    pub(crate) fn with(mut self, flag: &str, value: &str) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Runs the server under another program, such as a tracer. The server dies with that program, which must end as
    /// the server does.
    pub(crate) fn under<'a>(mut self, wrapper: impl IntoIterator<Item = &'a str>) -> Self {
        self.wrapper = wrapper
            .into_iter()
            .chain(["setpriv", "--pdeathsig", "KILL"])
            .map(str::to_owned)
            .collect();
        self
    }

    /// Runs the server under strace, which treats system calls as `expressions` say, and writes its trace, with the
    /// path of each file, to another file.
    pub(crate) fn traced(self, trace: &Path, expressions: &[&str]) -> Self {
        let mut wrapper = vec!["strace", "-f", "-y", "-qq", "--seccomp-bpf", "-o"];
        wrapper.push(trace.to_str().unwrap());
        wrapper.extend(expressions.iter().flat_map(|expression| ["-e", *expression]));
        self.under(wrapper)
    }

    /// Starts the server by a script for sh, which finds the server's command line in `"$@"` and must exec it.
    pub(crate) fn through_shell(mut self, script: &str) -> Self {
        self.wrapper = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
        self
    }

    fn command(&self) -> Command {
        let binary = binary();
        let Some((program, arguments)) = self.wrapper.split_first() else {
            let mut command = binary;
            command.args(&self.arguments);
            return command;
        };
        let mut command = Command::new(program);
        command.args(arguments).arg(binary.get_program()).args(&self.arguments);
        for (name, value) in binary.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null());
        command
    }

    /// The same launch with all its state in another directory.
    pub(crate) fn in_directory(&self, data_dir: &Path) -> Self {
        let mut elsewhere = self.clone();
        let flag = elsewhere.arguments.iter().position(|flag| flag == "--data-dir");
        data_dir
            .to_str()
            .unwrap()
            .clone_into(&mut elsewhere.arguments[flag.unwrap() + 1]);
        elsewhere
    }

    /// The same launch on this port, for clients that wait for a server to come back.
    pub(crate) fn on_port(mut self, port: u16) -> Self {
        let flag = self.arguments.iter().position(|flag| flag == "--port");
        self.arguments[flag.unwrap() + 1] = port.to_string();
        self
    }

    /// Starts the server and waits until it listens.
    pub(crate) fn start(&self) -> Server {
        let mut server = self.spawn();
        server.wait_until_ready();
        server
    }

    /// Starts the server and returns at once.
    pub(crate) fn spawn(&self) -> Server {
        let mut command = self.command();
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(ServerLog::default());
        let pipe = BufReader::new(child.stderr.take().unwrap());
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || log.follow(pipe)
        });
        Server {
            child,
            address: None,
            log,
            reader: Some(reader),
        }
    }

    /// Starts the server with a stderr that cannot be read, and waits until it answers. Its port must have been chosen.
    pub(crate) fn start_with_stderr(&self, stderr: impl Into<Stdio>) -> Server {
        let flag = self.arguments.iter().position(|flag| flag == "--port");
        let port = self.arguments[flag.unwrap() + 1].parse().unwrap();
        let mut command = self.command();
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn();
        // The command holds a copy of the stderr.
        drop(command);
        let mut server = Server {
            child: child.expect("the binary starts"),
            address: Some(SocketAddr::from(([127, 0, 0, 1], port))),
            log: Arc::default(),
            reader: None,
        };
        let deadline = Instant::now() + PATIENCE;
        while Connection::open(server.address()).is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server does not start: {ended:?}");
            assert!(Instant::now() < deadline, "the server does not listen");
            thread::sleep(LOOK_AGAIN);
        }
        server
    }

    /// Starts a server that must fail to start, and waits for its end.
    pub(crate) fn run_to_end(&self) -> Ended {
        run_to_end(&mut self.command())
    }
}

/// A running server. Killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// Known once the server listens.
    address: Option<SocketAddr>,
    log: Arc<ServerLog>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// The address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("the test waited until it was ready")
    }

    /// The base URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Waits for the line that names the address.
    pub(crate) fn wait_until_ready(&mut self) {
        if !self.is_ready() {
            let status = self.child.try_wait();
            panic!("no start, {status:?}:\n{}", self.log.text());
        }
    }

    /// Waits for the line that names the address; false if the server ends without it.
    pub(crate) fn is_ready(&mut self) -> bool {
        let line = self.log.wait_for_line(READY);
        let Some(line) = line else { return false };
        let (_, url) = line.split_once(READY).unwrap();
        let address = url.split_whitespace().next().unwrap();
        self.address = Some(address.parse().unwrap());
        true
    }

    /// Waits until the log has a line with these words.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, words: &str) {
        let found = self.log.wait_for_line(words);
        assert!(found.is_some(), "no {words:?} in\n{}", self.log.text());
    }

    /// One request on a connection of its own.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut connection = Connection::open(self.address()).expect("the server accepts");
        connection.request(method, path, body.as_bytes()).unwrap()
    }

    /// `GET /health`, whatever its status.
    pub(crate) fn health(&self) -> Value {
        self.request("GET", "/health", "").json()
    }

    /// Polls `/health` until it is as wanted.
    #[track_caller]
    pub(crate) fn wait_for_health(&self, what: &str, mut is_wanted: impl FnMut(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.health();
            if is_wanted(&health) {
                return;
            }
            let in_time = Instant::now() < deadline;
            assert!(in_time, "never {what}: {health}\n{}", self.log.text());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until every acknowledged event is in the database.
    #[track_caller]
    pub(crate) fn wait_until_flushed(&self) {
        self.wait_for_health("flushed", is_flushed);
    }

    /// Waits until every acknowledged event is in the database, or until the server refuses its log; then `false`.
    #[track_caller]
    pub(crate) fn is_flushed_before_it_is_refused(&self) -> bool {
        let mut is_flushed_first = false;
        self.wait_for_health("flushed or refused", |health| {
            let reason = health["reason"].as_str().unwrap_or_default();
            let is_refused = reason.contains("do not belong together");
            is_flushed_first = !is_refused && is_flushed(health);
            is_refused || is_flushed_first
        });
        is_flushed_first
    }

    /// `kill -9`. Asserts that the signal ended the server.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.was_killed();
    }

    /// `kill -9` on a server that may just have ended by itself.
    pub(crate) fn kill_or_find_ended(mut self) {
        self.child.kill().ok();
        wait_or_kill(&mut self.child);
        self.read_log_to_end();
    }

    /// Waits for the end by a SIGKILL from another process. Asserts that the signal ended the server.
    pub(crate) fn was_killed(mut self) {
        let status = wait_or_kill(&mut self.child);
        let log = self.read_log_to_end();
        let signal = status.and_then(|status| status.signal());
        assert_eq!(signal, Some(9), "another end than a kill:\n{log}");
    }

    /// Sends a signal and returns at once.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Id of the server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and returns at once.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGTERM to a server that may have ended already.
    pub(crate) fn terminate_again(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // The process is not reaped yet, so its id is still its own.
        kill_process(pid, Signal::TERM).ok();
    }

    /// Waits for the server's end.
    pub(crate) fn wait(mut self) -> Ended {
        let status = wait_or_kill(&mut self.child);
        let stderr = self.read_log_to_end();
        let status = status.unwrap_or_else(|| panic!("the server does not end:\n{stderr}"));
        Ended {
            status,
            stdout: String::new(),
            stderr,
        }
    }

    /// Sends SIGTERM, and expects an end with status 0.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.terminate();
        let ended = self.wait();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }

    fn read_log_to_end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.log.text()
    }
}

/// Whether every acknowledged event is in the database, by what `/health` says.
fn is_flushed(health: &Value) -> bool {
    health["flush"]["state"] == "running" && health["flush"]["lag_events"] == 0
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // It may just have ended by itself.
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if thread::panicking() && self.reader.is_some() {
            eprintln!("the server's log:\n{}", self.log.text());
        }
    }
}
